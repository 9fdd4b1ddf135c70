# SPDX-License-Identifier: MIT
"""What the programs of this directory share: builds, children, signals, progress."""
import functools
import os
import signal
import subprocess
import sys
import time

SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class Error(Exception):
    """What the caller has to put right."""


class Interrupted(Exception):
    """By a signal, whose number is the argument."""


def interrupt(number, _):
    raise Interrupted(number)


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
        self.cache = environment["VITRINE_CACHE"]
        self.builds = os.path.dirname(environment["VITRINE_BUILD"])
        self.start = int(environment.pop("RUN_START", time.time()))
        for name, value in {
            "VITRINE_TEST_FULL": "",
            "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=1:strict_string_checks=1:"
                            "detect_stack_use_after_return=1",
            "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        }.items():
            environment[name] = environment.get(name) or value

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


def main(function):
    """Calls function(words, environment), whose result is the exit status."""
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        return function(sys.argv[1:])
    except Error as error:
        print(f"run: error: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return 128 + interrupted.args[0]
