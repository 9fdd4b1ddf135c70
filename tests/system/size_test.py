#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Outputs of every size, also where the kernel has nothing to share memory with: a frame,
or one clear line, and never silence. Headless, with pixman. Prints TAP.

usage: size_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import functools
import glob
import json
import os
import sys

from harness import (LIMIT, PLACE, Compositor, Group, PluginCompositor, collect, finish, given, need,
                     require, run_groups, skip_if)
from picture import need_same, still_picture, take_shot

# 8K needs more memory than udmabuf gives at once
SIZES = ('1366x768', '1x1', '63x1', '1x63', '7680x4320')
# A window that is not resized with the output, as it would have to paint 8K
CONFIG = 'for_window [app_id=".*"] floating enable, move position 0 0\noutput * bg #204060 solid_color\n'
Sway = functools.partial(PluginCompositor, 'sway', config=CONFIG)
needs_guest = skip_if(PLACE == 'host', 'the devices are those of the host')


@contextlib.contextmanager
def hidden(*paths):
    """As if the kernel did not have these."""
    for path in paths:
        os.rename(path, path + '.hidden')
    try:
        yield
    finally:
        for path in paths:
            os.rename(path + '.hidden', path)


def need_shots(compositor):
    with still_picture(compositor) as expected:
        need_same(take_shot(compositor), expected, 'before')
        for size in SIZES:
            compositor.swaymsg(f'output HEADLESS-1 mode --custom {size}')
            expected = compositor.grim_sized()
            need(size == f'{expected[0]}x{expected[1]}', f'{expected[:2]} instead of {size}')
            need_same(take_shot(compositor), expected, size)


@given(Sway)
def test_sway(compositor):
    """sway: views of outputs of odd sizes, and of 8K"""
    need_shots(compositor)


@needs_guest
def test_without_udmabuf():
    """sway without udmabuf: views of outputs of odd sizes, and of 8K"""
    with hidden('/dev/udmabuf'), Sway() as compositor:
        need_shots(compositor)


@needs_guest
def test_without_devices():
    """sway without a DRM node: views of outputs of odd sizes, and of 8K"""
    need(glob.glob('/dev/dri/*'), 'there is none to be left out')
    with hidden('/dev/dri'), Sway() as compositor:
        need_shots(compositor)


def test_vitrine_compositor():
    """vitrine-compositor: views of outputs of odd sizes, and of 8K"""
    outputs = [argument for size in SIZES for argument in ('-o', size)]
    with Compositor(['vitrine-compositor', *outputs]) as compositor:
        for i, size in enumerate(SIZES):
            name = f'HEADLESS-{i + 1}'
            expected = compositor.grim_sized('-o', name)
            need(size == f'{expected[0]}x{expected[1]}', f'{expected[:2]} instead of {size}')
            need_same(take_shot(compositor, '-o', name), expected, size)


# Four buffers of it are more than the default limits are
LARGE = '11600x11600'
LARGE_NEEDS_GIB = 12


def find_free_gib():
    with open('/proc/meminfo', encoding='ascii') as file:
        fields = dict(line.split(':') for line in file)
    return int(fields['MemAvailable'].split()[0]) / 2 ** 20


def need_watched(done, frames, guarantee):
    need(done.rstrip().endswith('}'), done)
    watched = json.loads(done)
    need(watched['frames'] >= frames and watched['guarantee'] == guarantee, f'{watched}')


@skip_if(find_free_gib() < LARGE_NEEDS_GIB, f'there are no {LARGE_NEEDS_GIB} GiB of free memory')
def test_beyond_the_limits():
    """vitrine-compositor: client after client sees a screen of 11600x11600, still and moving"""
    def watch(compositor, frames, *options):
        # To draw half a gigabyte takes its time, and the machine has other work too
        return compositor.start('vitrine', 'watch', '--json', '--frames', str(frames),
                                '--timeout', str(LIMIT), *options)

    with Compositor(['vitrine-compositor', '-o', LARGE]) as compositor:
        for guarantee in ('sealed', 'sealed', 'snapshot', 'sealed'):
            need_watched(finish(watch(compositor, 1, '--guarantee', guarantee)), 1, guarantee)
        compositor.start('weston-simple-shm')
        for _ in range(2):
            watches = [watch(compositor, 5) for _ in range(2)]
            for process in watches:
                need_watched(finish(process), 5, 'sealed')


if __name__ == '__main__':
    require('sway', 'grim', 'weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
