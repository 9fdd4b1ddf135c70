# SPDX-License-Identifier: MIT
"""What vitrine-run costs sway while no client looks."""

import os
import pathlib
import platform
import re
import shutil
import statistics

from harness import PluginCompositor, need

WIDTH, HEIGHT = 1920, 1080
# Of two runs under callgrind: enough to drown the few frames that sway draws for itself
FRAMES = (20, 180)
MACHINES = {'x86_64': 'amd64', 'aarch64': 'arm64'}  # as valgrind names them
CONFIG = f'output HEADLESS-1 mode --custom {WIDTH}x{HEIGHT}@60Hz'


class AnimatedSway(PluginCompositor):
    """Sway with one window that changes entirely with each frame, for so many frames.

    `callgrind` counts the instructions of sway, and of nothing that it starts.
    """

    def __init__(self, animation, warm, frames, plugin, callgrind=False):
        self.frames, self.callgrind = frames, callgrind
        self.script = f'''#!/bin/sh
: >progress
{os.path.abspath(animation)} {warm} {frames} >>progress &
echo "WAYLAND_DISPLAY=$WAYLAND_DISPLAY $!" >ready
wait
'''
        super().__init__('sway', plugin=plugin, config=CONFIG)
        self.progress = self.follow('progress')

    def make_run_command(self):
        return self.make_callgrind_command() if self.callgrind else super().make_run_command()

    def make_callgrind_command(self):
        """What valgrind and vitrine-run do, without valgrind's own programs on the way.

        The plugin would be in those as well, and leaves no trace of itself to what they start.
        """
        environment = {'VALGRIND_LAUNCHER': shutil.which('valgrind')}
        if self.plugin:
            run = pathlib.Path(shutil.which('vitrine-run'))
            environment['LD_PRELOAD'] = run.with_name('libvitrine-plugin.so')
            environment['VITRINE_PLUGIN_LOG'] = self.path('log')
        tool = f'/usr/libexec/valgrind/callgrind-{MACHINES[platform.machine()]}-linux'
        return ['env', *(f'{name}={value}' for name, value in environment.items()), tool,
                '--tool=callgrind', '--callgrind-out-file=/dev/null']

    def wait_for_warmth(self):
        return int(next(self.progress))

    def wait_for_last_frame(self):
        return int(next(self.progress))

    def count_instructions(self):
        """To the end, which this is."""
        self.wait_for_warmth()
        with open(f'/proc/{self.process.pid}/maps') as maps:
            need(('vitrine-plugin' in maps.read()) == self.plugin, 'the plugin, or none')
        self.wait_for_last_frame()
        self.process.terminate()
        self.process.wait()
        count = re.search(fr'=={self.process.pid}== Collected : (\d+)', self.read('stderr'))
        need(count, 'callgrind has counted nothing: ' + self.read('stderr')[-800:])
        return int(count[1])

    def measure(self):
        """CPU time of all threads and page faults of the process, per frame."""
        first = self.wait_for_warmth()
        before = self.read_usage()
        count = self.wait_for_last_frame() - first
        return {key: (value - before[key]) / count for key, value in self.read_usage().items()}

    def read_usage(self):
        proc = f'/proc/{self.process.pid}'
        cpu_ns = 0
        for task in os.listdir(f'{proc}/task'):
            with open(f'{proc}/task/{task}/schedstat', encoding='ascii') as file:
                cpu_ns += int(file.read().split()[0])
        with open(f'{proc}/stat', encoding='ascii') as file:
            faults = int(file.read().rpartition(')')[2].split()[7])
        return {'cpu_us': cpu_ns / 1e3, 'faults': faults}


def measure_pair(animation, frames, number):
    """Both, the one or the other first."""
    pair = {}
    for plugin in (False, True) if number % 2 == 0 else (True, False):
        with AnimatedSway(animation, 60, frames, plugin) as sway:
            pair['vitrine-run' if plugin else 'stock'] = sway.measure()
    return pair


def measure(animation, pairs, frames):
    pairs = [measure_pair(animation, frames, number) for number in range(pairs)]
    return {
        'pairs': pairs,
        'ratio': statistics.median(
            pair['vitrine-run']['cpu_us'] / pair['stock']['cpu_us'] for pair in pairs),
    }


def count_instructions_per_frame(animation, plugin):
    """The difference of two runs: starting is not in it."""
    counts = []
    for frames in FRAMES:
        with AnimatedSway(animation, 1, frames, plugin, callgrind=True) as sway:
            counts.append(sway.count_instructions())
    return (counts[1] - counts[0]) / (FRAMES[1] - FRAMES[0])
