#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs tests in both builds, which are up to date, and sums them up.

usage: ./run test [--full] [NAME...] [-- MESON-TEST-ARGS...]
       ./run test --mutants [WORD...]

  --full     the long ones as well, and the mutants
  NAME       a test, in each of the builds that have it (default: all)
  --mutants  whether tests notice faults that are made on purpose, see tools/mutate.py
  WORD       only those faults that are listed with it (default: all)

Prints each failed and each skipped point, and as the last line
`N passed, N failed, N skipped`. Status 1 if anything failed or nothing ran.
"""
import functools
import os
import signal
import subprocess
import sys
import time

import testlog

# The builds, and how many times slower their tests may be.
FLAVOURS = {"plain": 1, "asan": 4}
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# Ctrl-C is for the debugger then.
INTERACTIVE = {"--gdb", "--interactive", "-i"}


class Error(Exception):
    """What the caller has to put right."""


class Interrupted(Exception):
    """By a signal, whose number is the argument."""


class Request:
    """A command line, taken apart."""

    def __init__(self, arguments):
        end = arguments.index("--") if "--" in arguments else len(arguments)
        flags = {"--full", "--mutants"}
        self.names = [word for word in arguments[:end] if word not in flags]
        self.full = "--full" in arguments[:end]
        self.only_mutants = "--mutants" in arguments[:end]
        # They come last, if all is to be run
        self.mutants = self.only_mutants or (self.full and not self.names and end == len(arguments))
        self.options = arguments[end + 1:]
        self.help = not {"-h", "--help"}.isdisjoint(self.names)
        for name in self.names:
            if name.startswith("-") and not self.help:
                raise Error(f"unknown option '{name}': what is for `meson test` follows --")


def choose(request, has_tests):
    """What `meson test` gets as arguments, by flavour; a flavour with no such test is left out.

    has_tests(flavour, *arguments) says whether they leave any test of it.
    """
    for name in request.names:
        if not any(has_tests(flavour, name) for flavour in FLAVOURS):
            raise Error(f"there is no test '{name}': ./run test -- --list names them")
    options = request.options
    if options and not any(has_tests(flavour, *options) for flavour in FLAVOURS):
        raise Error(f"no test is left by: {' '.join(options)}")
    chosen = {}
    for flavour in FLAVOURS:
        # meson runs nothing if it does not know one of the names
        names = [name for name in request.names if has_tests(flavour, name)]
        if request.names and not names:
            continue
        if not options or has_tests(flavour, *names, *options):
            chosen[flavour] = names + options
    return chosen


def unblock_signals():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def run(*command, **how):
    """The status of a child, which ends when this program is to end."""
    # What comes meanwhile waits until there is a child to end
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = subprocess.Popen(command, preexec_fn=unblock_signals, **how)
    try:
        unblock_signals()
        return child.wait()
    except Interrupted:
        child.terminate()
        try:
            child.wait(20)
        except (Interrupted, subprocess.TimeoutExpired):
            child.kill()
            child.wait()
        raise


class Session:
    """One run: where the builds are, and what is printed on the way."""

    def __init__(self, environment):
        self.top = environment["VITRINE_TOP"]
        self.builds = os.path.dirname(environment["VITRINE_BUILD"])
        self.start = int(environment.pop("RUN_START", time.time()))

    def stage(self, text):
        seconds = int(time.time()) - self.start
        print(f"run: [{seconds:3} s] {text}", file=sys.stderr, flush=True)

    def meson_test(self, flavour):
        return ["meson", "test", "-C", os.path.join(self.builds, flavour), "--no-rebuild"]

    @functools.cache
    def has_tests(self, flavour, *arguments):
        return run(*self.meson_test(flavour), "--list", *arguments,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0

    def prepare_kernels(self, full):
        """So that no test has to wait for the kernel that it runs under."""
        self.stage("preparing the kernels (the first time: 5 to 10 minutes)")
        commands = [("building the UML kernel", "build-uml")]
        if full:
            commands.append(("building the debug kernel", "build-uml", "--debug"))
        for series in "7.2", "6.12":
            commands.append((f"fetching Debian's {series} kernel", "fetch-kernel", series))
        for what, tool, *arguments in commands:
            path = os.path.join(self.top, "tests/harness/guest", tool)
            if run(path, *arguments, stdout=subprocess.DEVNULL) != 0:
                raise Error(f"{what} failed (see above)")

    def test(self, flavour, arguments):
        """Its log, and the status of meson."""
        log = os.path.join(self.builds, flavour, "meson-logs/testlog.json")
        if os.path.exists(log):
            os.unlink(log)
        self.stage(f"testing ({flavour})")
        status = run(*self.meson_test(flavour), "--timeout-multiplier", str(FLAVOURS[flavour]),
                     *arguments)
        return testlog.read(log), status

    def test_mutants(self, words):
        """As it would be in meson's log."""
        self.stage("testing the tests")
        log = os.path.join(self.builds, "mutants.tap")
        with open(log, "w", encoding="utf-8") as file:
            status = run(os.path.join(self.top, "tools/mutate.py"), *words, stdout=file)
        with open(log, encoding="utf-8") as file:
            return {"name": "mutants", "stdout": file.read(), "returncode": status,
                    "result": "OK" if status == 0 else "FAIL"}


def prepare_environment(environment, full):
    if full:
        environment["VITRINE_TEST_FULL"] = "1"
    for name, value in {
        "VITRINE_TEST_FULL": "",
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:strict_string_checks=1:"
                        "detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }.items():
        environment[name] = environment.get(name) or value


def test_builds(session, request, summary):
    chosen = choose(request, session.has_tests)
    session.prepare_kernels(os.environ["VITRINE_TEST_FULL"])
    if not INTERACTIVE.isdisjoint(request.options):
        signal.signal(signal.SIGINT, lambda *_: None)
    for flavour, arguments in chosen.items():
        summary.add_run(flavour, *session.test(flavour, arguments))


def interrupt(number, _):
    raise Interrupted(number)


def main():
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        request = Request(sys.argv[1:])
        if request.help:
            print(__doc__.strip())
            return 0
        prepare_environment(os.environ, request.full)
        session = Session(os.environ)
        summary = testlog.Summary()
        if not request.only_mutants:
            test_builds(session, request, summary)
        if request.mutants:
            summary.add_test("plain", session.test_mutants(request.names))
    except Error as error:
        print(f"run: error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return 128 + interrupted.args[0]
    summary.report()
    return 0 if summary.is_good() else 1


if __name__ == "__main__":
    sys.exit(main())
