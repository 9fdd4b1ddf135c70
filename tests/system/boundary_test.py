#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hostile clients attack the whole product from outside: what they keep is bounded, and an
honest client goes on beside them. Prints TAP.

usage: boundary_test.py [TEST...], with the built commands on PATH

Each attack is shown to work first, as far as it is to be possible. See hoarder.c for what the
clients do.
"""

import contextlib
import fcntl
import functools
import json
import os
import resource
import select
import sys
import time

from harness import (LIMIT, Compositor, Group, PluginCompositor, collect, finish, given, need,
                     note, require, run_groups)
from usage import MIB, describe, get_usage, read_limit, wait_until

# What the clients of one process can make the compositor keep
CAP = read_limit('retired memory')[2] + read_limit('copies of frames')[2]
# Of a compositor that may have 1024
FDS_LIMIT = 1024
# Buffers of the output and of copies, memory that is made in advance, and what a session is
# shown that still runs
LIVE = 160 * MIB
SECONDS = 12


class LimitedCompositor(Compositor):
    """vitrine-compositor at 1080p60, which may have 1024 file descriptors and no more."""

    def __init__(self, size='1920x1080@60'):
        super().__init__(['vitrine-compositor', '-o', size, '-s', 'weston-simple-shm'],
                         preexec_fn=functools.partial(
                             resource.setrlimit, resource.RLIMIT_NOFILE, (FDS_LIMIT, FDS_LIMIT)))

    def get_usage(self):
        return get_usage(self.process.pid)


class Honest:
    """An honest client, from before an attack until after it."""

    def __init__(self, compositor):
        self.client = compositor.start('hoarder', 'honest', stderr=None)
        need(any(int(line.split()[1]) for line in self.client.stdout), 'no frame')

    def need_going_on(self):
        """It has not been stopped, and frames come."""
        self.client.terminate()
        *lines, report = finish(self.client).splitlines()
        frames = [int(line.split()[1]) for line in lines]
        report = json.loads(report)['honest']
        need(report['sessions'] == 1 and not any(
            report[reason] for reason in ('no_resources', 'revoked', 'disconnected')),
            f'the honest client was stopped: {report}')
        need(len(frames) >= 5 and frames[-1] > frames[-5], f'the honest client gets no frames any more: {frames}')
        note(f'the honest client had {frames[-1]} frames')


def need_bounded(compositor, report, cap):
    usage = compositor.get_usage()
    note(f'they keep {report["bytes"] / MIB:.0f} MiB; the compositor: {describe(usage)}')
    need(report['bytes'] <= cap, f'kept: {report}')
    need(usage.fds < usage.limit / 2, f'file descriptors: {usage}')
    need(usage.shared <= cap, f'memory: {usage}')


def need_given_back(compositor, before):
    """What was kept until the attackers ended is the compositor's no more."""
    need(wait_until(lambda: compositor.get_usage().fds <= before.fds + 8, LIMIT),
         f'before {before}, now {compositor.get_usage()}')


def attack(compositor, *arguments, n_holders=1):
    """By the clients of so many processes. Returns what they kept, once they are gone."""
    compositor.run('vitrine', 'watch', '--json', '--frames', '10')  # what is made once
    before = compositor.get_usage()
    honest = Honest(compositor)
    attackers = compositor.start('hoarder', '--pieces', '100000', '--seconds', str(SECONDS),
                                 '--processes', str(n_holders), *arguments, stderr=None)
    report = json.loads(attackers.stdout.readline())
    need_bounded(compositor, report, n_holders * CAP + LIVE)
    honest.need_going_on()
    finish(attackers, 15)
    need_given_back(compositor, before)
    return report


def test_pins_are_not_seen():
    """a byte in a pipe keeps memory that the lease calls ours alone"""
    made = os.memfd_create('pinned', os.MFD_CLOEXEC)
    os.write(made, b'x' * 4096)
    # Only what was opened counts for leases
    fd = os.open(f'/proc/self/fd/{made}', os.O_RDWR)
    os.close(made)
    pipe_read, pipe_write = os.pipe()
    need(os.splice(fd, pipe_write, 1, offset_src=0) == 1, 'no splice')
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(fd)
    need(os.read(pipe_read, 1) == b'x', 'the memory is gone')
    os.close(pipe_read)
    os.close(pipe_write)


@given(LimitedCompositor)
def test_splice(compositor):
    """memory in pipes, with no file descriptor and no map, counts like any other"""
    report = attack(compositor, 'splice')
    need(report['pins'] > 16 and report['bytes'] > 64 * MIB, f'no attack: {report}')


@given(LimitedCompositor)
def test_sockets(compositor):
    """memory in sockets, with no file descriptor and no map, counts like any other"""
    report = attack(compositor, 'send')
    need(report['pins'] > 16 and report['bytes'] > 64 * MIB, f'no attack: {report}')


@given(LimitedCompositor)
def test_hoard(compositor):
    """two processes that keep what they may end no other client's session"""
    report = attack(compositor, 'keep', 'map', n_holders=2)
    for kind in 'keep', 'map':
        need(report[kind]['shown'] > 4, f'no attack: {report}')
    need(report['bytes'] > CAP, f'no attack: {report}')


@given(LimitedCompositor)
def test_passed_sockets(compositor):
    """connections of processes that are gone cost no more than those of one that is there"""
    report = attack(compositor, *6 * ['pass'])  # which are one holder together
    need(report['pass']['connections'] >= 71 and report['pass']['shown'] > 16,
         f'no attack: {report}')


@given(functools.partial(LimitedCompositor, '256x256@60'))
def test_cost(compositor):
    """a request for a session costs no more if the client keeps what it may"""
    before, after = map(json.loads, compositor.run(
        'hoarder', '--cost', '1000', '--pieces', '1000', '--seconds', str(2 * SECONDS),
        'keep').stdout.splitlines())
    note(f'{before}\n{after}')
    need(after['pieces'] >= 32, f'no attack: {after}')
    need(after['session_ns'] <= 2 * before['session_ns'] + 1000, f'before {before}, after {after}')


class LoggingCompositor(PluginCompositor):
    """sway whose log is a pipe, of which this process has both ends."""

    def __init__(self):
        self.log_read, self.log_write = os.pipe()
        super().__init__('sway')

    def launch(self, command, how):
        super().launch(command, how | {'pass_fds': [self.log_write]})

    def make_run_command(self):
        # Not into the harness's file
        return ['sh', '-c', f'exec "$@" 2>&{self.log_write}', 'sh', 'vitrine-run', '--strict', '--']

    def stop(self):
        problem = super().stop()
        os.close(self.log_read)
        os.close(self.log_write)
        return problem


def fill(fd):
    """Until not a byte more fits. By a description of its own, as the other one may block."""
    writer = os.open(f'/proc/self/fd/{fd}', os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        for size in 4096, 1:
            while True:
                os.write(writer, b'\n' * size)
    os.close(writer)


def wait_for_line(fd, text):
    data, end = b'', time.monotonic() + LIMIT
    while text.encode() not in data:
        need(select.select([fd], [], [], max(0, end - time.monotonic()))[0],
             f'no "{text}" in {data}')
        data += os.read(fd, 4096)


@given(LoggingCompositor)
def test_log(compositor):
    """a log that is read by no process stops neither frames nor the compositor's answers"""
    honest = Honest(compositor)
    wait_for_line(compositor.log_read, 'capture start')
    fill(compositor.log_write)
    report = json.loads(compositor.run('hoarder', '--seconds', '3', 'churn').stdout)
    need(report['churn']['shown'] > 8, f'nothing was to be logged: {report}')
    compositor.swaymsg('-t', 'get_version')
    honest.need_going_on()


def main():
    require('weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group(shared + alone))


if __name__ == '__main__':
    main()
