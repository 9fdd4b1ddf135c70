#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How `./run test --mutants` makes mutants and judges them, and that its lists fit the tree.
Prints TAP."""

import contextlib
import io
import os
import pathlib
import subprocess
import tempfile

import mutate
from harness import Group, collect, need, need_raised, run_groups

MUTANT = mutate.Mutant('a.c', 'x = 1;', 'x = 2;', 'one: point', 'why')
PASSED = 'TAP version 13\n1..1\nok 1 - point\n'
FAILED = 'TAP version 13\n1..1\nnot ok 1 - point # exit status 1\n'


def need_equal(value, expected):
    need(value == expected, f'{value} rather than {expected}')


def need_error(words, function, *arguments):
    error = need_raised(mutate.Error, function, *arguments)
    need(words in str(error), error)


def test_lists():
    """each mutant of the lists can be made, and none is there twice"""
    mutants = mutate.read_lists(mutate.LISTS)
    mutate.check(mutate.TOP, mutants)
    made = [(mutant.file, mutant.text, mutant.replacement) for mutant in mutants]
    need_equal([one for one in made if made.count(one) > 1], [])


def test_once():
    """a text that is there once is replaced, and none or two of it are an error"""
    need_equal(mutate.mutate('int x;\nx = 1;\n', MUTANT), 'int x;\nx = 2;\n')
    need_error('a.c: there 0 times', mutate.mutate, 'x = 3;', MUTANT)
    need_error('a.c: there 2 times', mutate.mutate, 'x = 1; x = 1;', MUTANT)
    need_error('by itself', mutate.mutate, 'x = 1;', MUTANT._replace(replacement=MUTANT.text))


def test_fields():
    """a mutant with a word too many or too few is an error"""
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, 'a.toml')
        fields = ''.join(f"{name} = 'x'\n" for name in MUTANT._fields)
        path.write_text(f'[[mutant]]\n{fields}')
        need_equal(len(mutate.read_lists(directory)), 1)
        for bad in fields + "more = 'x'\n", fields.replace("why = 'x'\n", ''):
            path.write_text(f'[[mutant]]\n{bad}')
            need_error('a.toml: a mutant has', mutate.read_lists, directory)


def test_judge():
    """a test has failed if a point has or if it takes too long; it passes by all of its points"""
    need_equal(mutate.judge(0, PASSED), 'passed')
    need_equal(mutate.judge(1, FAILED), 'failed')
    need_equal(mutate.judge(None, ''), 'failed')
    need_equal(mutate.judge(0, 'TAP version 13\n1..1\nok 1 - point # SKIP no device\n'), 'skipped')
    # Neither: no such test, no point, a program that does not start
    for status, output in ((1, 'TAP version 13\n1..0\n'), (0, 'TAP version 13\n1..0\n'),
                           (127, ''), (1, PASSED)):
        need_equal(mutate.judge(status, output), None)


def test_split():
    """a test is all of its points, or those that are named"""
    need_equal(mutate.split_test('uml client'), ('uml client', []))
    need_equal(mutate.split_test('client: a; b[c, d]'), ('client', ['a', 'b[c, d]']))


def test_choose():
    """words choose mutants by file, test or reason; none at all is an error"""
    other = MUTANT._replace(file='b.c', test='two')
    for words, expected in ((), [MUTANT, other]), (('a.c',), [MUTANT]), (('two',), [other]):
        need_equal(mutate.choose([MUTANT, other], words), expected)
    need_error('no mutant', mutate.choose, [MUTANT], ['c.c'])


class FakeTree:
    """Builds what has no 'broken' in it. Its test passes as long as x is 1."""

    def __init__(self, top, notices=True):
        self.top = top
        self.content = None
        self.notices = notices
        self.limits = {}

    def write(self, name, content):
        self.content = content

    def update_file(self, name):
        self.content = mutate.read(os.path.join(self.top, name))

    def build_tests(self, names):
        if self.content is not None and 'broken' in self.content:
            raise mutate.Error('ninja failed:\nbroken')

    def test(self, text):
        is_good = self.content is None or 'x = 1;' in self.content or not self.notices
        output = PASSED if is_good else FAILED
        return mutate.judge(0 if is_good else 1, output), output


def run(mutants, skipped=(), n_trees=1, **how):
    """Whether all were killed, and what was printed."""
    with tempfile.TemporaryDirectory() as top:
        for name in 'a.c', 'b.c', 'c.c':
            pathlib.Path(top, name).write_text('x = 1;\n')
        trees = [FakeTree(top, **how) for _ in range(n_trees)]
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            all_killed = mutate.run_mutants(trees, mutants, skipped)
        need({tree.content for tree in trees} <= {None, 'x = 1;\n'}, 'a mutant was left behind')
        return all_killed, stdout.getvalue()


def test_verdicts():
    """a mutant that a test notices is killed; one that no test notices lives, which is a failure"""
    killed, output = run([MUTANT])
    need(killed and '\nok 1 - killed: a.c: why (one: point)' in output, output)
    killed, output = run([MUTANT, MUTANT], notices=False)
    need(not killed and '\nnot ok 2 - LIVES: a.c: why' in output, output)


def test_workers():
    """trees share the work by files: each mutant is tried once"""
    mutants = [MUTANT._replace(file=file, why=str(number))
               for file in ('a.c', 'b.c', 'c.c') for number in range(2)]
    killed, output = run(mutants, n_trees=2)
    lines = output.splitlines()
    need(killed and lines[1] == '1..6', output)
    need_equal([line.split()[1] for line in lines[2:]], ['1', '2', '3', '4', '5', '6'])
    need_equal({line.partition(' - ')[2] for line in lines[2:]},
               {f'killed: {mutant.file}: {mutant.why} (one: point)' for mutant in mutants})


def test_limit():
    """what hangs by a mutant is not waited for much longer than what does not"""
    trees = [FakeTree('/'), FakeTree('/')]
    mutate.check_tests(trees, [MUTANT])
    for tree in trees:
        need(mutate.LEAST_LIMIT_S <= tree.limits['one: point'] < mutate.LIMIT_S, tree.limits)


def test_broken():
    """a mutant that does not build is an error, and the next one is tried all the same"""
    killed, output = run([MUTANT._replace(replacement='broken'), MUTANT])
    need(not killed and '\nnot ok 1 - error: ninja failed:' in output and '\nok 2 -' in output,
         output)


def test_positive():
    """without a mutant a test that fails is an error"""
    with tempfile.TemporaryDirectory() as top:
        tree = FakeTree(top)
        mutate.check_tests([tree], [MUTANT])
        tree.content = 'x = 2;'
        need_error('without a mutant this does not pass: one: point', mutate.check_tests, [tree],
                   [MUTANT])


def test_skipped():
    """a mutant whose test is skipped here is skipped, and is no failure"""
    tree = FakeTree('/')
    tree.test = lambda text: ('skipped' if text == 'one: point' else 'passed', '')
    skipped = mutate.check_tests([tree], [MUTANT, MUTANT._replace(test='two')])
    need_equal(skipped, {'one: point'})
    killed, output = run([MUTANT, MUTANT._replace(test='two')], skipped=skipped)
    need(killed and '\nok 1 - a.c: why # SKIP as is one: point\nok 2 - killed' in output, output)


def test_tree():
    """the copy gets what has changed, loses what is gone, and keeps the time of all else"""
    with tempfile.TemporaryDirectory() as directory:
        top = pathlib.Path(directory, 'top')
        top.mkdir()
        for name in 'a.c', 'b.c', 'c.c', 'ignored':
            pathlib.Path(top, name).write_text(name)
        pathlib.Path(top, '.gitignore').write_text('ignored\n')
        subprocess.run(['git', 'init', '-q', top], check=True)
        tree = mutate.Tree(top, directory)
        tree.update()
        copy = pathlib.Path(tree.path)
        need_equal(sorted(path.name for path in copy.iterdir()), ['.gitignore', 'a.c', 'b.c', 'c.c'])
        os.utime(copy / 'a.c', (1, 1))
        (copy / 'b.c').write_text('a mutant that was left behind')
        (top / 'c.c').unlink()
        tree.update()
        need_equal(os.stat(copy / 'a.c').st_mtime, 1)
        need_equal((copy / 'b.c').read_text(), 'b.c')
        need(not (copy / 'c.c').exists(), 'what is gone is still there')


if __name__ == '__main__':
    run_groups(Group(collect(globals())[0]))
