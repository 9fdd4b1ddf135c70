#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What CI jobs do: a command in vitrine-compositor whose window is waited for and compared,
without a sleep. Prints TAP.

usage: jobs_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import pathlib
import sys
import tempfile

from harness import (Group, collect, make_environment, n_colors, need, parse_ppm, require, run,
                     run_groups)

N_RUNS = 20
FOOT = "foot -a job sh -c 'echo this is the window; exec sleep 1000' & "


@contextlib.contextmanager
def job():
    """A function that runs a script in a compositor of its own, all in one directory."""
    with tempfile.TemporaryDirectory(prefix='vitrine-test.') as directory:
        env = make_environment({'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman',
                                'XDG_RUNTIME_DIR': directory, 'HOME': directory})

        def run_job(script, status=0):
            return run('vitrine-compositor', '--size', '640x480', '--run-timeout', '60', '--',
                       'sh', '-c', script, status=status, env=env, cwd=directory)
        yield run_job, pathlib.Path(directory)


def test_window():
    """a window is there, and the same, in each of 20 runs"""
    with job() as (run_job, directory):
        run_job(FOOT + 'vitrine shot --window job --when-still 300 --timeout 30 a.png')
        run('unpng', 'a.png', 'a.ppm', cwd=directory)
        width, height, pixels = parse_ppm((directory / 'a.ppm').read_bytes())
        need(n_colors(pixels) > 2, f'{width}x{height}, and nothing in it')
        for _ in range(N_RUNS - 1):
            done = run_job(FOOT + 'vitrine shot --window job --when-still 300 --timeout 30 '
                           '--compare a.png --diff diff.png')
            need(f'0 of {width * height} pixels differ' in done.stderr, done.stderr)
            need(not (directory / 'diff.png').exists(), 'a picture of no difference')


def test_difference():
    """another text is another picture, and the difference is shown"""
    with job() as (run_job, directory):
        run_job(FOOT + 'vitrine shot -w job --when-still 300 --timeout 30 a.png')
        run_job(FOOT.replace('this', 'that') + 'vitrine shot -w job --when-still 300 '
                '--timeout 30 --compare a.png --diff diff.png', status=3)
        run('unpng', 'diff.png', 'diff.ppm', cwd=directory)
        pixels = parse_ppm((directory / 'diff.ppm').read_bytes())[2]
        red = sum(pixels[i:i + 3] == b'\xff\0\0' for i in range(0, len(pixels), 3))
        need(0 < red < len(pixels) // 30, f'{red} red pixels')


def test_moving():
    """what never stands still, and what never appears, has a status of its own"""
    with job() as (run_job, _):
        moving = 'weston-simple-shm & vitrine wait -w org.freedesktop.weston.simple-shm --frames 3 ' \
            '--timeout 30 || exit 9; '
        run_job(moving + 'vitrine wait --still 1000 --timeout 3', status=4)
        run_job('vitrine wait -w nothing --timeout 0.5', status=5)


if __name__ == '__main__':
    require('foot', 'weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
