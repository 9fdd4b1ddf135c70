#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of vitrine-compositor, and its screen lock. Prints TAP.

usage: reference_test.py [TEST...], with the built commands on PATH
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from harness import (Compositor, Group, ReferenceCompositor, collect, finish, given,
                     make_environment, need, require, run, run_groups)
from picture import need_same, take_shot

# Command lines, and what is said of them
WRONG = [
    (['-o', '640'], 'not an output mode like 1280x720@60: 640'),
    (['-o', '0x480'], 'not an output mode like 1280x720@60: 0x480'),
    (['-o', '640x16385'], 'not an output mode like 1280x720@60: 640x16385'),
    (['-o', '640x480@'], 'not an output mode like 1280x720@60: 640x480@'),
    (['-o', '640x480@0.5'], 'not an output mode like 1280x720@60: 640x480@0.5'),
    (['-o', '640x480@nan'], 'not an output mode like 1280x720@60: 640x480@nan'),
    (['-o', '640x480@60Hz'], 'not an output mode like 1280x720@60: 640x480@60Hz'),
    (['-o', '64x64'] * 17, 'too many outputs'),
    (['-b', '12345'], 'not a colour like 20242c: 12345'),
    (['-b', '12345g'], 'not a colour like 20242c: 12345g'),
    (['--allow', 'all'], 'no guarantees like fd_read_only: all'),
    (['-x'], '--exit-with-startup needs --startup'),
    (['-v', 'more'], 'unexpected argument: more'),
]


def test_wrong_options():
    """a wrong command line is one line that names what is wrong, and status 1"""
    for options, message in WRONG:
        done = run('vitrine-compositor', *options, status=1)
        need(done.stderr == f'vitrine-compositor: {message}\n', done.stderr)
        need(done.stdout == '', done.stdout)
    need('--nothing' in run('vitrine-compositor', '--nothing', status=1).stderr, 'it is not named')


def test_help():
    """the help and the version go to standard output"""
    done = run('vitrine-compositor', '--help')
    need(done.stdout.startswith('Usage: vitrine-compositor ') and not done.stderr, done)
    for option in '--output', '--policy', '--no-stock-capture':
        need(option in done.stdout, f'{option} is not in it')
    name, version = run('vitrine-compositor', '-V').stdout.split()
    need(name == 'vitrine-compositor' and version == run('vitrine', '--version').stdout.split()[1],
         f'{name} {version}')


def start_in(directory, *options, status, **environment):
    changes = {'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman',
               'XDG_RUNTIME_DIR': directory, **environment}
    return run('vitrine-compositor', *options, env=make_environment(changes), status=status)


def test_exit_with_startup():
    """it ends with the status of what it has started, which finds the socket"""
    with tempfile.TemporaryDirectory() as directory:
        for command, status in (('test -S $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY', 0), ('exit 7', 7),
                                ('kill -KILL $$', 128 + signal.SIGKILL)):
            done = start_in(directory, '--socket', 'here', '-x', '-s', command, status=status)
            need(done.stdout == 'WAYLAND_DISPLAY=here\n', done.stdout)
        need(not os.listdir(directory), os.listdir(directory))


def test_failed_start():
    """without a place for its socket or without a backend it says so and fails"""
    with tempfile.TemporaryDirectory() as directory:
        done = start_in(directory, '-x', '-s', 'true', status=1, XDG_RUNTIME_DIR=None)
        need('XDG_RUNTIME_DIR is not set' in done.stderr, done.stderr)
        missing = str(pathlib.Path(directory) / 'missing')
        done = start_in(directory, '-x', '-s', 'true', status=1, XDG_RUNTIME_DIR=missing)
        need(f'cannot listen on a socket in {missing}' in done.stderr, done.stderr)
        for backend in 'nothing', 'wayland':
            done = start_in(directory, '--backend', backend, '-x', '-s', 'true', status=1,
                            WAYLAND_DISPLAY='missing')
            need('cannot create the backend' in done.stderr, done.stderr)
        done = start_in(directory, '-x', '-s', 'true', status=1, WLR_RENDERER='gles2',
                        WLR_RENDER_DRM_DEVICE=missing)
        need('cannot create the renderer' in done.stderr, done.stderr)


@given(Compositor, ['vitrine-compositor', '-b', '8040c0', '-o', '64x48@50', '--output', '96x32'])
def test_outputs(compositor):
    """it has the outputs that were asked for, in the colour that was asked for"""
    for name, width, height in ('HEADLESS-1', 64, 48), ('HEADLESS-2', 96, 32):
        need_same(take_shot(compositor, '-o', name),
                  (width, height, bytes((0x80, 0x40, 0xc0)) * (width * height)), name)
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-3', 'shot.png', status=1)


@given(ReferenceCompositor, '--no-stock-capture')
def test_no_stock_capture(compositor):
    """the stock protocols can be left out, and views are there all the same"""
    compositor.run('vitrine', 'shot', 'shot.png')
    with ReferenceCompositor() as other:
        other.grim()
    compositor.run('grim', 'grim.png', status=1)


APP = 'org.freedesktop.weston.simple-shm'


def start_looking(compositor, app_id):
    """A client that has seen a window and goes on to do so; and the line of the first view."""
    looker = compositor.start('toplevel', '1000000', app_id)
    line = looker.stdout.readline()
    need(line.startswith('view '), f'no view: {line}')
    return looker, line


@given(ReferenceCompositor, '-o', '640x480')
def test_window(compositor):
    """a window is viewed on its own as long as it is there, at the pace of its screen"""
    output = compositor.run('toplevel', '60', APP).stdout
    need(set(re.findall(r'^view .*$', output, re.MULTILINE)) == {'view 616x456 sealed'}, output)
    found = re.search(r'^frames 60 different (\d+) rate ([\d.]+)$', output, re.MULTILINE)
    need(found and int(found[1]) > 30 and float(found[2]) < 60 * 60 / (60 - 3), output)
    terminal = ('foot', '--config=/dev/null')
    window = compositor.start(*terminal, 'sleep', '1000', stdout=subprocess.DEVNULL)
    looker, first = start_looking(compositor, 'foot')
    compositor.start(*terminal, '--app-id=other', 'sleep', '1000', stdout=subprocess.DEVNULL)
    line = first
    while line.split()[:2] == first.split()[:2]:
        line = looker.stdout.readline()
        need(line.startswith('view '), f'{first} and then: {line}')
    finish(window, signal.SIGTERM)
    output = finish(looker)
    need('stopped 0' in output, output)


@given(ReferenceCompositor)
def test_window_behind_lock(compositor):
    """no window is to be had while the screen is locked"""
    looker, _ = start_looking(compositor, APP)
    locker = lock(compositor)
    output = finish(looker)
    need('stopped 3' in output, output)
    output = finish(compositor.start('toplevel', '1', APP))
    need('stopped 3\nframes 0 ' in output, output)
    finish(locker, signal.SIGUSR1)
    compositor.run('toplevel', '5', APP)


def lock(compositor):
    """A locker, once it has been told that the screen is locked."""
    ready, ready_child = os.pipe()
    locker = compositor.start('swaylock', '--color', 'ff0000', '--ready-fd', str(ready_child),
                              pass_fds=[ready_child])
    os.close(ready_child)
    with open(ready, 'rb') as pipe:
        need(pipe.read(1) == b'\n', 'no lock: ' + (finish(locker) if locker.poll() else ''))
    return locker


def need_lock_kept(compositor):
    """Nothing of the screen is to be had."""
    done = compositor.run('vitrine', 'shot', 'shot.png', status=1)
    need('locked' in done.stderr, done.stderr)


@given(ReferenceCompositor, '-o', '640x480', '-o', '320x240')
def test_lock(compositor):
    """a session stops with "locked", and there is none before the screen is unlocked"""
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-1', 'shot.png')
    session = compositor.start('vitrine', 'watch', '-o', 'HEADLESS-1')
    need('fps' in session.stdout.readline(), 'no line of vitrine watch')
    locker = lock(compositor)
    output = finish(session)
    need(session.returncode != 0 and 'locked' in output, output)
    for name in 'HEADLESS-1', 'HEADLESS-2':
        done = compositor.run('vitrine', 'shot', '-o', name, 'shot.png', status=1)
        need('locked' in done.stderr, done.stderr)
    need(compositor.start('swaylock').wait() != 0, 'a second locker was let in')
    need(locker.poll() is None, 'a second locker has ended the first one')
    finish(locker, signal.SIGUSR1)
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-2', 'shot.png')


@given(ReferenceCompositor)
def test_dead_locker(compositor):
    """a locker that dies leaves the screen locked, and another one may unlock it"""
    # Killed once it has locked, or for a protocol error in the same breath
    for die in (lambda: finish(lock(compositor), signal.SIGKILL),
                lambda: compositor.run('locker')):
        compositor.run('vitrine', 'shot', 'shot.png')
        die()
        need_lock_kept(compositor)
        locker = lock(compositor)
        need_lock_kept(compositor)
        finish(locker, signal.SIGUSR1)
    compositor.run('vitrine', 'shot', 'shot.png')


def main():
    require('vitrine', 'vitrine-compositor', 'weston-simple-shm', 'grim', 'swaylock', 'locker',
            'toplevel', 'unpng', 'foot')
    shared, alone = collect(globals(), sys.argv[1:])
    need(not shared, 'all start what they look at')
    run_groups(Group(alone))


for test in (test_wrong_options, test_help, test_exit_with_startup, test_failed_start):
    test.alone = True

if __name__ == '__main__':
    main()
