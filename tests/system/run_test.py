#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What vitrine-run runs, and how. Prints TAP.

The built commands are on PATH, as are the programs that it is tried on.
"""

import os
import shutil
import subprocess
import tempfile

from harness import Group, collect, need, run_groups

RUN = shutil.which('vitrine-run')
OTHERS = os.path.dirname(shutil.which('other-wlroots'))


def run(*arguments, **environment):
    done = subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=30,
                          check=False, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def other(name):
    return os.path.join(OTHERS, name)


def need_refusal(program, *reasons):
    """The line, and that the program ran as it would have, or not with --strict."""
    status, stdout, stderr = run('--deadline', '5', program, 'argument')
    need(status == 42, f'status {status}: {stderr}')
    need(stdout == 'ran with argument, LD_PRELOAD unset, options gone\nplugin absent\n', stdout)
    need(stderr.count('\n') == 1 and 'without read-only views' in stderr, stderr)
    for reason in reasons:
        need(reason in stderr, stderr)
    status, stdout, stderr = run('--strict', program, 'argument')
    need(status == 1 and stdout == '', f'status {status}: {stdout}')
    need(stderr.count('\n') == 1 and 'not at all' in stderr, stderr)


def test_suitable():
    """a program that calls wlroots 0.20 gets the plugin, and its arguments"""
    for options in [], ['--strict']:
        status, stdout, stderr = run(*options, '--deadline', '5', other('suitable'), '--strict')
        need(status == 42, f'status {status}: {stderr}')
        need(stdout == 'ran with --strict, LD_PRELOAD unset, options gone\nplugin loaded\n', stdout)
        need(stderr == '', stderr)


def test_path():
    """the program is looked up in PATH"""
    status, stdout, stderr = run('suitable', PATH=f'/nonexistent:{OTHERS}')
    need(status == 42 and 'plugin loaded' in stdout, stdout + stderr)


def test_other_wlroots():
    """a program with another wlroots runs without"""
    need_refusal(other('other-wlroots'), 'libwlroots-0.19.so rather than libwlroots-0.20.so')


def test_no_wlroots():
    """a program without wlroots runs without"""
    need_refusal(other('none'), 'does not link libwlroots-0.20.so')


def test_static():
    """a static program runs without"""
    need_refusal(other('static'), 'linked statically')


def test_missing_symbol():
    """a program that does not call what the plugin needs runs without"""
    need_refusal(other('some'), 'does not call wl_display_create()')


def test_script():
    """a script runs without"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'script')
        with open(path, 'w') as file:
            file.write(f'#!/bin/sh\nexec {other("none")} "$@"\n')
        os.chmod(path, 0o700)
        need_refusal(path, 'a script')


def test_damaged():
    """a program that is cut off or damaged does no harm"""
    with open(other('suitable'), 'rb') as file:
        data = file.read()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'program')
        for size in list(range(0, 4096, 61)) + list(range(4096, len(data), len(data) // 20)):
            # Everything up to `size`, and bytes with all bits set from there on
            for rest in b'', b'\xff' * (len(data) - size):
                with open(path, 'wb') as file:
                    file.write(data[:size] + rest)
                os.chmod(path, 0o600)  # looked at, not run
                status, _, _ = run('--strict', path)
                need(status in (1, 126), f'{size} bytes: status {status}')


def test_not_found():
    """a program that is not there is 127"""
    need(run('/nonexistent/compositor')[0] in (1, 127), 'found')
    need(run('no-such-compositor')[0] == 127, 'found')


def test_usage():
    """wrong options are told, and nothing runs"""
    need(run('--deadline', '5', other('none'))[0] == 42, 'a right one fails')
    for arguments in (['--deadline', 'soon'], ['--deadline', '0'], ['--deadline', '5x'],
                      ['--min-guarantee', 'strong'], ['--min-guarantee', ''], ['--unknown']):
        status, stdout, stderr = run(*arguments, other('none'))
        need(status == 2 and stdout == '' and stderr != '', f'{arguments}: {status} {stdout}')
    need(run()[0] == 2, 'no compositor')
    status, stdout, _ = run('--help')
    need(status == 0 and '--min-guarantee' in stdout, stdout)
    status, stdout, _ = run('--version')
    need(status == 0 and stdout.startswith('vitrine-run '), stdout)


if __name__ == '__main__':
    run_groups(Group(collect(globals())[0]))
