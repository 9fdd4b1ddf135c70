#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""wl-mirror, unmodified, mirrors an output of sway through the plugin's
wlr-export-dmabuf. Runs in a guest that has dma-bufs. Prints TAP.

usage: mirror_test.py SECONDS
environment: VITRINE_RUN, VITRINE, SANDBOX, TOPLEVEL, WINDOW: the built programs
"""

import os
import re
import shutil
import sys
import threading
import time

sys.dont_write_bytecode = True  # the checkout is no place for it
from plugin_test import Compositor, n_colors, need, run_test

CONFIG = '''output HEADLESS-1 resolution 320x240 position 0 0
output HEADLESS-2 resolution 320x240 position 320 0
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
    raise AssertionError('wl-mirror ended: ' + compositor.read('stderr')[-800:])


def drain(stream):
    threading.Thread(target=lambda: [None for _ in stream], daemon=True).start()


def test_mirror(seconds):
    """wl-mirror mirrors a moving window, on read-only file descriptors"""
    with Compositor('sway', environment=ENVIRONMENT, config=CONFIG) as compositor:
        need(len(set(compositor.raw_frames(20, '-o', 'HEADLESS-1'))) > 5, 'nothing moves')
        mirror = compositor.start('wl-mirror', '-v', '-b', 'export-dmabuf', 'HEADLESS-1')
        try:
            wait_for_mirror(compositor, mirror)
            drain(mirror.stdout)
            frames = compositor.raw_frames(60, '-o', 'HEADLESS-2')
            need(len(set(frames)) > 20, f'{len(set(frames))} of 60 frames of it differ')
            with open(f'/proc/{mirror.pid}/maps') as file:
                maps = [line for line in file if '/dmabuf:' in line]
            need(maps and all(' r--s ' in line for line in maps), maps)

            # Long enough for whatever grows to be seen
            time.sleep(2)
            before = cost(compositor)
            time.sleep(seconds)
            after = cost(compositor)
            need(after[0] <= before[0] + 2 and after[1] <= before[1] + 8,
                 f'file descriptors and mappings were {before}, and are {after}')
            need(mirror.poll() is None, 'wl-mirror is gone')

            compositor.freeze()
            compositor.raw_frames(1, '-o', 'HEADLESS-1')
            time.sleep(2)  # the mirror is a few frames late, and says nothing when it has caught up
            original = compositor.raw_frames(1, '-o', 'HEADLESS-1')[0]
            copy = compositor.raw_frames(1, '-o', 'HEADLESS-2')[0]
            need(n_colors(original) > 8, 'only one colour')
            different = sum(a != b for a, b in zip(original, copy))
            need(different < len(original) // 100, f'{different} of {len(original)} bytes differ')

            lines = re.findall(r'capture (\w+) source=HEADLESS-1 guarantee=(\w+) .*'
                               r'comm="wl-mirror" .* protocol=zwlr_export_dmabuf_manager_v1 ',
                               compositor.read('log'))
            need(len(lines) == 1 and lines[0][0] == 'start' and
                 lines[0][1] in ('guarded', 'fd_read_only'), lines)
        finally:
            mirror.terminate()
            mirror.wait(30)
        need(compositor.process.poll() is None, 'sway is gone')


def main():
    missing = [program for program in ('sway', 'wl-mirror', 'weston-simple-shm')
               if shutil.which(program) is None]
    if not os.path.exists('/dev/udmabuf'):
        missing.append('/dev/udmabuf')
    if missing:
        print('1..0 # SKIP there is no ' + ', '.join(missing))
        return
    print('1..1')
    run_test(1, test_mirror, float(sys.argv[1]))


if __name__ == '__main__':
    main()
