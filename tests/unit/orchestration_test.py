#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How `./run test` chooses tests, counts their points and ends. Prints TAP."""

import contextlib
import functools
import io
import json
import os
import signal
import tempfile
import time

import coverage
import fuzz
import test
import testlog
from harness import Group, collect, need, need_raised, run_groups


def need_equal(value, expected):
    need(value == expected, f'{value} rather than {expected}')


def need_error(words, function, *arguments):
    error = need_raised(test.Error, function, *arguments)
    need(words in str(error), error)


def choose(*words):
    """Among tests of which each build has one of its own; --few leaves those of the plain one."""
    tests = {'plain': {'both', 'only plain'}, 'asan': {'both', 'only asan'}}

    def has_tests(flavour, *arguments):
        names = {word for word in arguments if not word.startswith('-')}
        # As meson does: one unknown name is an error beside any others
        return (names <= tests[flavour] and '--none' not in arguments and
                ('--few' not in arguments or flavour == 'plain'))

    return test.choose(test.Request(list(words)), has_tests)


def test_request():
    """words before -- name tests, and those after it are for meson"""
    request = test.Request(['one', '--full', 'two', '--', '--verbose', '--full', '--', 'x'])
    need_equal(request.names, ['one', 'two'])
    need_equal(request.options, ['--verbose', '--full', '--', 'x'])
    need(request.full and not request.help, 'flags')
    need(not test.Request(['one', '--', '--full', '--help']).full, 'an option of meson counts')
    need(test.Request(['--help']).help, 'no help')


def test_unknown_option():
    """an option that is unknown is refused, with a hint at --"""
    need_error('follows --', test.Request, ['--verbose'])


def test_parts():
    """an option adds a part and its build, and a full run has them all"""
    need_equal(test.Request([]).parts(), ['tests'])
    need_equal(test.Request(['--tsan']).parts(), ['tsan'])
    need_equal(test.Request(['--mutants', 'x']).parts(), ['mutants'])
    need_equal(test.Request(['--mutants', 'x']).names, ['x'])
    need_equal(test.Request(['--full', 'one']).parts(), ['tests'])
    need_equal(test.Request(['--full', '--', '-v']).parts(), ['tests'])
    need_equal(test.Request(['--full']).parts(), list(test.PARTS))
    for words, expected in {(): ['plain', 'asan'], ('--tsan', 'x'): ['tsan'], ('--help',): ['']}.items():
        with contextlib.redirect_stdout(io.StringIO()) as out:
            test.test(['--flavours', *words])
        need_equal(out.getvalue().splitlines(), expected)


def test_choose_all():
    """without names, each build runs all of its tests"""
    need_equal(choose(), {'plain': [], 'asan': []})
    need_equal(choose('--', '--verbose'), {'plain': ['--verbose'], 'asan': ['--verbose']})


def test_choose_names():
    """a name is given to those builds only that have the test"""
    need_equal(choose('both'), {'plain': ['both'], 'asan': ['both']})
    need_equal(choose('only asan'), {'asan': ['only asan']})
    need_equal(choose('only plain', 'both', '--', '-v'),
               {'plain': ['only plain', 'both', '-v'], 'asan': ['both', '-v']})


def test_choose_unknown():
    """a name that no build has is an error, which says how to list them"""
    need_error("no test 'neither': ./run test -- --list", choose, 'both', 'neither')


def test_choose_options():
    """options that leave a build without tests leave it out, and no build is an error"""
    need_equal(choose('both', '--', '--few'), {'plain': ['both', '--few']})
    need_error('no test is left by: --none', choose, '--', '--none')


def count(*tests, status=0):
    """Passed, failed, and skipped points of a log of meson."""
    summary = testlog.Summary()
    summary.add_run('plain', [{'name': 'x', 'result': 'OK', 'returncode': 0, **log}
                              for log in tests], status)
    return summary.passed, len(summary.failed), len(summary.skipped)


def test_points():
    """points that pass, fail and are skipped are counted one at a time"""
    stdout = '1..5\nok 1 - a\nok 2 - b # SKIP no device\n# ok\nnot ok 3 - c\nok\n' \
        'not ok 5 - d # TODO later\n'
    need_equal(count({'stdout': stdout, 'result': 'FAIL'}), (2, 1, 2))
    need_equal(count({'stdout': stdout}, {'stdout': '1..1\nok 1\n'}), (3, 1, 2))


def test_skipped_program():
    """a program that is skipped as a whole counts once, with its reason"""
    summary = testlog.Summary()
    summary.add_test('asan', {'name': 'x', 'result': 'SKIP', 'stdout': '1..0 # SKIP no sway\n'})
    need_equal(summary.skipped, [('asan: x', 'no sway')])
    need_equal((summary.passed, summary.failed), (0, []))


def test_missing_points():
    """points that are planned and do not come are a failure, as is a plan that does not come"""
    need_equal(count({'stdout': '1..2\nok 1\n'}), (1, 1, 0))
    need_equal(count({'stdout': 'ok 1\n'}), (1, 1, 0))
    need_equal(count({'stdout': '1..3\nok 1\nBail out! no memory\n', 'result': 'ERROR'}), (1, 1, 0))


def test_verdicts():
    """a test without TAP counts by the verdict of meson"""
    for result, expected in {'OK': (1, 0, 0), 'EXPECTEDFAIL': (1, 0, 0), 'SKIP': (0, 0, 1),
                             'FAIL': (0, 1, 0), 'TIMEOUT': (0, 1, 0)}.items():
        need_equal(count({'result': result}), expected)


def test_bad_end():
    """a process that ends badly after good points is one failure"""
    need_equal(count({'stdout': '1..1\nok 1\n'}), (1, 0, 0))
    need_equal(count({'stdout': '1..1\nok 1\n', 'result': 'ERROR', 'returncode': 1}), (1, 1, 0))


def test_meson_status():
    """a status of meson that no test explains is one failure"""
    need_equal(count({'stdout': '1..1\nok 1\n'}, status=1), (1, 1, 0))
    need_equal(count({'stdout': '1..1\nnot ok 1\n', 'result': 'FAIL'}, status=1), (0, 1, 0))


def test_report():
    """the last line has the sums of all builds, below the reasons and the output of failures"""
    summary = testlog.Summary()
    skipped = {'name': 'x', 'result': 'OK', 'stdout': '1..1\nok 1 # SKIP why\n'}
    summary.add_run('plain', [skipped], 0)
    need(not summary.is_good(), 'nothing but skipped points is a success')
    summary.add_run('asan', [{'name': 'x', 'result': 'OK', 'stdout': '1..1\nok 1\n'}], 0)
    need(summary.is_good(), 'it is no success')
    summary.add_run('asan', [{'name': 'y', 'result': 'FAIL', 'stdout': '1..1\nnot ok 1 - z\n',
                              'stderr': 'Aborted\n'}], 1)
    need(not summary.is_good(), 'a failure is a success')
    with contextlib.redirect_stdout(io.StringIO()) as out:
        summary.report()
    need_equal(out.getvalue().splitlines(), [
        'skipped: plain: x: 1: why', '', 'FAILED: asan: y: z: not ok',
        '    1..1', '    not ok 1 - z', '    Aborted', '1 passed, 1 failed, 1 skipped'])


def test_figures():
    """figures of all tests are added up by kind, and what was not counted is none"""
    summary = testlog.Summary()
    for flavour in 'plain', 'asan':
        summary.add_run(flavour, [{'name': 'x', 'result': 'OK', 'stderr': 'figure: 3 kill points\n',
                                   'stdout': '1..1\n# figure: 4 attacks: sealed\nok 1\n'
                                             '# figure: 1 attacks: guarded\n'}], 0)
    summary.add_fuzz(fuzz.Result('a', 70, None))
    summary.tell('coverage', '91 %')
    with contextlib.redirect_stdout(io.StringIO()) as out:
        summary.report(full=True)
    need_equal(out.getvalue().splitlines(), [
        'attacks: 10 (guarded 2, sealed 8)', 'faults injected: none', 'kill points: 6',
        'fuzz executions: 70 (a 70)', 'coverage: 91 %', 'mutants killed: none', 'soak frames: none',
        '3 passed, 0 failed, 0 skipped'])


def test_fuzz_fault():
    """an input that fails is a failure, and the last report of the log counts"""
    log = '#2\tINITED cov: 1\n#512\tNEW cov: 2\n==1==ERROR\nTest unit written to /c/crash-1\n'
    need_equal(fuzz.read_executions(log), 512)
    need_equal(fuzz.read_executions(log + 'stat::number_of_executed_units: 600\n'), 600)
    need('./run fuzz --input /c/crash-1 a' in fuzz.describe('a', log, '/c'), 'how to run it again')
    summary = testlog.Summary()
    summary.add_fuzz(fuzz.Result('a', 512, 'why'))
    need_equal((summary.passed, len(summary.failed)), (0, 1))


def test_fuzz_options():
    """the time can be a part of a minute, and one input can be run alone"""
    need_equal(fuzz.parse(['--minutes', '.5', 'a', 'b']), (.5, None, ['a', 'b']))
    need_equal(fuzz.parse(['a', '--input', 'x']), (1, 'x', ['a']))
    for words in ['--seed'], ['--minutes'], ['--minutes', 'x'], ['--input', 'x']:
        need_error('', fuzz.parse, words)


def test_coverage_percent():
    """the lines of files count, not the files"""
    need_equal(coverage.percent_of([{'line_total': 30, 'line_covered': 30},
                                    {'line_total': 70, 'line_covered': 20}]), 50)
    need_equal(coverage.percent_of([]), 0)


def test_coverage_failures():
    """where lines are counted, failures count too, but for those of tests that measure time"""
    found, summary = testlog.Summary(), testlog.Summary()
    log = {'result': 'FAIL', 'returncode': 1, 'stdout': '1..2\nok 1 - a\nnot ok 2 - timed - b\n'}
    found.add_run('coverage', [{'name': f'{suites} - vitrine:x', **log} for suites in
                               ('vm+timed', 'vm+timed-not', 'e2e')], 1)
    need_equal(coverage.judge(found, summary),
               ['coverage: vm+timed - vitrine:x: timed - b: not ok'])
    need_equal(summary.passed, 3)
    need_equal([name for name, _, _ in summary.failed],
               ['coverage: vm+timed-not - vitrine:x: timed - b',
                'coverage: e2e - vitrine:x: timed - b'])
    found.add_run('coverage', [], 1)  # meson itself
    coverage.judge(found, summary)
    need(summary.failed[-1][0] == 'coverage', summary.failed)


def test_log():
    """a log has a line a test, and one that is not there has none"""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'testlog.json')
        need_equal(testlog.read(path), [])
        tests = [{'name': 'x'}, {'name': 'y'}]
        with open(path, 'w', encoding='utf-8') as file:
            file.write('\n'.join(json.dumps(log) for log in tests) + '\n\n')
        need_equal(testlog.read(path), tests)


def test_interrupt():
    """a signal ends the child as well, and a second one ends a child that goes on"""
    need_equal(test.run('sh', '-c', 'exit 3'), 3)
    previous = signal.signal(signal.SIGHUP, test.interrupt)
    silence, mouth = os.pipe()  # to read from without end
    # The second signal comes while the child is waited for
    for script in 'kill -HUP $PPID; read -r _', \
            "trap 'kill -HUP $PPID' TERM; kill -HUP $PPID; read -r _; read -r _":
        start = time.monotonic()
        run = functools.partial(test.run, 'sh', '-c', script, stdin=silence)
        need_equal(need_raised(test.Interrupted, run).args, (signal.SIGHUP,))
        need(time.monotonic() - start < 15, 'it took too long')
    os.close(mouth)
    os.close(silence)
    signal.signal(signal.SIGHUP, previous)


if __name__ == '__main__':
    run_groups(Group(collect(globals())[0]))
