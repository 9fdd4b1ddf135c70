#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two sessions view an output of unmodified sway, which vkms shows with real page
flips. Runs in a guest that has vkms. Prints TAP.

usage: vkms_test.py FRAMES, with the built commands on PATH
"""

import json
import sys

from harness import (Group, PluginCompositor, collect, find_card, finish, given, need, require,
                     run_groups)

FRAMES = int(sys.argv[1])
ENVIRONMENT = {'WLR_BACKENDS': 'drm', 'WLR_DRM_DEVICES': find_card()}


@given(PluginCompositor, 'sway', environment=ENVIRONMENT)
def test_page_flips(compositor):
    """600 page flips of sway on vkms while two sessions view, none missed"""
    def start_watch(frames):
        return compositor.start('vitrine', 'watch', '--json', '--frames', str(frames), stderr=None)

    alone = json.loads(finish(start_watch(120)))
    # A frame that is not finished when the next one comes is lost, which can be while
    # programs start on one processor: one round of three has to be without that
    for rounds_left in (2, 1, 0):
        reports = [json.loads(finish(watch)) for watch in [start_watch(FRAMES) for _ in range(2)]]
        for report in reports:
            need(report['frames'] == FRAMES and report['revoked'] == 0, report)
            need(report['fds_received'] == report['distinct_buffers'] <= 8, report)
            # and they did not become fewer by it
            need(report['fps'] >= 0.85 * alone['fps'], (alone, report))
        # Each commit of sway is a page flip, and each one got here
        skipped = [report['skipped'] for report in reports]
        if not any(skipped):
            return
        need(rounds_left > 0, reports)


if __name__ == '__main__':
    require('sway', 'weston-simple-shm', vkms=find_card())
    run_groups(Group(collect(globals())[1]))
