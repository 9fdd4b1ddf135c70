#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What CI jobs do: a command in vitrine-compositor whose window is waited for and compared,
without a sleep, and the jobs of docs/ci.md. Prints TAP.

usage: jobs_test.py [TEST...], with the built commands on PATH
"""

import contextlib
import pathlib
import re
import sys
import tempfile
import textwrap

from harness import (ENVIRONMENT, Group, collect, make_environment, n_colors, need, parse_ppm,
                     require, run, run_groups)

TOP = pathlib.Path(__file__).parents[2]
N_RUNS = 20
# As it stands in the man page of the compositor
WINDOW = "vitrine-compositor -- sh -c 'foot & vitrine shot --window foot --when-still 300 foot.png'"
FOOT = "foot -a job sh -c 'echo this is the window; exec sleep 1000' & "


@contextlib.contextmanager
def checkout():
    """A directory, and a function that runs a script in it."""
    with tempfile.TemporaryDirectory(prefix='vitrine-test.') as directory:
        env = make_environment(ENVIRONMENT, {'XDG_RUNTIME_DIR': directory, 'HOME': directory,
                                             'TMPDIR': directory})

        def run_script(script, status=0, **environment):
            return run('sh', '-ec', script, status=status, cwd=directory,
                       env=make_environment(env, environment))
        yield run_script, pathlib.Path(directory)


@contextlib.contextmanager
def job():
    """A function that runs a script in a compositor of its own, all in one directory."""
    with checkout() as (run_script, directory):
        def run_job(script, status=0):
            return run_script('exec vitrine-compositor --size 640x480 --run-timeout 60 -- '
                              'sh -c "$SCRIPT"', status=status, SCRIPT=script)
        yield run_job, directory


def read_picture(path):
    run('unpng', path, f'{path}.ppm')
    return parse_ppm(pathlib.Path(f'{path}.ppm').read_bytes())


def count_red(path):
    pixels = read_picture(path)[2]
    return sum(pixels[i:i + 3] == b'\xff\0\0' for i in range(0, len(pixels), 3)), len(pixels) // 3


def test_window():
    """the example of vitrine-compositor(1) gives the window, the same in each of 20 runs"""
    page = TOP / 'compositor/reference/vitrine-compositor.1.scd'
    need(f'*{WINDOW}*' in page.read_text(), 'the man page has another example')
    with checkout() as (run_script, directory):
        shell = directory / 'shell'
        shell.write_text('#!/bin/sh\necho this is the window\nexec sleep 1000\n')
        shell.chmod(0o700)
        pictures = []
        for _ in range(N_RUNS):
            run_script(WINDOW, SHELL=str(shell))
            pictures.append(read_picture(directory / 'foot.png'))
            (directory / 'foot.png').unlink()
        width, height, pixels = pictures[0]
        # It alone, without the screen around it, and what is written in it
        need(1000 < width < 1280 and 600 < height < 720, f'{width}x{height}')
        need(pixels[:3] == pixels[-3:], 'the screen is in it')
        need(n_colors(pixels) > 2, f'{width}x{height}, and nothing in it')
        n_same = pictures.count(pictures[0])
        need(n_same == N_RUNS, f'{n_same} of {N_RUNS} pictures are the same')


def test_difference():
    """another text is another picture, and the difference is shown"""
    with job() as (run_job, directory):
        run_job(FOOT + 'vitrine shot -w job --when-still 300 --timeout 30 a.png')
        run_job(FOOT.replace('this', 'that') + 'vitrine shot -w job --when-still 300 '
                '--timeout 30 --compare a.png --diff diff.png', status=3)
        n_red, n_pixels = count_red(directory / 'diff.png')
        need(0 < n_red < n_pixels // 10, f'{n_red} red pixels')


def test_same():
    """what is the same is status 0, and no picture of a difference"""
    with job() as (run_job, directory):
        shot = FOOT + 'vitrine shot -w job --when-still 300 --timeout 30 '
        run_job(shot + 'a.png')
        done = run_job(shot + '--compare a.png --diff diff.png')
        need(re.search(r'\b0 of \d+ pixels differ', done.stderr), done.stderr)
        need(not (directory / 'diff.png').exists(), 'a picture of no difference')


def test_moving():
    """what never stands still, and what never appears, has a status of its own"""
    with job() as (run_job, _):
        moving = 'weston-simple-shm & vitrine wait -w org.freedesktop.weston.simple-shm --frames 3 ' \
            '--timeout 30 || exit 9; '
        run_job(moving + 'vitrine wait --still 1000 --timeout 3', status=4)
        run_job('vitrine wait -w nothing --timeout 0.5', status=5)


# --- docs/ci.md ----------------------------------------------------------------------

DOCS = (TOP / 'docs/ci.md').read_text()
GITHUB, GITLAB = re.findall(r'^```yaml\n(.*?)^```$', DOCS, re.DOTALL | re.MULTILINE)
INSTALL, READINESS = re.findall(r'^```sh\n(.*?)^```$', DOCS, re.DOTALL | re.MULTILINE)


def find_commands(yaml):
    """What a job runs: items of lists that are commands, on one line or below a |."""
    commands, lines = [], yaml.splitlines()
    for i, line in enumerate(lines):
        found = re.fullmatch(r'( *)- (?:run: )?(\S.*)', line)
        if not found or found[2].startswith('uses: '):
            continue
        block = []
        for below in lines[i + 1:]:
            if not below.startswith(found[1] + '  '):
                break
            block.append(below)
        commands.append(textwrap.dedent('\n'.join(block)) if found[2] == '|' else found[2])
    return commands


def write_application(directory, text):
    """What the jobs build and run: a terminal that shows a text, and then what is typed."""
    (directory / 'ci').mkdir(exist_ok=True)
    # What is to be tested is there: tests install nothing
    (directory / 'ci/install-vitrine').write_text('command -v vitrine vitrine-compositor\n')
    (directory / 'hello.in').write_text(
        '#!/bin/sh\nexec foot --config=/dev/null -a org.example.Hello '
        f'sh -c "echo {text}; exec cat"\n')
    (directory / 'Makefile').write_text('hello: hello.in\n\tinstall hello.in hello\n')


def need_pictures(directory, *names):
    found = sorted(path.name for path in directory.glob('*.png'))
    need(found == sorted(names), found)


def try_job(yaml, golden):
    """A job fails without a golden picture, works with the one that it left, and fails for another."""
    need(len(yaml.splitlines()) <= 15, f'{len(yaml.splitlines())} lines')
    prepare, script = find_commands(yaml)
    with checkout() as (run_script, directory):
        def run_job(text, status=0):
            write_application(directory, text)
            run_script('rm -f hello *.png')  # a runner begins with what is in the repository
            run_script(prepare)
            return run_script(script, status=status, XDG_RUNTIME_DIR=None).stderr

        said = run_job('This is it', status=1)
        need(f'cannot read "{golden}"' in said, said)
        need_pictures(directory, 'shot.png')
        need(n_colors(read_picture(directory / 'shot.png')[2]) > 2, 'nothing in it')
        (directory / 'shot.png').rename(directory / golden)
        said = run_job('This is it')
        need(re.search(r'\b0 of \d+ pixels differ', said), said)
        need_pictures(directory, 'shot.png')
        run_job('This it is', status=3)
        need_pictures(directory, 'shot.png', 'diff.png')
        n_red, n_pixels = count_red(directory / 'diff.png')
        need(0 < n_red < n_pixels // 100, f'{n_red} red pixels of {n_pixels}')


def test_github():
    """the job for GitHub of docs/ci.md compares a window"""
    try_job(GITHUB, 'ci/hello.png')


def test_gitlab():
    """the job for GitLab of docs/ci.md types, and compares a window"""
    try_job(GITLAB, 'ci/typed.png')


def test_gitlab_types():
    """what the job for GitLab types is in its picture"""
    need('"some words"' in GITLAB, 'it types something else')
    with checkout() as (run_script, directory):
        write_application(directory, 'This is it')
        prepare, script = find_commands(GITLAB)
        run_script(prepare)
        run_script(script, status=1)
        (directory / 'shot.png').rename(directory / 'ci/typed.png')
        run_script(script.replace('some words', 'same words'), status=3)


def test_readiness():
    """the lines of docs/ci.md go on when clients can connect, and fail if none ever can"""
    with checkout() as (run_script, directory):
        lines = READINESS + 'trap "kill $!; wait" EXIT; '
        need(run_script(lines + 'vitrine info', XDG_RUNTIME_DIR=None).stdout, 'nothing')
        (directory / 'ready').unlink()
        run_script(lines.replace('--size 1280x720', '--size none') + 'echo', status=1)


def test_packages():
    """what docs/ci.md installs is what ./run builds with, but for encoders"""
    def find_packages(text):
        return {name for name in re.findall(r'[\w.+-]+-dev\b', text)
                if not name.startswith(('libav', 'libclang'))}
    needed = find_packages(re.search(r'^packages\(\) .*?^}', (TOP / 'run').read_text(),
                                     re.DOTALL | re.MULTILINE)[0])
    need(len(needed) > 5, needed)
    installed = find_packages(INSTALL)
    need(installed == needed, f'only in one of them: {installed ^ needed}')
    need('apt-get install' in INSTALL and 'meson install' in INSTALL, INSTALL)


if __name__ == '__main__':
    require('foot', 'weston-simple-shm', 'wtype', 'make')
    shared, alone = collect(globals(), sys.argv[1:])
    run_groups(Group([*alone, *shared]))
