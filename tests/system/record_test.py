#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What vitrine record writes, as ffmpeg reads it. Prints TAP.

usage: record_test.py [TEST...], with the built commands on PATH
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from harness import (LIMIT, Compositor, Group, ReferenceCompositor, collect, finish, given, need,
                     require, run, run_groups)

TYPES = {'mkv': 'matroska', 'mp4': 'mp4', 'webm': 'webm'}
# How much longer than its time a recording may take: some builds are slow
SLACK = 1 if LIMIT == 30 else 6
# An encoder has to begin, and to end what it was given
ENCODER_SLACK = 3 * SLACK
MANUAL = pathlib.Path(__file__).resolve().parents[2] / 'client/cli/vitrine.1.scd'


def screen(color, size):
    """A compositor that shows one colour and nothing else."""
    return Compositor(['vitrine-compositor', '-o', size, '-b', color])


def record(compositor, *arguments, seconds):
    """Records for so long, and returns what was said. It takes hardly any longer."""
    slack = SLACK if str(arguments[0]).endswith('.y4m') else ENCODER_SLACK
    began = time.monotonic()
    done = compositor.run('vitrine', 'record', '--seconds', str(seconds), *arguments)
    took = time.monotonic() - began
    need(took < seconds + slack, f'{seconds} s took {took:.2f} s: {done.stderr}')
    return done.stderr


def probe(path):
    """What ffprobe says of the file and its one stream, frames counted."""
    done = run('ffprobe', '-v', 'error', '-count_frames', '-of', 'json',
               '-show_streams', '-show_format', path)
    need(not done.stderr, done.stderr)
    said = json.loads(done.stdout)
    need(len(said['streams']) == 1, said)
    return said['streams'][0], said['format']


def read_times(path):
    """When each frame is shown, in seconds."""
    done = run('ffprobe', '-v', 'error', '-of', 'csv=p=0', '-show_entries', 'frame=pts_time', path)
    return [float(line.strip(',')) for line in done.stdout.split()]


def read_color(path, *options):
    """The pixel in the middle of the first frame, as ffmpeg decodes it."""
    done = subprocess.run(
        ['ffmpeg', '-v', 'error', *options, '-i', path, '-frames:v', '1', '-sws_flags',
         'accurate_rnd+full_chroma_int', '-pix_fmt', 'rgb24', '-f', 'rawvideo', '-'],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LIMIT)
    need(done.returncode == 0 and done.stdout, done.stderr)
    middle = len(done.stdout) // 6 * 3
    return tuple(done.stdout[middle:middle + 3])


@given(screen, '203040', '320x240')
def test_still(compositor):
    """a screen that stands still is recorded for as long as it was asked for"""
    for _ in range(2):
        record(compositor, 'still.y4m', seconds=2)
        stream, _ = probe(compositor.path('still.y4m'))
        need(118 <= int(stream['nb_read_frames']) <= 120, stream)
        need(stream['r_frame_rate'] == '60/1', stream)


def test_encoded(compositor):
    """mkv, mp4 and webm have the times of what moved, and are as long as it took"""
    for ending, name in TYPES.items():
        path = compositor.path(f'video.{ending}')
        record(compositor, path, seconds=2)
        stream, container = probe(path)
        need(name in container['format_name'].split(','), container)
        need(1.9 < float(container['duration']) < 2.1, container)
        need(int(stream['nb_read_frames']) > 10, stream)
        times = read_times(path)
        need(times == sorted(set(times)) and times[0] < 0.1, times)
        # Of a type that is asked for, on standard output: a pipe, where nothing is changed later
        with open(compositor.path('piped'), 'wb') as file:
            piped = compositor.start('vitrine', 'record', '--seconds', '1', '-t', ending, '-',
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=False)
            file.write(piped.communicate(timeout=LIMIT)[0])
        need(piped.returncode == 0, f'status {piped.returncode}')
        stream, container = probe(compositor.path('piped'))
        need(name in container['format_name'].split(','), container)
        times = read_times(compositor.path('piped'))
        need(0.9 < times[-1] - times[0] < 1.05, times)


def test_interrupted(compositor):
    """a file that is interrupted is whole"""
    for ending in TYPES:
        path = compositor.path(f'interrupted.{ending}')
        # On a terminal it tells how far it is
        terminal, its_end = os.openpty()
        recording = compositor.start('vitrine', 'record', path, stderr=its_end)
        os.close(its_end)
        said = b''
        while not re.search(rb'\r[1-9]\d+ frames', said):
            said += os.read(terminal, 4096)
        finish(recording, signal.SIGINT)
        os.close(terminal)
        need(recording.returncode == 0, f'status {recording.returncode}: {said}')
        stream, container = probe(path)
        need(float(container['duration']) > 0.1 and int(stream['nb_read_frames']) > 10, container)


@given(screen, '203040', '365x267')
def test_odd(compositor):
    """an output of odd size is recorded in even size, or by the line of the manual"""
    for ending in TYPES:
        path = compositor.path(f'odd.{ending}')
        record(compositor, path, seconds=0.3)
        stream, _ = probe(path)
        need((stream['width'], stream['height']) == (366, 268), stream)
    line = re.search(r'\tvitrine record --seconds 10 - \|\+\+\n(ffmpeg .* video.mp4)\n',
                     MANUAL.read_text()).group(1)
    line = line.replace('\\', '').replace('ffmpeg', 'ffmpeg -v error')
    compositor.run('sh', '-ec', f'vitrine record --seconds 1 - | {line}')
    stream, container = probe(compositor.path('video.mp4'))
    need((stream['width'], stream['height']) == (366, 268), stream)
    need(58 <= int(stream['nb_read_frames']) <= 60, stream)


@given(screen, '203040', '320x240')
def test_without_module(compositor):
    """a vitrine that does not encode says which command does"""
    command = shutil.copy(shutil.which('vitrine'), compositor.path('vitrine'))
    done = compositor.run(command, 'record', 'video.mkv', status=1)
    need(re.fullmatch(r"vitrine: cannot encode mkv: .*vitrine-encode\.so.*; `vitrine record - \| ffmpeg .*"
                      r"video\.mkv` does\n", done.stderr), done.stderr)
    need(not compositor.path('video.mkv').exists(), 'there is a file')
    compositor.run(command, 'record', '--frames', '1', 'video.y4m')


def test_colors():
    """red, green, blue, white and grey are played as they were"""
    for size in '640x480', '1280x720':
        for color in 'ff0000', '00ff00', '0000ff', 'ffffff', '808080':
            wanted = bytes.fromhex(color)
            with screen(color, size) as compositor:
                for ending in 'y4m', *TYPES:
                    path = compositor.path(f'color.{ending}')
                    record(compositor, path, seconds=0.1)
                    # What the manual says of it
                    hd = ending == 'y4m' and size == '1280x720'
                    seen = read_color(path, *(('-colorspace', 'bt709') if hd else ()))
                    need(all(abs(a - b) <= 2 for a, b in zip(seen, wanted)),
                         f'{color} of {size} is {seen} in {ending}')


def main():
    require('ffmpeg', 'ffprobe')
    done = subprocess.run(['vitrine', 'record', '--socket', 'none', 'x.mkv'], capture_output=True,
                          text=True, check=False, timeout=LIMIT)
    require(**{'module for libavcodec': 'cannot encode' not in done.stderr})
    shared, alone = collect(globals(), sys.argv[1:])
    colors = [test for test in shared if test[1] is test_colors]
    shared = [test for test in shared if test[1] is not test_colors]
    run_groups(Group(alone), Group(colors),
               Group(shared, lambda: ReferenceCompositor('-o', '320x240'), 'the compositor ends well'))


if __name__ == '__main__':
    main()
