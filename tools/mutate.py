#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks the product in one place at a time, and sees whether a test notices.

usage: ./run test --mutants [WORD...]

  WORD    only mutants with this in their file, their test or their reason (default: all)

The lists are tools/mutants/*.toml: what to replace by what, in which file, which test must fail
then, and which sentence is broken by it. Each mutant is built in a copy of the tree, one for
each processor, so that only its file is compiled anew. Prints TAP: a point passes if the mutant was
killed, and is skipped if its test is skipped here. A text that is not there exactly once is an
error, as is a mutant that does not build and a test that fails without any mutant. What each
point takes is on stderr.
"""
import collections
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LISTS = os.path.join(TOP, "tools", "mutants")
LIMIT_S = 60  # of a test; its own is lower for each of its points
# What hangs by a mutant is not waited for so long: as many times what it takes without one.
LEAST_LIMIT_S, SLOWDOWN = 10, 20
BUILD_LIMIT_S = 600
NOT_OK = re.compile(r"^not ok\b", re.M)
SKIPPED = re.compile(r"^ok\b.*# SKIP", re.M)
PLANNED = re.compile(r"^1\.\.([1-9]\d*)$", re.M)

Mutant = collections.namedtuple("Mutant", "file text replacement test why")


class Error(Exception):
    """A list, or a test, that has to be put right."""


def read_lists(directory):
    """All mutants, those of one file one after the other: it is compiled less often then."""
    mutants = []
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".toml"):
            continue
        with open(os.path.join(directory, name), "rb") as file:
            entries = tomllib.load(file)["mutant"]
        for entry in entries:
            if set(entry) != set(Mutant._fields):
                raise Error(f"{name}: a mutant has {', '.join(Mutant._fields)}: {entry}")
            mutants.append(Mutant(**entry))
    return sorted(mutants, key=lambda mutant: mutant.file)


def mutate(source, mutant):
    """The source with the fault in it."""
    count = source.count(mutant.text)
    if count != 1:
        raise Error(f"{mutant.file}: there {count} times rather than once: {mutant.text.strip()}")
    if mutant.text == mutant.replacement:
        raise Error(f"{mutant.file}: replaced by itself: {mutant.text.strip()}")
    return source.replace(mutant.text, mutant.replacement)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def check(top, mutants):
    """Raises an error for what can be known without a build."""
    for mutant in mutants:
        mutate(read(os.path.join(top, mutant.file)), mutant)


def split_test(text):
    """`NAME: POINT; POINT` is points of the test NAME; without them, all of its points."""
    name, _, points = text.partition(": ")
    return name, points.split("; ") if points else []


def judge(status, output):
    """What a test did, None if that cannot be told. A status of None is that of one too slow."""
    if status is None or NOT_OK.search(output):
        return "failed"
    if status != 0 or not PLANNED.search(output):
        return None
    return "skipped" if SKIPPED.search(output) else "passed"


class Tree:
    """A copy of the checkout, so that no fault ever comes into it, and its build."""

    def __init__(self, top, directory):
        self.top = top
        self.path = os.path.join(directory, "tree")
        self.build = os.path.join(directory, "build")
        self.limits = {}  # by test, in seconds

    def update(self):
        """What has not changed keeps its time, so that it is not compiled anew."""
        listed = subprocess.run(
            ["git", "-C", self.top, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE, text=True).stdout
        wanted = {name for name in listed.split("\0")
                  if name and os.path.isfile(os.path.join(self.top, name))}
        for directory, _, names in os.walk(self.path):
            for name in names:
                path = os.path.join(directory, name)
                if os.path.relpath(path, self.path) not in wanted:
                    os.unlink(path)
        for name in wanted:
            self.update_file(name)

    def update_file(self, name):
        path = os.path.join(self.path, name)
        with open(os.path.join(self.top, name), "rb") as file:
            content = file.read()
        if os.path.exists(path):
            with open(path, "rb") as file:
                if file.read() == content:
                    return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(os.path.join(self.top, name), path)
        shutil.copymode(os.path.join(self.top, name), path)

    def write(self, name, content):
        path = os.path.join(self.path, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)

    def configure(self):
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            shutil.rmtree(self.build, ignore_errors=True)
            # What is built over and over is built quickly
            self.run("meson", "setup", "-Doptimization=0", "-Ddebug=false", self.build, self.path)
        self.run("ninja", "-C", self.build, "build.ninja")  # so that it knows all tests

    def run(self, *command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=BUILD_LIMIT_S)
        if done.returncode != 0:
            lines = done.stdout.splitlines()[-25:]
            raise Error(f"{' '.join(command[:2])} failed:\n" + "\n".join(lines))
        return done.stdout

    def introspect(self, what):
        return json.loads(self.run("meson", "introspect", what, self.build))

    def read_tests(self):
        """By name: what to build for it, its command and its environment."""
        targets = {target["id"]: os.path.relpath(target["filename"][0], self.build)
                   for target in self.introspect("--targets")}
        self.tests = {test["name"]: {
            "targets": [targets[name] for name in test["depends"]],
            "command": test["cmd"],
            "environment": test["env"],
        } for test in self.introspect("--tests")}

    def build_tests(self, names):
        for name in names:
            if name not in self.tests:
                raise Error(f"there is no test '{name}'")
        targets = sorted({target for name in names for target in self.tests[name]["targets"]})
        self.run("ninja", "-C", self.build, "--quiet", *targets)

    def test(self, text):
        """Its verdict, see judge(), and what it printed."""
        name, points = split_test(text)
        test = self.tests[name]
        environment = {**os.environ, **test["environment"]}
        if "PATH" in test["environment"]:
            # Directories that come before the others, which meson does not tell of
            environment["PATH"] += os.pathsep + os.environ["PATH"]
        try:
            done = subprocess.run([*test["command"], *points], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace", env=environment,
                                  timeout=self.limits.get(text, LIMIT_S))
        except subprocess.TimeoutExpired:
            return "failed", ""
        return judge(done.returncode, done.stdout), done.stdout


def check_tests(trees, mutants):
    """The positive case: without a mutant each test passes. Returns those that are skipped."""
    skipped = set()
    texts = {mutant.test for mutant in mutants}
    for tree in trees:
        tree.build_tests({split_test(text)[0] for text in texts})
    for text in sorted(texts):
        start = time.monotonic()
        verdict, output = trees[0].test(text)
        limit = LEAST_LIMIT_S + SLOWDOWN * (time.monotonic() - start)
        for tree in trees:
            tree.limits[text] = min(limit, LIMIT_S)
        if verdict == "skipped":
            skipped.add(text)
        elif verdict != "passed":
            raise Error(f"without a mutant this does not pass: {text}\n{output[-2000:]}")
    return skipped


def try_mutant(tree, mutant):
    """Whether the test notices it."""
    tree.write(mutant.file, mutate(read(os.path.join(tree.top, mutant.file)), mutant))
    tree.build_tests([split_test(mutant.test)[0]])
    verdict, output = tree.test(mutant.test)
    if verdict not in ("failed", "passed"):
        raise Error(f"no verdict: {mutant.test}\n{output[-2000:]}")
    return verdict == "failed"


class Points:
    """What was found, which workers tell at any time."""

    def __init__(self, n):
        self.lock = threading.Lock()
        self.count = 0
        self.all_killed = True
        print(f"TAP version 13\n1..{n}", flush=True)

    def add(self, is_ok, text, seconds=None):
        with self.lock:
            self.count += 1
            self.all_killed &= is_ok
            print(f"{'ok' if is_ok else 'not ok'} {self.count} - {text}", flush=True)
            if seconds is not None:
                print(f"{seconds:4.1f} s  {text}", file=sys.stderr, flush=True)


def judge_mutant(tree, mutant, points):
    start = time.monotonic()
    try:
        killed = try_mutant(tree, mutant)
        text = "killed" if killed else "LIVES"
    except (Error, subprocess.TimeoutExpired) as error:
        killed, text = False, f"error: {str(error).splitlines()[0]}"
        print(error, file=sys.stderr, flush=True)
    finally:
        tree.update_file(mutant.file)
    points.add(killed, f"{text}: {mutant.file}: {mutant.why} ({mutant.test})",
               time.monotonic() - start)


def work(tree, groups, points, skipped):
    """Takes groups as long as there are any."""
    while True:
        try:
            group = groups.get_nowait()
        except queue.Empty:
            return
        for mutant in group:
            if mutant.test in skipped:
                points.add(True, f"{mutant.file}: {mutant.why} # SKIP as is {mutant.test}")
            else:
                judge_mutant(tree, mutant, points)


def run_mutants(trees, mutants, skipped=()):
    """Prints a point for each. Returns whether all were killed, but for those that are skipped."""
    points, groups = Points(len(mutants)), queue.Queue()
    # Those of a file are for one tree; long ones first, so that all workers end at about a time
    for group in sorted((list(group) for _, group in itertools.groupby(
            mutants, lambda mutant: mutant.file)), key=len, reverse=True):
        groups.put(group)
    workers = [threading.Thread(target=work, args=(tree, groups, points, skipped), daemon=True)
               for tree in trees]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return points.all_killed and points.count == len(mutants)


def choose(mutants, words):
    chosen = [mutant for mutant in mutants if not words or any(
        word in mutant.file or word in mutant.test or word in mutant.why for word in words)]
    if not chosen:
        raise Error(f"no mutant has any of these words: {' '.join(words)}")
    return chosen


def main(words):
    try:
        mutants = read_lists(LISTS)
        check(TOP, mutants)
        mutants = choose(mutants, words)
        directory = os.path.join(os.path.dirname(os.environ["VITRINE_BUILD"]), "mutants")
        trees = [Tree(TOP, os.path.join(directory, str(i))) for i in range(os.cpu_count() or 1)]
        for tree in trees:
            tree.update()
            tree.configure()
            tree.read_tests()
        skipped = check_tests(trees, mutants)
        return 0 if run_mutants(trees, mutants, skipped) else 1
    except Error as error:
        print(f"Bail out! {str(error).splitlines()[0]}")
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
