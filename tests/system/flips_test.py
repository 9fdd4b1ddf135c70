#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Page flips of unmodified sway, which draws by GLES2, while a holder of its buffers, or of
copies of them, puts fences on what it has. Runs in a guest that has a GPU; device_test.py runs
this in the same boot. Prints TAP.

usage: flips_test.py, with the built commands on PATH
"""

import functools
import queue
import re
import threading

from harness import (LIMIT, Group, PluginCompositor, collect, drm_environment, find_card, need, note,
                     require, run_groups)
from screen import DEVICE

FLIPS = 120
# Fences are renewed all the time: a page flip that waits for one is held up for eight seconds at
# the least
PAUSE_CAP_MS = 5000


class Flips:
    """What the compositor says of each picture of a window that moves."""

    def __init__(self, compositor):
        # By lines, even to a pipe
        self.lines = compositor.start('stdbuf', '-oL', 'weston-presentation-shm').stdout

    def count(self):
        """Waits for page flips. Returns how many pictures came to none, and the longest pause."""
        n_lost, pauses = 0, []
        while len(pauses) < FLIPS:
            line = self.lines.readline()
            need(line, 'the window has ended')
            n_lost += line.startswith('discarded')
            if match := re.search(r'p2p +(-?\d+) us', line):
                pauses.append(int(match[1]) // 1000)
        return n_lost, max(pauses)


class Attacker:
    def __init__(self, compositor, guarantee):
        self.process = compositor.start('fence_attacker', guarantee, '30', 'dmabuf')
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def need_fences(self):
        line = self.lines.get(timeout=LIMIT)
        note(line)
        need(re.match('[1-9][0-9]* fences taken, 0 refused', line), line)

    def need_end(self):
        """Its session has ended after some more attacks."""
        while 'has ended' not in (line := self.lines.get(timeout=LIMIT)):
            note(line)
        need('Operation not supported' in line, line)


def attack(compositor, guarantee, ends):
    flips = Flips(compositor)
    flips.count()  # while it starts
    n_lost_before, pause_before = flips.count()
    attacker = Attacker(compositor, guarantee)
    attacker.need_fences()
    for _ in range(2):
        n_lost, pause = flips.count()
        note(f'{FLIPS} page flips, {n_lost} lost, at most {pause} ms apart; '
             f'before {n_lost_before}, {pause_before} ms')
        need(attacker.process.poll() is None, 'the attacker has ended')
        need(n_lost <= n_lost_before, 'page flips were lost')
        need(pause < PAUSE_CAP_MS, 'a page flip has waited')
    if ends:
        attacker.need_end()


def test_read_only(compositor):
    """no page flip is lost to fences on the output's own buffers, which are no longer given"""
    attack(compositor, 'fd_read_only', ends=True)


def test_snapshot(compositor):
    """no page flip is lost to fences on private copies"""
    attack(compositor, 'snapshot', ends=False)


def make_group():
    make = functools.partial(PluginCompositor, 'sway', '--allow', 'fd_read_only',
                             environment=drm_environment('gles2'))
    where = f'{DEVICE} gles2, fences'
    return Group([(f'{where}: {name}', test) for name, test in collect(globals())[0]], make,
                 f'{where}: it starts and ends')


if __name__ == '__main__':
    require('sway', 'stdbuf', 'weston-presentation-shm', **{'device with connectors': find_card()})
    run_groups(make_group())
