#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Unmodified sway, with the plugin, in a window of another compositor. Prints TAP.

usage: nested_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import functools
import os
import signal
import sys
import time

from harness import (Compositor, Group, PluginCompositor, collect, n_colors, need, note, require,
                     run_groups)

# What a person would not notice. The best of several, since the machine has other work too
LIMIT_S = 0.1
ATTEMPTS = 8

WESTON_CONFIG = '''[core]
shell=desktop-shell.so
[autolaunch]
path={start}
'''


class Weston(Compositor):
    stdout = 'stdout'  # it is a script that tells its socket

    def __init__(self):
        super().__init__(None)

    def launch(self, command, how):
        start, config = self.path('start'), self.path('weston.ini')
        start.write_text('#!/bin/sh\necho "WAYLAND_DISPLAY=$WAYLAND_DISPLAY" >ready\n')
        start.chmod(0o700)
        config.write_text(WESTON_CONFIG.format(start=start))
        super().launch(['weston', '--backend=headless', '--renderer=pixman', f'--config={config}',
                        '--idle-time=0'], how)


def start_sway():
    parent = PluginCompositor('sway', plugin=False)
    # Nothing moves in it by itself
    os.kill(parent.app, signal.SIGKILL)
    return parent


PARENTS = {
    'sway': start_sway,
    'vitrine-compositor': lambda: Compositor(['vitrine-compositor']),
    'weston': Weston,
}


CHILDREN = {
    'sway': functools.partial(PluginCompositor, 'sway'),
    'vitrine-compositor': functools.partial(Compositor, ['vitrine-compositor']),
}


@contextlib.contextmanager
def nested(name, child='sway'):
    """A compositor in that other one."""
    with PARENTS[name]() as parent:
        environment = {
            'WLR_BACKENDS': 'wayland',
            'WAYLAND_DISPLAY': str(parent.path(parent.env['WAYLAND_DISPLAY'])),
        }
        with CHILDREN[child](environment=environment) as compositor:
            yield compositor


def measure(compositor, n_colors_least=1):
    """Seconds until a new client has a frame."""
    start = time.monotonic()
    picture = compositor.raw_frames(1)[0]
    seconds = time.monotonic() - start
    need(n_colors(picture) >= n_colors_least, 'only one colour')
    return seconds


def measure_first_frame(sway):
    return min(measure(sway, 2) for _ in range(ATTEMPTS))


def need_fast(seconds):
    note(f'{seconds * 1000:.0f} ms')
    need(seconds <= LIMIT_S, f'{seconds * 1000:.0f} ms')


def test_still(sway):
    """a nested output that stands still is seen within 100 ms, as grim sees it"""
    with sway.frozen():
        need_fast(measure_first_frame(sway))
        need(sway.raw_frames(1)[0] == sway.grim(), 'a view differs from what grim sees')


def test_moving(sway):
    """a nested output that moves is seen within 100 ms, and in each frame"""
    need_fast(measure_first_frame(sway))
    frames = sway.raw_frames(30)
    need(len(set(frames)) > 15, f'only {len(set(frames))} of 30 frames are different')


def test_audit(sway):
    """the guarantee is kept against each attack on a nested output"""
    output = sway.run('vitrine', 'audit').stdout
    need('sealed' in output, output[-500:])


def make_untouched(parent, child):
    """The test of a compositor in which nothing moves, from its start on."""
    def test():
        with nested(parent, child) as compositor:
            if compositor.app is not None:
                os.kill(compositor.app, signal.SIGKILL)
            start = time.monotonic()
            first = compositor.raw_frames(1)[0]
            note(f'{(time.monotonic() - start) * 1000:.0f} ms')
            need_fast(min(measure(compositor) for _ in range(ATTEMPTS)))
            need(first == compositor.grim(), 'a view differs from what grim sees')
    return f'{child} in which nothing has ever moved is seen within 100 ms [in {parent}]', test


if __name__ == '__main__':
    require('sway', 'weston', 'weston-simple-shm', 'grim')
    shared = collect(globals(), sys.argv[1:])[0]
    run_groups(*(
        Group([(f'{name} [in {parent}]', function) for name, function in shared],
              functools.partial(nested, parent),
              f'a nested compositor starts, and ends as it should [in {parent}]')
        for parent in PARENTS), Group([make_untouched(parent, child) for parent in PARENTS
                                       for child in CHILDREN]))
