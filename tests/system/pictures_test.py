#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures of regions, of all outputs and of windows, beside those that grim takes. Headless,
with pixman. Prints TAP.

usage: pictures_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import functools
import json
import os
import signal
import sys
import time

from harness import (LIMIT, Group, PluginCompositor, collect, given, n_colors, need, parse_ppm,
                     require, run_groups)
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
    """By sway's events, of which those before the question are in the tree."""
    events = compositor.start('swaymsg', '--socket', compositor.ipc(), '-m', '-t', 'subscribe',
                              '["window"]')
    while f'"pid": {pid}' not in compositor.swaymsg('-t', 'get_tree').stdout:
        need(events.stdout.readline(), 'sway has no more events')


@contextlib.contextmanager
def still_windows(compositor):
    """A window on each output, which move no more."""
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
        yield
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
            compositor.swaymsg(f'output {off} power on')


if __name__ == '__main__':
    require('sway', 'grim', 'weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
