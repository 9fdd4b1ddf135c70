#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wl-mirror, unmodified, mirrors an output of sway through the plugin's
wlr-export-dmabuf. Runs in a guest that has dma-bufs. Prints TAP.

usage: mirror_test.py SECONDS, with the built commands on PATH
"""

import operator
import os
import re
import signal
import subprocess
import sys
import threading
import time

from harness import (LIMIT, Group, PluginCompositor, collect, drain, given, n_colors, need, note,
                     require, run_groups)

SECONDS = float(sys.argv[1])
# wl-mirror, with Mesa 26, leaks a mapping a frame. User-Mode Linux makes of each up to as
# many of the host's as it has pages, and with 65530 of those a process crashes or stands
# still: here it cannot come to more than 12 for each of 2400 frames
WIDTH, HEIGHT = 128, 96
# File descriptors and mappings of the buffers that swapchains can be late with
MAX_LATE = 24
CONFIG = f'''output HEADLESS-1 mode --custom {WIDTH}x{HEIGHT}@20Hz position 0 0
output HEADLESS-2 mode --custom {WIDTH}x{HEIGHT}@20Hz position {WIDTH} 0
workspace 1 output HEADLESS-1
workspace 2 output HEADLESS-2
default_border none
for_window [app_id="at.yrlf.wl_mirror"] move to workspace 2
focus output HEADLESS-1
'''
ENVIRONMENT = {
    'WLR_HEADLESS_OUTPUTS': '2',
    'WLR_RENDERER': 'gles2',
    'WLR_RENDERER_ALLOW_SOFTWARE': '1',
    'LIBGL_ALWAYS_SOFTWARE': '1',
}


class Follower:
    """Reads the pictures of an output as they come, and counts those that are new."""

    def __init__(self, compositor, output):
        self.process = compositor.start('vitrine', 'record', '--type', 'raw', '-o', output, '-',
                                        text=False, stderr=subprocess.DEVNULL)
        self.n_different = 0
        self.changed = time.monotonic()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        size, last = WIDTH * HEIGHT * 4, None
        while len(picture := self.process.stdout.read(size)) == size:
            if picture != last:
                self.n_different += 1
                self.changed = time.monotonic()
            last = picture

    def need_change(self, seconds):
        need(self.process.poll() is None, 'the recording ended')
        still = time.monotonic() - self.changed
        need(still < seconds, f'nothing has moved for {still:.0f} s')


def cost(compositor):
    """File descriptors and mappings of the compositor."""
    proc = f'/proc/{compositor.process.pid}'
    with open(f'{proc}/maps') as file:
        return len(os.listdir(f'{proc}/fd')), len(file.readlines())


def wait_for_mirror(compositor, mirror):
    """Until wl-mirror has been shown a frame, which its log tells."""
    for line in mirror.stdout:
        if 'frame is ready' in line:
            return
    need(False, 'wl-mirror ended: ' + compositor.read('stderr')[-800:])


def need_no_growth(costs):
    """A leak goes on and on. A swapchain may be late with its fourth buffer, but once."""
    quarter = len(costs) // 4
    for i, what in enumerate(('file descriptors', 'mappings')):
        peaks = [max(sample[i] for sample in costs[j * quarter:(j + 1) * quarter])
                 for j in range(4)]
        note(f'{what} of the compositor: at most {peaks} in each quarter')
        need(any(a >= b for a, b in zip(peaks, peaks[1:])), f'{what} go on to grow: {peaks}')
        need(peaks[-1] <= peaks[0] + MAX_LATE, f'{what} have grown: {peaks}')


def follow_mirror(compositor, mirror):
    """Looks at the compositor each second, while the mirror goes on to move."""
    costs = []
    follower = Follower(compositor, 'HEADLESS-2')
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(1)
        costs.append(cost(compositor))
        follower.need_change(15)
        need(mirror.poll() is None, 'wl-mirror is gone')
    follower.process.terminate()
    follower.process.wait(LIMIT)
    note(f'{follower.n_different} pictures in {SECONDS:.0f} s')
    need(follower.n_different > 2 * SECONDS, f'only {follower.n_different} pictures')
    need_no_growth(costs)


def need_read_only(mirror):
    """What wl-mirror has of the compositor's buffers can only be read."""
    mirrored, writable = set(), set()
    with open(f'/proc/{mirror.pid}/maps') as file:
        for line in file:
            if '/dmabuf:' in line:
                need(' r--s ' in line, line)
                mirrored.add(int(line.split()[4]))
    need(mirrored, 'wl-mirror maps no dma-buf')
    # Mesa has some of its own, which wl-mirror draws to
    for name in os.listdir(f'/proc/{mirror.pid}/fd'):
        path = f'/proc/{mirror.pid}/fd/{name}'
        try:
            if '/dmabuf:' not in os.readlink(path):
                continue
            with open(f'/proc/{mirror.pid}/fdinfo/{name}') as file:
                flags = int(re.search(r'^flags:\s*([0-7]+)$', file.read(), re.MULTILINE)[1], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                writable.add(os.stat(path).st_ino)
        except FileNotFoundError:
            continue  # closed meanwhile
    need(not mirrored & writable, f'{mirrored & writable} of {mirrored} can be written')


def count_different(a, b):
    return sum(map(operator.ne, a, b))


def need_copy(compositor):
    """What is on the second output is the first one, as it is now."""
    stale = compositor.raw_frames(5, '-o', 'HEADLESS-1')[0]
    os.kill(compositor.app, signal.SIGSTOP)
    end = time.monotonic() + LIMIT
    while True:
        # Neither has to be the last one yet: the mirror is a few frames late
        original = compositor.raw_frames(1, '-o', 'HEADLESS-1')[0]
        copy = compositor.raw_frames(1, '-o', 'HEADLESS-2')[0]
        different = count_different(original, copy)
        if different < len(original) // 100:
            break
        need(time.monotonic() < end, f'{different} of {len(original)} bytes differ')
    need(len(original) == len(copy) == WIDTH * HEIGHT * 3, (len(original), len(copy)))
    need(n_colors(original) > 8, 'only one colour')
    # Else a mirror that stands still would do as well
    need(count_different(original, stale) > len(original) // 10, 'it had hardly moved before')


# As slow as the guest is, it has not stopped looking
@given(PluginCompositor, 'sway', '--deadline', '20000', environment=ENVIRONMENT, config=CONFIG)
def test_mirror(compositor):
    """wl-mirror mirrors a moving window, on read-only file descriptors and at no growing cost"""
    need(len(set(compositor.raw_frames(20, '-o', 'HEADLESS-1'))) > 5, 'nothing moves')
    mirror = compositor.start('wl-mirror', '-v', '-b', 'export-dmabuf', 'HEADLESS-1')
    wait_for_mirror(compositor, mirror)
    drain(mirror.stdout)
    follow_mirror(compositor, mirror)
    need_read_only(mirror)
    need_copy(compositor)
    lines = re.findall(r'capture (\w+) source=HEADLESS-1 guarantee=(\w+) .*'
                       r'comm="wl-mirror" .* protocol=zwlr_export_dmabuf_manager_v1 ',
                       compositor.read('log'))
    need(len(lines) == 1 and lines[0][0] == 'start' and
         lines[0][1] in ('guarded', 'fd_read_only'), lines)
    mirror.terminate()
    mirror.wait(LIMIT)
    need(compositor.process.poll() is None, 'sway is gone')


if __name__ == '__main__':
    require('sway', 'wl-mirror', 'weston-simple-shm', '/dev/udmabuf')
    run_groups(Group(collect(globals())[1]))
