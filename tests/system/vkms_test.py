#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two sessions view an output of unmodified sway, which vkms shows with real page
flips. Runs in a guest that has vkms. Prints TAP.

usage: vkms_test.py, with the built commands on PATH
"""

import json

from harness import (Failure, Group, PluginCompositor, collect, find_card, finish, given, need,
                     require, run_groups)

# In rounds of a second, until there are enough in rounds without a loss, or too many rounds.
# What comes back every second or more often leaves no round without one.
FLIPS, FRAMES, ROUNDS = 600, 60, 60
ENVIRONMENT = {'WLR_BACKENDS': 'drm', 'WLR_DRM_DEVICES': find_card()}


@given(PluginCompositor, 'sway', environment=ENVIRONMENT)
def test_page_flips(compositor):
    """600 page flips of sway on vkms while two sessions view, none missed"""
    def start_watch(frames):
        return compositor.start('vitrine', 'watch', '--json', '--frames', str(frames), stderr=None)

    alone = json.loads(finish(start_watch(120)))
    # A frame that is not finished when the next one comes is lost, which can be while
    # programs start on one processor, or the machine is elsewhere: that is a round's loss
    flips = 0
    for _ in range(ROUNDS):
        reports = [json.loads(finish(watch)) for watch in [start_watch(FRAMES) for _ in range(2)]]
        for report in reports:
            need(report['frames'] == FRAMES and report['revoked'] == 0, report)
            need(report['fds_received'] == report['distinct_buffers'] <= 8, report)
        # Each commit of sway is a page flip, each one got here, and they did not become fewer
        if all(report['skipped'] == 0 and report['fps'] >= 0.85 * alone['fps']
               for report in reports):
            flips += FRAMES
        if flips >= FLIPS:
            return
    raise Failure(f'{flips} page flips in rounds without a loss: {reports}')


if __name__ == '__main__':
    require('sway', 'weston-simple-shm', vkms=find_card())
    run_groups(Group(collect(globals())[1]))
