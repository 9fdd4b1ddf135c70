#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The real compositor, the real client and a real application, end to end. Prints TAP.

usage: e2e_test.py [machine], with the built commands on PATH. With "machine", only what
needs no compositor. What there is to test depends on the place: the host needs no device.
"""

import collections
import functools
import json
import os
import subprocess
import sys

from harness import PLACE, Group, ReferenceCompositor, find_card, need, note, run, run_groups

ALL = {'sealed', 'guarded', 'fd_read_only', 'snapshot'}
BACKENDS = {
    'host': {'sealed', 'snapshot'},
    'uml': {'sealed', 'ioctl', 'guard', 'prime', 'snapshot'},
    'vm': {'sealed', 'guard', 'prime', 'snapshot'},
}
CARD = find_card()
# The backend and the environment of the compositor, and what it can give by place
CONFIGURATIONS = {
    'headless pixman': ('headless', {}, {
        'host': {'sealed', 'snapshot'},
        'uml': ALL,
        'vm': {'sealed', 'guarded', 'snapshot'},
    }),
    'headless gles2': ('headless', {'WLR_RENDERER': 'gles2'}, {'uml': ALL}),
    'drm pixman': ('drm', {}, {'uml': ALL}),
    'headless pixman dumb, prime': ('headless', {
        'VITRINE_ALLOCATOR': f'dumb:{CARD}',
        'VITRINE_BACKENDS': 'prime,sealed,snapshot',
    }, {'uml': {'fd_read_only', 'snapshot'}}),
    'drm pixman dumb': ('drm', {'VITRINE_ALLOCATOR': 'dumb'}, {
        'uml': {'guarded', 'fd_read_only', 'snapshot'},
    }),
    # What a holder of an owner's own dma-buf does to its fences stops page flips
    'drm pixman dumb, prime': ('drm', {
        'VITRINE_ALLOCATOR': 'dumb',
        'VITRINE_BACKENDS': 'prime,sealed,snapshot',
    }, {'uml': {'snapshot'}}),
    'drm pixman, guard module': ('drm', {'VITRINE_BACKENDS': 'guard,sealed,snapshot'}, {
        'uml': {'guarded', 'sealed', 'snapshot'},
    }),
    'drm gles2': ('drm', {'WLR_RENDERER': 'gles2'}, {'uml': ALL}),
}
DEVICES = {
    'WLR_DRM_DEVICES': CARD,
    'WLR_RENDER_DRM_DEVICE':
        '/dev/dri/renderD128' if os.path.exists('/dev/dri/renderD128') else None,
    # Several raster threads, or what is only flushed would be finished by chance
    'LP_NUM_THREADS': '4',
}


def watch(compositor, guarantee, frames):
    return json.loads(compositor.run(
        'vitrine', 'watch', '--json', '--guarantee', guarantee, '--frames', str(frames)).stdout)


def need_kept(report, guarantee=None):
    """No attack that a promise excludes got through."""
    need(report['audit'], 'nothing was tried')
    kinds = collections.Counter(f"{guarantee or row['guarantee']} {row.get('exporter') or 'session'}"
                                for row in report['audit'])
    for kind, number in kinds.items():
        note(f'figure: {number} attacks: {kind}')
    broken = [row for row in report['audit']
              if row['expected'] == 'refused' and row['result'] == 'allowed']
    need(not broken, f'broken: {broken}')


def test_frames(compositor, guarantee):
    """frames have the guarantee asked for, and file descriptors come with buffers only"""
    frames = 600 if PLACE == 'host' else 45
    report = watch(compositor, guarantee, frames)
    need(report['frames'] == frames, f'frames: {report}')
    need(report['guarantee'] == guarantee, f'guarantee: {report}')
    expected = 'memfd' if guarantee in ('sealed', 'snapshot') else 'mapped-dmabuf'
    need(report['storage'] == expected, f'storage: {report}')
    need(report['fds_received'] == report['distinct_buffers'] <= 8, f'fds: {report}')
    need(report['revoked'] == 0, f'revoked: {report}')


def test_audit(compositor, guarantee):
    """the guarantee is kept against each attack"""
    need_kept(json.loads(compositor.run(
        'vitrine', 'audit', '--no-machine', '--json', '--guarantee', guarantee).stdout), guarantee)


def test_fence_attack(compositor, guarantee):
    """neither the output nor an honest client waits for the fence of a holder"""
    before = watch(compositor, guarantee, 45)
    attacker = compositor.start('fence_attacker', guarantee, '30', stderr=None)
    line = attacker.stdout.readline()
    need('fences taken' in line, f'the attacker did not get that far: {line}')
    during = watch(compositor, guarantee, 60)
    need(during['skipped'] <= 12, f'skipped: {during}')
    need(during['fps'] >= 0.4 * before['fps'], f'before {before}, during {during}')


def test_two_sessions(compositor, guarantee):
    """two sessions both get each frame, while the output keeps its rate"""
    alone = watch(compositor, guarantee, 45)
    compositor.start('vitrine', 'watch', '--json', '--guarantee', guarantee, '--frames', '10000',
                     stdout=subprocess.DEVNULL, stderr=None)
    both = watch(compositor, guarantee, 60)
    need(both['skipped'] <= 6, f'skipped: {both}')
    need(both['fps'] >= 0.5 * alone['fps'], f'alone {alone}, with another {both}')


def test_unsupported(compositor, guarantee):
    """what cannot be given is refused, and never given as something else"""
    done = compositor.run(
        'vitrine', 'watch', '--json', '--guarantee', guarantee, '--frames', '1', status=1)
    need('guarantee' in done.stderr, f'message: {done.stderr}')


def test_machine_audit():
    """every backend on every exporter keeps its promises"""
    report = json.loads(run('vitrine', 'audit', '--no-session', '--json').stdout)
    exercised = {entry['name'] for entry in report['backends'] if entry['exercised']}
    need(exercised == BACKENDS[PLACE], f'exercised: {sorted(exercised)}')
    need_kept(report)


def list_cases(gives):
    """Each test with the guarantee that it is about."""
    for guarantee in sorted(gives):
        yield test_frames, guarantee
        yield test_audit, guarantee
    if PLACE == 'uml':
        for guarantee in sorted(gives - {'sealed', 'snapshot'}):
            yield test_fence_attack, guarantee
    if PLACE != 'vm':
        yield test_two_sessions, min(gives)
    for guarantee in sorted(ALL - gives):
        yield test_unsupported, guarantee


def make_group(name, backend, environment, gives):
    tests = [(f'{test.__doc__} [{name}, {guarantee}]', functools.partial(test, guarantee=guarantee))
             for test, guarantee in list_cases(gives)]
    fixture = functools.partial(ReferenceCompositor, '--backend', backend,
                                '--allow', 'fd_read_only',
                                environment=DEVICES | environment)
    return Group(tests, fixture, f'the compositor starts, and ends as it should [{name}]')


def main():
    groups = [Group([(test_machine_audit.__doc__, test_machine_audit)])]
    if sys.argv[1:] != ['machine']:
        groups += [make_group(name, backend, environment, gives[PLACE])
                   for name, (backend, environment, gives) in CONFIGURATIONS.items()
                   if PLACE in gives]
    run_groups(*groups)


if __name__ == '__main__':
    main()
