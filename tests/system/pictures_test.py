#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures of regions, of all outputs and of windows, beside those that grim takes, and
recordings of the same. Headless, with pixman. Prints TAP.

usage: pictures_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import functools
import json
import os
import re
import signal
import sys
import time

from harness import (LIMIT, Group, PluginCompositor, collect, given, n_colors, need, parse_ppm,
                     require, run_groups, to_rgb)
from picture import need_same, take_shot

TRANSFORMS = ('normal', '90', '180', '270', 'flipped', 'flipped-90', 'flipped-180', 'flipped-270')
SCALES = (1, 1.25, 1.5, 2)
# Each scale divides them
SIZES = {'HEADLESS-1': (480, 300), 'HEADLESS-2': (600, 450)}
CONFIG = '''
output * bg #204060 solid_color
output HEADLESS-1 mode --custom 480x300 position 0 0
output HEADLESS-2 mode --custom 600x450 position 480 0
for_window [app_id=".*"] floating enable, move absolute position 30 10
'''
Sway = functools.partial(PluginCompositor, 'sway', config=CONFIG,
                         environment={'WLR_HEADLESS_OUTPUTS': '2'})


def take_ppm(compositor, *options):
    """As take_shot(), by the format that grim writes, too."""
    compositor.run('vitrine', 'shot', *options, 'shot.ppm')
    return parse_ppm(compositor.path('shot.ppm').read_bytes())


def take_both(compositor, options, by_grim):
    """The two pictures, of a screen that did not change meanwhile: sway arranges windows late."""
    while True:
        expected = compositor.grim_sized(*by_grim)
        found = take_ppm(compositor, *options)
        if found == expected or compositor.grim_sized(*by_grim) == expected:
            return found, expected


def need_same_as_grim(compositor, what, *options):
    """What is called the same by both; that of all outputs has no name there."""
    found, expected = take_both(compositor, options or ['-a'], options)
    need_same(found, expected, f'{what}: {options}')


def wait_for_colours(compositor, *options):
    end = time.monotonic() + LIMIT
    while n_colors(compositor.grim_sized(*options)[2]) <= 8:
        need(time.monotonic() < end, f'there is no window in {options}')


def wait_for_window(compositor, pid):
    """By sway's events: what was before the first, of the subscription, is in the tree."""
    events = compositor.start('swaymsg', '--socket', compositor.ipc(), '-m', '-t', 'subscribe',
                              '["tick", "window"]')
    need('"first": true' in events.stdout.readline(), 'sway does not say that it has begun')
    while f'"pid": {pid}' not in compositor.swaymsg('-t', 'get_tree').stdout:
        need(events.stdout.readline(), 'sway has no more events')


@contextlib.contextmanager
def still_windows(compositor):
    """A window on each output, which move no more. Yields the process of the second."""
    wait_for_colours(compositor, '-o', 'HEADLESS-1')
    os.kill(compositor.app, signal.SIGSTOP)
    compositor.swaymsg('[app_id=".*"] move absolute position 30 10')
    other = compositor.start('weston-simple-shm')
    try:
        wait_for_window(compositor, other.pid)
        compositor.swaymsg(f'[pid={other.pid}] move absolute position 520 10')
        wait_for_colours(compositor, '-o', 'HEADLESS-2')
        os.kill(other.pid, signal.SIGSTOP)
        before = compositor.grim()
        while (picture := compositor.grim()) != before:
            before = picture
        yield other.pid
    finally:
        for pid in compositor.app, other.pid:
            os.kill(pid, signal.SIGCONT)


def logical_size(name, transform, scale):
    width, height = SIZES[name]
    if '90' in transform or '270' in transform:
        width, height = height, width
    return int(width / scale), int(height / scale)


def place(compositor, first, second):
    """Two outputs of a transform and a scale, with a gap between them. Returns the second's x."""
    x = logical_size('HEADLESS-1', *first)[0] + 20
    for name, (transform, scale), position in (('HEADLESS-1', first, '0 0'),
                                               ('HEADLESS-2', second, f'{x} 40')):
        compositor.swaymsg(f'output {name} transform {transform} scale {scale} position {position}')
    return x


@given(Sway)
def test_same_as_grim(compositor):
    """-a, -g, -o and -s: the same as grim's, pixel by pixel, for 8 transforms and 4 scales"""
    with still_windows(compositor):
        for i, transform in enumerate(TRANSFORMS):
            for scale in SCALES:
                x = place(compositor, (transform, scale), (TRANSFORMS[(3 * i + 1) % 8], scale))
                what = f'{transform} at {scale}'
                need_same_as_grim(compositor, what)
                need_same_as_grim(compositor, what, '-g', f'{x - 80},20 160x100')
                need_same_as_grim(compositor, what, '-o', 'HEADLESS-2')
                need_same_as_grim(compositor, what, '-o', 'HEADLESS-1', '-s', str(scale))


@given(Sway)
def test_near_grim(compositor):
    """mixed scales and -s: of the same size as grim's, and its colours on the average"""
    with still_windows(compositor):
        for first, second, options, by_grim in (
                (1, 2, ['-a'], []),
                (1.5, 1, ['-a'], []),
                (2, 1.25, ['-g', '100,20 400x200'], ['-g', '100,20 400x200']),
                (1, 1, ['-a', '-s', '2'], ['-s', '2']),
                (1, 1, ['-a', '-s', '0.5'], ['-s', '0.5']),
                (1, 2, ['-g', '0,0 240x150', '-s', '1.5'], ['-g', '0,0 240x150', '-s', '1.5'])):
            place(compositor, ('normal', first), ('90', second))
            found, expected = take_both(compositor, options, by_grim)
            what = f'{first} and {second}: {options}'
            need(found[:2] == expected[:2], f'{what}: {found[:2]} instead of {expected[:2]}')
            error = sum(map(abs, map(int.__sub__, found[2], expected[2]))) / len(found[2])
            # Each halves a picture in its own way
            need(error < (1.5 if '0.5' in options else 0.3), f'{what}: {error} of 255 off')


@given(Sway)
def test_rounded_sizes(compositor):
    """a size that the scale does not divide: no pixel of the output is resampled"""
    with still_windows(compositor):
        compositor.swaymsg('output HEADLESS-1 mode --custom 641x363 scale 1')
        compositor.swaymsg('output HEADLESS-2 position 1000 0')
        for transform in TRANSFORMS:
            compositor.swaymsg(f'output HEADLESS-1 scale 1.5 transform {transform}')
            pixels = take_shot(compositor, '-o', 'HEADLESS-1')
            sizes = (363, 641) if '90' in transform or '270' in transform else (641, 363)
            need(pixels[:2] == sizes, f'{transform}: {pixels[:2]}')
            need_same(take_shot(compositor, '-o', 'HEADLESS-1', '-s', '1.5'), pixels, transform)


def turn(picture, transform):
    """A picture as it is in the buffer of an output, upright."""
    if transform == 'normal':
        return picture
    width, height, pixels = picture
    rows = [[pixels[3 * (y * width + x):][:3] for x in range(width)] for y in range(height)]
    turns = ('flipped', '90', '180', '270').index(transform.removeprefix('flipped-'))
    for _ in range(turns):
        rows = list(zip(*rows[::-1]))  # clockwise
    if 'flipped' in transform:
        rows = [row[::-1] for row in rows]
    return len(rows[0]), len(rows), b''.join(b''.join(row) for row in rows)


def record_raw(compositor, *options):
    """The pictures of a recording, upright, and what was said."""
    done = compositor.run('vitrine', 'record', '-t', 'raw', *options, 'raw')
    match = re.search(r'raw frames of (\d+)x(\d+), XR24, (\d+) bytes each, transform (.*)',
                      done.stderr)
    need(match, done.stderr)
    width, height, size = map(int, match.groups()[:3])
    data = compositor.path('raw').read_bytes()
    return [turn((width, height, to_rgb(data[i:i + size])), match[4])
            for i in range(0, len(data), size)], done.stderr


def need_same_luma(y4m, picture, what):
    """Of the first frame, by BT.601 in limited range, which is that of small pictures."""
    header, data = y4m.split(b'\nFRAME\n', 1)
    width, height, pixels = picture
    need(f'W{width} H{height} ' in header.decode(), f'{what}: {header}')
    wrong = sum(abs(16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256 - luma) > 2 for r, g, b, luma
                in zip(pixels[::3], pixels[1::3], pixels[2::3], data[:width * height]))
    need(wrong == 0, f'{what}: {wrong} of {width * height} are wrong')


def need_recorded(compositor, what, *options):
    expected = take_ppm(compositor, *options)
    pictures, _ = record_raw(compositor, '--frames', '1', *options)
    need_same(pictures[0], expected, f'{what}: {options}')
    if expected[0] >= 1280:
        return  # that would be BT.709
    compositor.run('vitrine', 'record', '--frames', '1', *options, 'one.y4m')
    need_same_luma(compositor.path('one.y4m').read_bytes(), expected, f'{what}: {options}')


@given(Sway)
def test_recorded(compositor):
    """record -a, -g and -s: the pixels of the pictures, for 8 transforms"""
    with still_windows(compositor):
        for i, transform in enumerate(TRANSFORMS):
            scale = SCALES[i % 4]
            x = place(compositor, (transform, scale), (TRANSFORMS[(3 * i + 1) % 8], scale))
            what = f'{transform} at {scale}'
            for options in (['-g', '20,10 101x71'], ['-g', f'{x + 12},63 64x51'],
                            ['-g', f'{x - 80},20 160x100']):
                need_recorded(compositor, what, *options)
        place(compositor, ('normal', 1), ('90', 2))
        for options in (['-a'], ['-a', '-s', '1'], ['-o', 'HEADLESS-1', '-s', '0.5'],
                        ['-g', '20,10 100x70', '-s', '1.5']):
            need_recorded(compositor, 'mixed scales', *options)


@given(Sway)
def test_recorded_changes(compositor):
    """record -a: a frame for each change of any output, until the layout changes"""
    with still_windows(compositor) as other:
        place(compositor, ('normal', 1), ('normal', 1))
        still, _ = record_raw(compositor, '-a', '--seconds', '1')
        need(len(still) == 1, f'{len(still)} frames of what stands still')
        for pid in compositor.app, other:
            os.kill(pid, signal.SIGCONT)  # both move
        moving, _ = record_raw(compositor, '-a', '--frames', '30')
    width, height = moving[0][:2]
    for left, right, name in (0, 480, 'HEADLESS-1'), (500, width, 'HEADLESS-2'):
        halves = {b''.join(pixels[3 * (y * width + left):3 * (y * width + right)]
                           for y in range(height)) for _, _, pixels in moving}
        need(len(halves) > 5, f'{name} has {len(halves)} pictures in 30 frames')
    for options in ['-a'], ['-g', '10,10 100x100']:
        recording = compositor.start('vitrine', 'record', '-t', 'raw', *options, 'raw')
        need('raw frames' in recording.stdout.readline(), 'no raw frames')
        compositor.swaymsg('output HEADLESS-1 position 0 30')
        said = recording.communicate(timeout=LIMIT)[0]
        need(recording.returncode == 0 and 'the layout of the outputs has changed' in said, said)
        compositor.swaymsg('output HEADLESS-1 position 0 0')


@given(Sway)
def test_window(compositor):
    """-w: a window by app-id, title and identifier, as grim has it"""
    with still_windows(compositor):
        windows = json.loads(compositor.run('vitrine', 'info', '--json').stdout)['windows']
        need(len(windows) == 2, windows)
        for window in windows:
            identifier = window['identifier']
            found, expected = take_both(compositor, ['-w', identifier], ['-T', identifier])
            need_same(found, expected, window)
        first = take_ppm(compositor, '-w', windows[0]['identifier'])
        for name in windows[0]['app_id'], windows[0]['title']:
            done = compositor.run('vitrine', 'shot', '-w', name, 'named.ppm')
            need('2 windows are' in done.stderr, done.stderr)
            need_same(parse_ppm(compositor.path('named.ppm').read_bytes()), first, name)
        compositor.run('vitrine', 'shot', '-w', 'nothing', 'x.ppm', status=5)


@given(Sway)
def test_first_output_that_is_on(compositor):
    """without -o: the first output that is on, and a note; those that are off are black in -a"""
    with still_windows(compositor):
        for off, on in ('HEADLESS-1', 'HEADLESS-2'), ('HEADLESS-2', 'HEADLESS-1'):
            expected = take_ppm(compositor, '-o', on)
            compositor.swaymsg(f'output {off} power off')
            started = time.monotonic()
            done = compositor.run('vitrine', 'shot', 'some.ppm')
            need(time.monotonic() - started < 3, 'what is off was waited for')
            need(f'this is of {on}, one of 2 outputs' in done.stderr, done.stderr)
            need_same(parse_ppm(compositor.path('some.ppm').read_bytes()), expected, on)
            done = compositor.run('vitrine', 'shot', '-a', 'all.ppm')
            need(f'{off} is off' in done.stderr, done.stderr)
            recorded, said = record_raw(compositor, '-a', '--frames', '1')
            need(f'{off} is off' in said, said)
            need_same(recorded[0], parse_ppm(compositor.path('all.ppm').read_bytes()), f'{off} off')
            compositor.swaymsg(f'output {off} power on')


if __name__ == '__main__':
    require('sway', 'grim', 'weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
