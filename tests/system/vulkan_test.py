#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Views of unmodified sway that draws by Vulkan, on lavapipe. Runs in a guest that has
dma-bufs, which wlroots' Vulkan renderer needs. Prints TAP.

usage: vulkan_test.py RENDERER, the library to preload, with the built commands on PATH
"""

import contextlib
import glob
import os
import signal
import subprocess
import sys

from harness import (LIMIT, Failure, Group, PluginCompositor, collect, given, n_colors, need, require,
                     run_groups)

FRAMES = 120
SIZE = (640, 360)
CONFIG = 'output HEADLESS-1 mode --custom {}x{}@20Hz\n'.format(*SIZE)
ENVIRONMENT = {
    'WLR_RENDERER': None,
    'LD_PRELOAD': os.path.abspath(sys.argv[1]),
    # Drawing goes on beside the compositor, as it does on a GPU
    'LP_NUM_THREADS': '2',
}


class VulkanSway(PluginCompositor):
    def __init__(self):
        super().__init__('sway', environment=ENVIRONMENT, config=CONFIG)
        self.env.pop('LD_PRELOAD')  # it is the compositor's alone

    def stop(self):
        """As its user would: a SIGTERM may come to a thread of the driver, of which sway dies."""
        self.end_clients()
        # It may end before it answers, or have ended already: its status tells
        with contextlib.suppress(Failure, StopIteration):
            self.swaymsg('exit')
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LIMIT)
        return super().stop()

    def wait_for_window(self):
        while n_colors(self.grim()) <= 8:  # the test has a limit of time
            pass

    def stop_window(self):
        """Stops the window once it is there. No client has looked before. Returns what grim takes."""
        self.wait_for_window()
        os.kill(self.app, signal.SIGSTOP)
        while (picture := self.grim()) != self.grim():
            pass
        return picture


def compare_with_grim(compositor, guarantee):
    picture = compositor.stop_window()
    try:
        for _ in range(3):
            need(compositor.raw_frames(1, '--guarantee', guarantee)[0] == picture,
                 'not the same picture')
    finally:
        os.kill(compositor.app, signal.SIGCONT)


@given(VulkanSway)
def test_first_sealed(compositor):
    """the first sealed frame of sway with Vulkan is what grim takes"""
    compare_with_grim(compositor, 'sealed')


@given(VulkanSway)
def test_first_snapshot(compositor):
    """the first snapshot of sway with Vulkan is what grim takes"""
    compare_with_grim(compositor, 'snapshot')


def test_vulkan(compositor):
    """sway draws by Vulkan, on lavapipe"""
    with open(f'/proc/{compositor.process.pid}/maps', encoding='utf-8') as file:
        need('libvulkan_lvp' in file.read(), 'lavapipe is not there')


def test_record(compositor):
    """120 frames are recorded, none of them empty"""
    compositor.wait_for_window()
    frames = compositor.raw_frames(FRAMES)
    need(len(frames) == FRAMES, len(frames))
    colors = list(map(n_colors, frames))
    need(min(colors) > 8, f'there is an empty picture: {colors}')
    need(len(set(frames)) > FRAMES / 2, 'nothing moves')


def test_audit(compositor):
    """vitrine audit finds nothing"""
    compositor.run('vitrine', 'audit')


if __name__ == '__main__':
    require('sway', 'weston-simple-shm', 'grim', '/dev/udmabuf',
            lavapipe=glob.glob('/usr/share/vulkan/icd.d/lvp_icd*.json'))
    shared, alone = collect(globals())
    run_groups(Group(alone), Group(shared, VulkanSway, 'sway with Vulkan starts and ends'))
