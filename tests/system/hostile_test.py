#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""32 hostile clients in 4 processes, then 40 in 40, beside one honest client at 1080p60: what
do the honest one and the output get, compared with themselves without the hostile ones, in the
same run? Prints TAP.

usage: hostile_test.py, with the built commands on PATH
"""

import contextlib
import functools
import json
import os
import resource
import time

from harness import PLACE, Compositor, Group, finish, need, note, require, run_groups
from usage import MIB, describe, get_cpu_seconds, get_usage, read_limit

# Of each kind in turn, see hoarder.c
KINDS = ('hold', 'keep', 'deaf', 'flood', 'pass', 'splice', 'churn', 'die')
FDS_LIMIT = 1024
# What the clients of one user, as which all of these run, can make the compositor keep, and the
# buffers that are in use
MEMORY_CAP = read_limit('retired memory')[1] + read_limit('copies of frames')[1] + 256 * MIB
# In turns, alone and beside the hostile ones. Their first moments count too
ROUNDS, SECONDS = {'host': (4, 6), 'uml': (2, 10), 'vm': (2, 12)}[PLACE]
# What is left at least of what they get alone, as the machine may have much else to do. A headless
# output is drawn 16 ms after its last commit, so all that the compositor does in between lowers its
# rate: that is no refresh missed
FRAMES, REFRESHES, RATE = 0.99, 0.9, 0.88


def prefer():
    """For what is measured. What clients can do by computing is the scheduler's matter, and so
    is what else runs on the machine."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def start_preferred():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FDS_LIMIT, FDS_LIMIT))
    prefer()


class Honest:
    """A client that says what it has got, while others come and go."""

    def __init__(self, compositor):
        self.client = compositor.start('hoarder', 'honest', stderr=None, preexec_fn=prefer)
        self.follow(2)

    def follow(self, seconds):
        """How long it was; how many frames it got, and how many it and the output missed."""
        start = end = self.read()
        while end[0] < start[0] + seconds:
            end = self.read()
        return tuple(now - before for before, now in zip(start, end))

    def read(self):
        line = self.client.stdout.readline()
        need(line and not line.startswith('{'), f'the honest client ended: {line}')
        return tuple(map(float, line.split()))

    def end(self):
        self.client.terminate()
        report = json.loads(finish(self.client).splitlines()[-1])['honest']
        need(report['sessions'] == 1 and report['no_resources'] == report['revoked'] == 0,
             f'it was stopped: {report}')


class Phases:
    """Figures of the phases of one kind: alone, or beside others."""

    def __init__(self):
        self.seconds = self.frames = self.output = self.missed = self.cpu = 0

    def add(self, honest, pid, seconds):
        cpu = get_cpu_seconds(pid)
        took, frames, skipped, missed = honest.follow(seconds)
        self.cpu += get_cpu_seconds(pid) - cpu
        self.seconds += took
        self.frames += frames
        self.output += frames + skipped
        self.missed += missed

    @property
    def share(self):
        return self.frames / self.output

    @property
    def in_time(self):
        return self.output / (self.output + self.missed)

    @property
    def rate(self):
        return self.output / self.seconds

    def __str__(self):
        return (f'{self.rate:.2f} frames/s of the output, {100 * self.in_time:.2f} % of the '
                f'refreshes, of which the honest client had {100 * self.share:.2f} %; {100 * self.cpu / self.seconds:.1f} % of a processor')


def attack(compositor, n_clients, n_processes, seconds, honest, phases):
    attackers = compositor.start(
        'nice', '-n', '19', 'hoarder', '--clients', str(n_clients),
        '--processes', str(n_processes), *KINDS, stderr=None)
    phases.add(honest, compositor.process.pid, seconds)
    usage = get_usage(compositor.process.pid)
    report = json.loads(finish(attackers, 15))
    return usage, report


def compare(n_clients, n_processes, compositor):
    alone, beside = Phases(), Phases()
    honest = Honest(compositor)
    for _ in range(ROUNDS):
        alone.add(honest, compositor.process.pid, SECONDS)
        usage, report = attack(compositor, n_clients, n_processes, SECONDS, honest, beside)
        note(f'{describe(usage)}; they keep {report["bytes"] / MIB:.0f} MiB')
        for kind in KINDS:
            need(kind in report and report[kind]['connections'] > 0, f'no {kind}: {report}')
        need(usage.fds < usage.limit / 2, f'file descriptors: {usage}')
        need(usage.own + usage.shared <= MEMORY_CAP, f'memory: {usage}')
        honest.follow(2)  # for what has to be given back
    honest.end()
    note(f'alone: {alone}')
    note(f'beside {n_clients} hostile clients in {n_processes} processes: {beside}')
    need(beside.share >= FRAMES * alone.share, 'the honest client had fewer frames')
    need(beside.in_time >= REFRESHES * alone.in_time, 'the output missed refreshes')
    need(beside.rate >= RATE * alone.rate, 'the output had fewer frames')


def main():
    require('hoarder', 'weston-simple-shm')
    fixture = functools.partial(
        Compositor, ['vitrine-compositor', '-o', '1920x1080@60', '-s', 'weston-simple-shm'],
        preexec_fn=start_preferred)
    run_groups(Group([
        (f'an honest client and the output go on beside {n_clients} hostile clients in '
         f'{n_processes} processes', functools.partial(compare, n_clients, n_processes))
        for n_clients, n_processes in ((32, 4), (40, 40))
    ], fixture, 'the compositor ends as it should'))


if __name__ == '__main__':
    main()
