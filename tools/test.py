#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs tests in builds that are up to date, and sums them up.

usage: ./run test [OPTION...] [NAME...] [-- MESON-TEST-ARGS...]

  --full      the long ones as well, and all that the options below do
  --tsan      under ThreadSanitizer: those of the suites unit and integration
  --coverage  with a look at which lines run, and which do not
  --mutants   whether tests notice faults that are made on purpose, see tools/mutate.py
  NAME        a test, in each of the builds that have it (default: all); with --mutants,
              only those faults that are listed with this word

Prints each failed and each skipped point, with --full what was counted, and as the
last line `N passed, N failed, N skipped`. Status 1 if anything failed or nothing ran.
"""
import contextlib
import os
import signal
import sys

import coverage
import fuzz
import testlog
from runner import Error, Interrupted, Session, interrupt, main, run  # noqa: F401

# The builds, and how many times slower their tests may be.
FLAVOURS = {"plain": 1, "asan": 4}
# Ctrl-C is for the debugger then.
INTERACTIVE = {"--gdb", "--interactive", "-i"}


class Request:
    """A command line, taken apart."""

    def __init__(self, arguments):
        end = arguments.index("--") if "--" in arguments else len(arguments)
        words = arguments[:end]
        self.help = not {"-h", "--help"}.isdisjoint(words)
        self.names = [word for word in words if not word.startswith("-")]
        self.flags = {word for word in words if word.startswith("-")} - {"-h", "--help"}
        self.options = arguments[end + 1:]
        self.full = "--full" in self.flags
        for flag in self.flags:
            if flag != "--full" and flag not in {f"--{part}" for part in PARTS}:
                raise Error(f"unknown option '{flag}': what is for `meson test` follows --")

    def is_narrow(self):
        """Some tests are wanted, not all."""
        return bool(self.names or self.options)

    def parts(self):
        """What is to be done, by name."""
        if self.full and not self.is_narrow():
            return list(PARTS)
        return [part for part in PARTS if f"--{part}" in self.flags] or ["tests"]


def choose(request, has_tests, flavours=FLAVOURS):
    """What `meson test` gets as arguments, by flavour; a flavour with no such test is left out.

    has_tests(flavour, *arguments) says whether they leave any test of it.
    """
    for name in request.names:
        if not any(has_tests(flavour, name) for flavour in flavours):
            raise Error(f"there is no test '{name}': ./run test -- --list names them")
    options = request.options
    if options and not any(has_tests(flavour, *options) for flavour in flavours):
        raise Error(f"no test is left by: {' '.join(options)}")
    chosen = {}
    for flavour in flavours:
        # meson runs nothing if it does not know one of the names
        names = [name for name in request.names if has_tests(flavour, name)]
        if request.names and not names:
            continue
        if not options or has_tests(flavour, *names, *options):
            chosen[flavour] = names + options
    return chosen


def run_meson(session, flavour, slowdown, arguments):
    """Its log, and the status of meson."""
    log = os.path.join(session.builds, flavour, "meson-logs/testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    session.stage(f"testing ({flavour})")
    status = run(*session.meson_test(flavour), "--timeout-multiplier", str(slowdown), *arguments)
    return testlog.read(log), status


def run_tests(session, request, summary, flavours=FLAVOURS, suites=()):
    chosen = choose(request, session.has_tests, flavours)
    if not INTERACTIVE.isdisjoint(request.options):
        signal.signal(signal.SIGINT, lambda *_: None)
    for flavour, arguments in chosen.items():
        if not request.is_narrow():
            arguments = [word for suite in suites for word in ("--suite", suite)] + arguments
        summary.add_run(flavour, *run_meson(session, flavour, flavours[flavour], arguments))


def run_all_tests(session, request, summary):
    session.prepare_kernels(os.environ["VITRINE_TEST_FULL"])
    run_tests(session, request, summary)


@contextlib.contextmanager
def shortened():
    """Tests are not at their longest: in builds as slow as these that shows nothing more."""
    full, os.environ["VITRINE_TEST_FULL"] = os.environ["VITRINE_TEST_FULL"], ""
    try:
        yield
    finally:
        os.environ["VITRINE_TEST_FULL"] = full


def run_tsan(session, request, summary):
    with shortened():
        run_tests(session, request, summary, {"tsan": 8}, ["unit", "integration"])


def run_coverage(session, request, summary):
    """What runs counts, and what fails there does too, unless it is a matter of time."""
    session.prepare_kernels(False)
    coverage.forget(session)
    found = testlog.Summary()
    with shortened():
        run_tests(session, request, found, {"coverage": coverage.SLOWDOWN}, coverage.SUITES)
    for name in coverage.judge(found, summary):
        print(f"not counted, as it measures time in the build that counts lines: {name}")
    coverage.report(session, summary)


def run_fuzz(session, request, summary):
    fuzz.prepare_environment()
    for target in fuzz.find_targets(session):
        summary.add_fuzz(fuzz.run_target(session, target, 60))


def run_mutants(session, request, summary):
    """Its output is as it would be in meson's log."""
    session.stage("testing the tests")
    log = os.path.join(session.builds, "mutants.tap")
    with open(log, "w", encoding="utf-8") as file:
        status = run(os.path.join(session.top, "tools/mutate.py"), *request.names, stdout=file)
    passed = summary.passed
    with open(log, encoding="utf-8") as file:
        summary.add_test("plain", {"name": "mutants", "stdout": file.read(), "returncode": status,
                                   "result": "OK" if status == 0 else "FAIL"})
    summary.add_figure("mutants killed", summary.passed - passed)


# What can be done: the builds that it takes, and how. An option is named after each.
PARTS = {
    "tests": (["plain", "asan"], run_all_tests),
    "tsan": (["tsan"], run_tsan),
    "coverage": (["coverage"], run_coverage),
    "fuzz": (["fuzz"], run_fuzz),
    "mutants": ([], run_mutants),  # they have a build of their own
}


def test(words):
    request = Request([word for word in words if word != "--flavours"])
    if "--flavours" in words[:1]:
        needed = [] if request.help else [
            flavour for part in request.parts() for flavour in PARTS[part][0]]
        print("\n".join(needed))
        return 0
    if request.help:
        print(__doc__.strip())
        return 0
    if request.full:
        os.environ["VITRINE_TEST_FULL"] = "1"
    session = Session(os.environ)
    summary = testlog.Summary()
    for part in request.parts():
        PARTS[part][1](session, request, summary)
    summary.report(os.environ["VITRINE_TEST_FULL"])
    return 0 if summary.is_good() else 1


if __name__ == "__main__":
    sys.exit(main(test))
