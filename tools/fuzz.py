#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Feeds made-up input to what parses it, under ASan and UBSan, until the time is over.

usage: ./run fuzz [--minutes N] [TARGET...]
       ./run fuzz --input FILE TARGET

  --minutes N   for each target (default: 1)
  --input FILE  run this input alone, as one that crashed
  TARGET        a file of tests/fuzz without its ending (default: all)

What was found worth trying is kept, and tried again next time. Prints the executions of
each target. Status 1 if any of them failed: the input is kept.
"""
import os
import re
import sys

from runner import Error, Session, main, run

SUFFIX = "_fuzz.c"


class Result:
    """A run of one target: how many inputs it took, and what speaks against it."""

    def __init__(self, target, executions, fault):
        self.target, self.executions, self.fault = target, executions, fault


def find_targets(session):
    names = sorted(os.listdir(os.path.join(session.top, "tests/fuzz")))
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]


def read_executions(log):
    """Of its last report: a target that fails has no final one."""
    counts = re.findall(r"^#(\d+)\s|^stat::number_of_executed_units: (\d+)", log, re.M)
    return max((int(first or second) for first, second in counts), default=0)


def program_of(session, target):
    return os.path.join(session.builds, "fuzz/tests/fuzz", f"{target}_fuzz")


def describe(target, log, crashes):
    """The end of the log, and how to see it again."""
    inputs = re.findall(r"Test unit written to (\S+)", log)
    again = [f"again: ./run fuzz --input {path} {target}" for path in inputs]
    return "\n".join([*log.splitlines()[-60:], *again, f"inputs are kept in {crashes}"])


def prepare_environment():
    """clang's runtime finds the names of functions by a tool of binutils, if it is told to.

    Its strict checks of strings take what strndup() is given for a string.
    """
    os.environ["ASAN_OPTIONS"] += ":allow_addr2line=1:strict_string_checks=0"


def run_target(session, target, seconds):
    directory = os.path.join(session.cache, "fuzz", target)
    corpus, crashes = os.path.join(directory, "corpus"), os.path.join(directory, "crashes/")
    seeds = os.path.join(session.top, "tests/fuzz/seeds", target)
    for path in corpus, crashes:
        os.makedirs(path, exist_ok=True)
    session.stage(f"fuzzing {target} for {seconds} s")
    path = os.path.join(directory, "log")
    with open(path, "wb") as log:
        status = run(program_of(session, target), f"-max_total_time={seconds}", "-timeout=20",
                     "-rss_limit_mb=4096", "-print_final_stats=1", f"-artifact_prefix={crashes}",
                     corpus, *([seeds] if os.path.isdir(seeds) else []),
                     stdout=log, stderr=log)
    with open(path, encoding="utf-8", errors="replace") as log:
        text = log.read()
    executions = read_executions(text)
    if status == 0 and executions == 0:
        return Result(target, 0, "it ran no input\n" + text[-2000:])
    return Result(target, executions, describe(target, text, crashes) if status != 0 else None)


def parse(words):
    """The options and the names among words."""
    options, names, rest = {"--minutes": "1", "--input": None}, [], list(words)
    while rest:
        word = rest.pop(0)
        if word in options and rest:
            options[word] = rest.pop(0)
        elif word.startswith("-"):
            raise Error(f"unknown option '{word}', or one without a value: see ./run fuzz --help")
        else:
            names.append(word)
    if not re.fullmatch(r"\d*\.?\d+", options["--minutes"]):
        raise Error(f"--minutes is '{options['--minutes']}': it can be a number")
    if options["--input"] is not None and len(names) != 1:
        raise Error("--input needs one target")
    return float(options["--minutes"]), options["--input"], names


def fuzz(words):
    if not {"-h", "--help"}.isdisjoint(words):
        print(__doc__.strip() if "--flavours" not in words else "")
        return 0
    minutes, given, names = parse([word for word in words if word != "--flavours"])
    if "--flavours" in words:
        print("fuzz")
        return 0
    session = Session(os.environ)
    prepare_environment()
    targets = find_targets(session)
    for name in names:
        if name not in targets:
            raise Error(f"there is no target '{name}': there are {', '.join(targets)}")
    if given is not None:
        return run(program_of(session, names[0]), given)
    good = True
    for target in names or targets:
        result = run_target(session, target, int(minutes * 60))
        print(f"{target}: {result.executions} executions{', FAILED' if result.fault else ''}")
        if result.fault:
            print(result.fault)
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(fuzz))
