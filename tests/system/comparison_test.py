#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether docs/comparison.md has what it says it has. Prints TAP.

usage: comparison_test.py [TEST...]
"""

import pathlib
import re
import subprocess
import sys

from harness import LIMIT, Group, collect, need, require, run_groups

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROW = re.compile(r'\| (.+?) \| (.+?) \| (.*?) ?\|')


def read_tables():
    """By program, the rows of its table: there, here, test."""
    tables = {}
    for section in (ROOT / 'docs/comparison.md').read_text().split('\n## ')[1:]:
        name, text = section.split('\n', 1)
        rows = [line.replace(r'\|', '!') for line in text.splitlines() if line.startswith('| ')]
        tables[name] = [ROW.fullmatch(row).groups() for row in rows][1:]
    return tables


def options_of(program, argument):
    """The options that the help of a program begins lines with, each by its first name."""
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False,
                          timeout=LIMIT)
    return re.findall(r'^ +(--?[A-Za-z][a-z-]*)', (done.stdout or done.stderr)
                      .split('\nExamples')[0].split('\nbackends')[0], re.MULTILINE)


def test_rows():
    """each row that works names a test that there is, and each other says why not"""
    sources = {path.name: path.read_text() for directory in ('unit', 'integration', 'system')
               for path in (ROOT / 'tests' / directory).glob('*_test.*')}
    for name, rows in read_tables().items():
        need(len(rows) > 5, f'{name}: {rows}')
        for there, here, test in rows:
            need(test or here.startswith('No'), f'{name}: {there} has no test')
            if test:
                file, what = re.fullmatch('`(.*): (.*)`', test).groups()
                need(re.search(rf'def {what}\(|^TEST[A-Z_]*\([^{{=;]*\b{what}\b', sources.get(file, ''),
                               re.MULTILINE), f'{name}: {test} is none')


def test_options():
    """no option of grim, wf-recorder and wl-mirror is missing"""
    for program, argument in ('grim', '-h'), ('wf-recorder', '--help'), ('wl-mirror', '--help'):
        options = options_of(program, argument)
        need(len(options) >= 9, f'{program}: {options}')
        named = {option for there, _, _ in read_tables()[program]
                 for option in re.findall('`(-.*?)`', there)}
        missing = [option for option in options if option not in named]
        need(not missing, f'{program} has {missing}, too')


if __name__ == '__main__':
    require('grim', 'wf-recorder', 'wl-mirror')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
