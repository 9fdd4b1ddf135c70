#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Policy files, and the sessions that a user lists and stops, with vitrine-compositor. Prints TAP.

usage: policy_test.py [TEST...], with the built commands on PATH
"""

import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile

from harness import (Group, ReferenceCompositor, collect, finish, given, need, require, run,
                     run_groups)
from policy import ALLOW, DENY, WRONG, list_sessions, policy_fixture

VITRINE = os.path.realpath(shutil.which('vitrine') or 'vitrine')

def given_policy(policy, *options):
    def start(path):
        return ReferenceCompositor('-v', '--policy', path, *options)
    return given(policy_fixture, policy, start, 'stderr')


def test_wrong_file():
    """a wrong file is one line with its place, and status 2"""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / 'policy.json'
        path.write_text(WRONG)
        done = run('vitrine-compositor', '--policy', str(path), status=2)
        need(done.stderr == f'vitrine-compositor: {path}:2: unknown key "exectuable" '
             '(known: match, allow, min-guarantee, deny, storages)\n', done.stderr)
        path.unlink()
        done = run('vitrine-compositor', '--policy', str(path), status=2)
        need(done.stderr == f'vitrine-compositor: {path}: No such file or directory\n', done.stderr)


test_wrong_file.alone = True


@given_policy({'rules': [{'match': {'executable': VITRINE}, 'allow': ['sealed']}], **DENY})
def test_executable(policy):
    """a program is allowed by its path, and the same one elsewhere is not"""
    policy.shot()
    need(policy.allowed() == {'sealed'}, policy.allowed())
    copy = policy.compositor.path('vitrine')
    shutil.copy(VITRINE, copy)
    need('policy denies' in policy.shot(str(copy), status=1).stderr, 'it was not denied')


@given_policy({'rules': [{'match': {'source': 'HEADLESS-2'}, 'deny': True}], **ALLOW},
              '-o', '640x480', '-o', '640x480')
def test_source(policy):
    """an output is denied, and another one is not"""
    policy.shot('vitrine')
    policy.compositor.run('vitrine', 'shot', '-o', 'HEADLESS-1', 'shot.png')
    done = policy.compositor.run('vitrine', 'shot', '-o', 'HEADLESS-2', 'shot.png', status=1)
    need('policy denies' in done.stderr, done.stderr)


@given_policy({'default': {'allow': ['sealed'], 'storages': ['memfd']}})
def test_storages(policy):
    """storages are restricted"""
    policy.shot()
    policy.write({'default': {'allow': ['sealed'], 'storages': ['dmabuf']}})
    policy.hang_up()
    policy.shot(status=1)


@given_policy(ALLOW)
def test_reload(policy):
    """SIGHUP has the file read again, which ends what is not allowed any more"""
    watch = policy.compositor.start('vitrine', 'watch')
    need('fps' in watch.stdout.readline(), 'no line of vitrine watch')
    policy.hang_up()
    need(watch.poll() is None, 'a file that is the same has ended a session')
    policy.write(DENY)
    policy.hang_up()
    output = finish(watch)
    need(watch.returncode == 1 and 'denies' in output, output)
    policy.shot(status=1)
    policy.write(ALLOW)
    policy.hang_up()
    policy.shot()


@given_policy(ALLOW)
def test_wrong_reload(policy):
    """a wrong file leaves the old policy as it is, and the log says so"""
    watch = policy.compositor.start('vitrine', 'watch')
    need('fps' in watch.stdout.readline(), 'no line of vitrine watch')
    policy.write(WRONG)
    line = policy.hang_up()
    need(f'the policy stays as it was: {policy.path}:2: unknown key "exectuable"' in line, line)
    done = policy.compositor.run('vitrine', 'sessions', '--reload', status=1)
    need(done.stderr.startswith(f'vitrine: {policy.path}:2: unknown key'), done.stderr)
    policy.path.unlink()
    need('No such file' in policy.hang_up(), 'a file that is gone is not told of')
    need(watch.poll() is None, 'it has ended a session')
    policy.shot()
    policy.write(DENY)
    policy.compositor.run('vitrine', 'sessions', '--reload')
    policy.shot(status=1)


def start_with_link(path):
    link = pathlib.Path(path).with_name('link-to-policy.json')
    link.symlink_to(path)
    return ReferenceCompositor('-v', '--policy', str(link))


@given(policy_fixture, DENY, start_with_link, 'stderr')
def test_link(policy):
    """a symbolic link is followed to where it leads when the file is read again"""
    policy.shot(status=1)
    other = policy.path.with_name('other.json')
    other.write_text(json.dumps(ALLOW))
    link = policy.path.with_name('link-to-policy.json')
    link.unlink()
    link.symlink_to(other)
    policy.hang_up()
    policy.shot()


SANDBOXED = {'match': {'engine': '*', 'app-id': 'org.example.*'}, 'allow': ['snapshot']}


@given_policy({'rules': [SANDBOXED], **ALLOW})
def test_sandboxed(policy):
    """a sandboxed client needs a rule that names it"""
    sandbox = functools.partial(policy.shot, 'sandbox')
    sandbox('org.example.App', 'vitrine')
    sandbox('org.other.App', 'vitrine', status=1)
    policy.write(ALLOW)
    policy.hang_up()
    sandbox('org.example.App', 'vitrine', status=1)
    policy.shot()


@given_policy(ALLOW)
def test_sessions(policy):
    """sessions are listed, and the one that is named is stopped"""
    need(list_sessions(policy.compositor) == [], list_sessions(policy.compositor))
    watches = [policy.compositor.start('vitrine', 'watch') for _ in range(2)]
    for watch in watches:
        need('fps' in watch.stdout.readline(), 'no line of vitrine watch')
    sessions = {session['pid']: session for session in list_sessions(policy.compositor)}
    need(set(sessions) == {watch.pid for watch in watches}, sessions)
    one = sessions[watches[0].pid]
    need(one['executable'] == VITRINE and one['comm'] == 'vitrine' and one['frames'] > 0 and
         one['source'] == 'HEADLESS-1' and one['guarantee'] == 'sealed', one)
    text = policy.compositor.run('vitrine', 'sessions').stdout
    need(f'{one["id"]}: HEADLESS-1, sealed in a memfd, vitrine (pid {one["pid"]}, {VITRINE}), '
         in text, text)

    policy.compositor.run('vitrine', 'sessions', '--stop', str(one['id']))
    output = finish(watches[0])
    need(watches[0].returncode == 1 and 'ended the session' in output, output)
    need([session['pid'] for session in list_sessions(policy.compositor)] == [watches[1].pid], list_sessions(policy.compositor))
    done = policy.compositor.run('vitrine', 'sessions', '--stop', str(one['id']), status=1)
    need(done.stderr == f'vitrine: there is no session {one["id"]}\n', done.stderr)


@given_policy(ALLOW)
def test_watch_sessions(policy):
    """sessions are watched as they start and end"""
    watcher = policy.compositor.start('vitrine', 'sessions', '--watch', '--json')
    looker = policy.compositor.start('vitrine', 'watch', '--frames', '5')
    finish(looker)
    events = []
    for line in watcher.stdout:  # it may have come before the first of these, or after
        one = json.loads(line)
        session = one.get('session', one)
        need(session['pid'] == looker.pid, line)
        events.append(one.get('event', 'there'))
        if events[-1] == 'stop':
            need(session['frames'] >= 5, line)
            break
    need(len(events) > 1 and len(set(events)) == len(events), events)


@given_policy(ALLOW)
def test_no_compositor(policy):
    """without a control socket one line says so"""
    env = {**policy.compositor.env, 'WAYLAND_DISPLAY': 'wayland-none'}
    done = run('vitrine', 'sessions', env=env, status=1)
    need(f'no control socket at {policy.compositor.dir}/vitrine-wayland-none.control: '
         'No such file or directory' in done.stderr, done.stderr)
    for wrong in (['--stop', '0'], ['--stop', 'x'], ['--stop', '1', '--watch'], ['x']):
        run('vitrine', 'sessions', *wrong, env=env, status=2)


def main():
    require('vitrine', 'vitrine-compositor', 'weston-simple-shm', 'sandbox')
    shared, alone = collect(globals(), sys.argv[1:])
    need(not shared, 'all have a policy of their own')
    run_groups(Group(alone))


if __name__ == '__main__':
    main()
