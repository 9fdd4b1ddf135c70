#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What vitrine-run runs, and how. Prints TAP.

The built commands are on PATH, as are the programs that it is tried on.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import Group, collect, need, run_groups

RUN = shutil.which('vitrine-run')
OTHERS = pathlib.Path(shutil.which('other-wlroots')).parent


def run(*arguments, **environment):
    done = subprocess.run([RUN, *arguments], capture_output=True, text=True, timeout=30,
                          check=False, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def need_refusal(program, reason):
    """The line, and that the program ran as it would have, or not with --strict."""
    status, stdout, stderr = run('--deadline', '5', program, 'argument')
    need(status == 42, f'status {status}: {stderr}')
    need(stdout == 'ran with argument, LD_PRELOAD unset, options gone\nplugin absent\n', stdout)
    need(stderr.count('\n') == 1 and 'without read-only views' in stderr, stderr)
    need(reason in stderr, stderr)
    status, stdout, stderr = run('--strict', program, 'argument')
    need(status == 1 and stdout == '', f'status {status}: {stdout}')
    need(stderr.count('\n') == 1 and 'not at all' in stderr, stderr)


def test_suitable():
    """a program that calls wlroots 0.20 gets the plugin, and its arguments"""
    for options in [], ['--strict']:
        status, stdout, stderr = run(*options, '--deadline', '5', OTHERS / 'suitable', '--strict')
        need(status == 42, f'status {status}: {stderr}')
        need(stdout == 'ran with --strict, LD_PRELOAD unset, options gone\nplugin loaded\n', stdout)
        need(stderr == '', stderr)


def test_policy():
    """a policy file that is wrong is one line with its place, and status 2"""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'policy.json')
        path.write_text('{ "default": { "deny": true } }')
        status, stdout, stderr = run('--policy', path, OTHERS / 'suitable', '--strict')
        need(status == 42 and 'plugin loaded' in stdout, stdout + stderr)
        path.write_text('{\n\n"default": { "deny": 1 } }')
        status, stdout, stderr = run('--policy', path, OTHERS / 'suitable', '--strict')
        need(status == 2 and stdout == '', f'status {status}: {stdout}')
        need(stderr == f'vitrine-run: {path}:3: "deny" is a number: it must be true\n', stderr)


def test_path():
    """the program is looked up in PATH"""
    status, stdout, stderr = run('suitable', PATH=f'/nonexistent:{OTHERS}')
    need(status == 42 and 'plugin loaded' in stdout, stdout + stderr)


# The program, and what vitrine-run says of it.
UNFIT = {
    'a program with another wlroots':
        ('other-wlroots', 'libwlroots-0.19.so rather than libwlroots-0.20.so'),
    'a program without wlroots': ('none', 'does not link libwlroots-0.20.so'),
    'a static program': ('static', 'linked statically'),
    'a program that does not call what the plugin needs':
        ('some', 'does not call wl_display_create()'),
}


def test_script():
    """a script runs without"""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'script')
        path.write_text(f'#!/bin/sh\nexec {OTHERS}/none "$@"\n')
        path.chmod(0o700)
        need_refusal(path, 'a script')


def test_damaged():
    """a program that is cut off or damaged does no harm"""
    data = (OTHERS / 'suitable').read_bytes()
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'program')
        for size in list(range(0, 4096, 61)) + list(range(4096, len(data), len(data) // 20)):
            # Everything up to `size`, and bytes with all bits set from there on
            for rest in b'', b'\xff' * (len(data) - size):
                path.write_bytes(data[:size] + rest)
                path.chmod(0o600)  # looked at, not run
                status, _, _ = run('--strict', path)
                need(status in (1, 126), f'{size} bytes: status {status}')


def test_not_found():
    """a program that is not there is 127"""
    need(run('/nonexistent/compositor')[0] in (1, 127), 'found')
    need(run('no-such-compositor')[0] == 127, 'found')


def test_usage():
    """wrong options are told, and nothing runs"""
    for arguments in (['--deadline', '5'], ['--allow', 'fd_read_only'],
                      ['--allow', 'sealed,fd_read_only']):
        need(run(*arguments, OTHERS / 'none')[0] == 42, f'a right one fails: {arguments}')
    for arguments in (['--deadline', 'soon'], ['--deadline', '0'], ['--deadline', '5x'],
                      ['--min-guarantee', 'strong'], ['--min-guarantee', ''], ['--allow', ''],
                      ['--allow', 'sealed,'], ['--allow', 'everything'],
                      ['--allow', 'x' * 4000], ['--unknown']):
        status, stdout, stderr = run(*arguments, OTHERS / 'none')
        need(status == 2 and stdout == '' and stderr != '', f'{arguments}: {status} {stdout}')
    need(run()[0] == 2, 'no compositor')
    status, stdout, _ = run('--help')
    need(status == 0 and '--min-guarantee' in stdout, stdout)
    status, stdout, _ = run('--version')
    need(status == 0 and stdout.startswith('vitrine-run '), stdout)


if __name__ == '__main__':
    unfit = [(f'{what} runs without', functools.partial(need_refusal, OTHERS / name, reason))
             for what, (name, reason) in UNFIT.items()]
    run_groups(Group(collect(globals())[0] + unfit))
