#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compositors that show their picture on a device with a driver of its own, and views of
that picture. Runs in a guest that has such a device (vm --device). Prints TAP.

usage: device_test.py sway|labwc|cage RENDERER[,RENDERER...] [TEST...], with the built commands on PATH
"""

import functools
import re
import subprocess
import sys
import time
import zlib

import flips_test
import promises_test
from harness import (LIMIT, START, Compositor, Group, PluginCompositor, collect, drm_environment,
                     find_card, need, note, require, run_groups)
from picture import need_same, still_picture, take_shot
from screen import DEVICE, see_screen

NAME, RENDERERS = sys.argv[1], sys.argv[2].split(',')


class DeviceCompositor(Compositor):
    """vitrine-compositor with a window that is painted at full rate."""

    stdout = 'stdout'  # it is the script that tells its socket

    def launch(self, command, how):
        self.path('start').write_text(START)
        self.path('start').chmod(0o700)
        super().launch(['vitrine-compositor', '-v', '-s', self.path('start')], how)


# The tests. The first one is done with the compositor alone too: else it would prove nothing.

def test_screen(compositor):
    """the screen shows the picture, pixel by pixel"""
    with still_picture(compositor) as expected:
        end = time.monotonic() + LIMIT
        while (picture := see_screen()) != expected and time.monotonic() < end:
            pass  # what is committed is shown with the next page flip at the earliest
        need_same(picture, expected, 'the screen')


def test_shot(compositor):
    """vitrine shot writes what grim sees, pixel by pixel"""
    with still_picture(compositor) as expected:
        need_same(take_shot(compositor), expected, 'the shot')


def test_record(compositor):
    """vitrine record --frames 120 records what moves"""
    width, height, _ = compositor.grim_sized()
    record = compositor.start('vitrine', 'record', '--frames', '120', '--type', 'raw', '-',
                              text=False, stderr=subprocess.DEVNULL)
    sums = []
    while len(picture := record.stdout.read(4 * width * height)) == 4 * width * height:
        sums.append(zlib.crc32(picture))
    need(record.wait(LIMIT) == 0 and picture == b'', f'status {record.returncode}')
    need(len(sums) == 120, f'{len(sums)} frames')
    need(len(set(sums)) > 60, f'only {len(set(sums))} of 120 frames are different')


def test_buffers(compositor):
    """the log says once which buffers were chosen and why, and vitrine info too, and what came of it"""
    # The plugin's own, as the compositor's log may have it too
    log = compositor.read('log') or compositor.read('stderr')
    lines = [line for line in log.splitlines()
             if re.search('(vitrine: buffers|Buffers of .*): ', line)]
    need(len(lines) == 1, f'{len(lines)} lines: {log[-800:]}')
    # Memory of the system is what each of these devices refuses
    need(re.search(r': \S.* \(not memfd: the (display|renderer) ', lines[0]), lines[0])
    info = compositor.run('vitrine', 'info', '--timeout', str(LIMIT)).stdout
    view = re.search(r'^Virtual-1: .*, (guarded|snapshot) in a \S+', info, re.MULTILINE)
    need(view is not None, info)
    chosen = re.search(r'(buffers|Buffers of .*?): (.*)$', lines[0])[2]
    need(f'\n  buffers: {chosen}\n' in info, info)
    note(lines[0])
    note(view[0])


def test_audit(compositor):
    """vitrine audit finds that the guarantee is kept"""
    note(compositor.run('vitrine', 'audit').stdout)


def make_groups(renderer, tests):
    """Each of them is a start of a compositor."""
    control = [test for test in tests if test[1] is test_screen]
    environment = drm_environment(renderer)
    make = functools.partial(PluginCompositor, NAME, environment=environment)
    starts = [(f'{NAME} alone', functools.partial(make, plugin=False), control),
              (f'{NAME} with views', make, tests)]
    if NAME == 'sway':
        starts.append(('vitrine-compositor',
                       functools.partial(DeviceCompositor, None, environment), tests))
    for start, fixture, its_tests in starts:
        where = f'{DEVICE} {renderer}, {start}'
        yield Group([(f'{where}: {name}', function) for name, function in its_tests], fixture,
                    f'{where}: it starts and ends')


if __name__ == '__main__':
    require(NAME, 'grim', 'weston-simple-shm', **{'screen that can be seen': DEVICE})
    need(find_card(), f'the guest has no driver for {DEVICE}')
    all_tests = collect(globals(), sys.argv[3:])[0]
    others = []
    if NAME == 'sway' and not sys.argv[3:]:
        others = [promises_test.make_group()]  # of the device alone, so once for each
        if 'gles2' in RENDERERS:
            others.append(flips_test.make_group())
    run_groups(*others, *(group for name in RENDERERS for group in make_groups(name, all_tests)))
