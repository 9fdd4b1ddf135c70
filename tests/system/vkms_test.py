#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two sessions view an output of unmodified sway, which vkms shows with real page
flips. Runs in a guest that has vkms. Prints TAP.

usage: vkms_test.py FRAMES
environment: VITRINE_RUN, VITRINE, SANDBOX, TOPLEVEL, WINDOW: the built programs
"""

import glob
import json
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True  # the checkout is no place for it
from plugin_test import VITRINE, Compositor, need, run_test

ENVIRONMENT = {
    'WLR_BACKENDS': 'drm',
    'WLR_RENDERER': 'pixman',
    'LIBSEAT_BACKEND': 'builtin',
    'SEATD_VTBOUND': '0',
}


def find_card():
    """The device that has connectors."""
    connectors = sorted(glob.glob('/sys/class/drm/card*-*'))
    return '/dev/dri/' + os.path.basename(connectors[0]).split('-')[0] if connectors else None


def start_watch(compositor, frames):
    return subprocess.Popen([VITRINE, 'watch', '--json', '--frames', str(frames)],
                            env=compositor.env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, text=True)


def test_page_flips(frames):
    """600 page flips of sway on vkms while two sessions view, none missed"""
    environment = dict(ENVIRONMENT, WLR_DRM_DEVICES=find_card())
    with Compositor('sway', environment=environment) as compositor:
        alone = json.loads(start_watch(compositor, 120).communicate(timeout=60)[0])
        watches = [start_watch(compositor, frames) for _ in range(2)]
        for watch in watches:
            report = json.loads(watch.communicate(timeout=180)[0])
            need(report['frames'] == frames, report)
            # Each commit of sway is a page flip, and each one got here
            need(report['skipped'] == 0 and report['revoked'] == 0, report)
            need(report['fds_received'] == report['distinct_buffers'] <= 8, report)
            # and they did not become fewer by it
            need(report['fps'] >= 0.85 * alone['fps'], (alone, report))


def main():
    missing = [program for program in ('sway', 'weston-simple-shm')
               if shutil.which(program) is None]
    if find_card() is None:
        missing.append('vkms')
    if missing:
        print('1..0 # SKIP there is no ' + ', '.join(missing))
        return
    print('1..1')
    run_test(1, test_page_flips, int(sys.argv[1]))


if __name__ == '__main__':
    main()
