#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What harness.py has to notice, and to say in TAP. Prints TAP."""

import contextlib
import functools
import io
import os
import subprocess
import time
from unittest import mock

import harness
from harness import (Compositor, Failure, Group, Skip, Tap, collect, given, need, need_raised,
                     run_groups, skip_if)

# The least that is taken for a compositor.
FAKE = 'echo WAYLAND_DISPLAY=fake; exec sleep 1000'


class FakeCompositor(Compositor):
    good_statuses = (-15,)

    def __init__(self, script=FAKE):
        super().__init__(['sh', '-c', script])


# What takes longer than a second is a failure.
impatience = functools.partial(mock.patch.object, harness, 'LIMIT', 1)


def print_tap(function):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        function()
    return out.getvalue()


def print_group(*arguments):
    group = Group(*arguments)
    return print_tap(lambda: group.run(Tap(len(group))))


def need_lines(text, *lines):
    for line in lines:
        need(line in text.splitlines(), f'no line {line}: {text}')


def need_failure(words, function, *arguments):
    failure = need_raised(Failure, function, *arguments)
    need(words in str(failure), failure)


def fail(*_):
    need(False, 'what\nwent wrong')


def skip(*_):
    raise Skip('there is none')


def test_points():
    """a point passes, fails with the reason and its line, or is skipped with the reason"""
    tap = print_tap(lambda: [tap := Tap(3), tap.check('a "b"', lambda: None),
                             tap.check('c', fail), tap.check('d', skip)])
    line = fail.__code__.co_firstlineno + 1
    need(tap == f"TAP version 13\n1..3\nok 1 - a 'b'\n# Failure, line {line}: what\n"
         '# went wrong\nnot ok 2 - c\nok 3 - d # SKIP there is none\n', tap)


def test_status():
    """the status of a program tells whether a point has failed"""
    for function, status in (skip, 0), (fail, 1):
        end = need_raised(SystemExit, print_tap, lambda: run_groups(Group([('a', function)])))
        need(int(end.code) == status, end.code)


def test_limit():
    """a point that takes too long fails"""
    def hang():
        with harness.limited(1):
            time.sleep(10)
    need('not done within 1 s' in print_tap(lambda: Tap(1).check('a', hang)), 'no limit')


def test_decorators():
    """a test with a fixture of its own gets it, but for one that is skipped"""
    opened = []

    @contextlib.contextmanager
    def fixture(name):
        opened.append(name)
        yield name + '!'

    @given(fixture, 'x')
    def test_alone(thing):
        """first line

        another"""
        opened.append(thing)

    @skip_if(True, 'not here')
    @given(fixture, 'y')
    def test_skipped(_):
        """second line"""

    @skip_if(False, 'not here')
    def test_shared(_):
        """third line"""

    shared, alone = collect(locals())
    need([name for name, _ in shared] == ['third line'], shared)
    need([name for name, _ in alone] == ['first line', 'second line'], alone)
    need_lines(print_group(alone),
               'ok 1 - first line', 'ok 2 - second line # SKIP not here')
    need(opened == ['x', 'x!'], opened)
    need(collect(locals(), ['test_skipped'])[0] == [], 'only those asked for')


def test_group():
    """the last point of a group is that its compositor starts, and ends as it should"""
    tests = [('a', lambda compositor: None), ('b', fail)]
    good = print_group(tests, FakeCompositor, 'life')
    need_lines(good, 'ok 1 - a', 'not ok 2 - b', 'ok 3 - life')
    bad = print_group(tests, functools.partial(FakeCompositor, 'exit 1'), 'life')
    need_lines(bad, 'not ok 1 - a', 'not ok 2 - b', 'not ok 3 - life')


def test_start():
    """a compositor that ends, says something else or is silent does not start"""
    need_failure('bad news', FakeCompositor, 'echo bad news >&2; exit 1')
    need_failure('it starts with', FakeCompositor, 'echo something; exec sleep 1000')
    with impatience():
        need_failure('does not start', FakeCompositor, 'exec sleep 1000')


def test_end():
    """the status of a compositor counts, and one that hangs is killed"""
    with FakeCompositor() as good:
        pass
    need(good.process.returncode == -15 and not os.path.exists(good.dir), 'no good end')

    def live(script):
        with FakeCompositor(script):
            pass
    # A shell would miss a signal that comes just before it waits
    need_failure('exit status 3', live, "exec python3 -c '"
                 'import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]);'
                 'print("WAYLAND_DISPLAY=fake", flush=True);'
                 "signal.sigwait([15]); raise SystemExit(3)'")
    with impatience():
        need_failure('it hung', live, "trap '' TERM; " + FAKE)


def test_processes():
    """a process that is left behind is found and killed, wherever it has gone to"""
    # Ready when the other one is, and in no exec then: its environment is empty meanwhile
    compositor = FakeCompositor("mkfifo silence; setsid sh -c 'echo WAYLAND_DISPLAY=fake;"
                                "read -r _ <silence' & read -r _ <silence")
    pids = list(harness.find_processes(f'XDG_RUNTIME_DIR={compositor.dir}'))
    need(len(pids) == 2 and compositor.process.pid in pids, pids)
    with impatience():
        problem = compositor.stop()
    need(problem is not None and problem.startswith('still there: '), problem)
    need(compositor.stop() is None, 'the second time is not quiet')
    need(not list(harness.find_processes(f'XDG_RUNTIME_DIR={compositor.dir}')), 'it lives on')


def test_clients():
    """a client has the display in its environment, and ends with its test"""
    with FakeCompositor() as compositor:
        client = compositor.start('sh', '-c', 'echo $WAYLAND_DISPLAY; exec sleep 1000')
        need(client.stdout.readline() == 'fake\n', 'no display')
        compositor.end_clients()
        need(client.returncode == -9, client.returncode)
        done = compositor.run('sh', '-c', 'echo out; exit 3', status=3)
        need(done.stdout == 'out\n', 'no output')
        need_failure('status 3: bad', compositor.run, 'sh', '-c', 'echo bad; exit 3')


def test_follow():
    """a file is followed while it is written"""
    with FakeCompositor() as compositor:
        lines = compositor.follow('log')
        # Mostly it is looked for before there is one
        writer = subprocess.Popen(['sh', '-c', 'for line in one two; do sleep 0.1; '
                                   'echo $line >>log; done'], cwd=compositor.dir)
        found = [next(lines), next(lines)]
        need(found == ['one', 'two'], found)
        writer.wait()


if __name__ == '__main__':
    run_groups(Group(collect(globals())[0]))
