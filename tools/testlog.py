# SPDX-License-Identifier: MIT
"""Sums up the TAP of several runs of `meson test`, one test point at a time."""
import json
import re

POINT = re.compile(r"^(not )?ok\b(?:\s+(\d+))?\s*(?:-\s*)?(.*?)(?:\s*(?<!\\)#\s*(SKIP|TODO)\b\S*\s*(.*))?$", re.I)
FIGURE = re.compile(r"^(?:# )?figure: (\d+) ([^:]+)(?:: (.*))?$", re.M)
PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*(?:SKIP\S*\s*)?(.*))?$", re.I)

# What full runs count, in the order in which it is told. Tests print `figure: 3 kill points`
# or, where it is of different kinds, `figure: 14 attacks: sealed memfd`.
FIGURES = ("attacks", "faults injected", "kill points", "fuzz executions", "coverage",
           "mutants killed", "soak frames")


class Summary:
    def __init__(self):
        self.figures = {}  # {what: {kind: number}}
        self.told = {}  # {what: text}
        self.passed = 0
        self.failed = []  # (name, why, output)
        self.skipped = []  # (name, reason)

    def add_run(self, flavour, tests, status):
        """Count what meson has logged; its own status catches what no test says."""
        failed_before = len(self.failed)
        for test in tests:
            self.add_test(flavour, test)
        if status != 0 and len(self.failed) == failed_before:
            self.failed.append((flavour, f"meson test ended with status {status}", ""))

    def add_test(self, flavour, test):
        """Count one test executable; meson's own verdict catches what TAP cannot say."""
        name = f"{flavour}: {test['name']}"
        stdout = test.get("stdout") or ""
        output = (stdout + (test.get("stderr") or "")).rstrip()
        self.add_figures(output)
        result = test.get("result", "ERROR")
        failed_before = len(self.failed)
        points, plan, whole_skip = self.add_points(name, stdout, output)
        if points == 0 and plan is None:  # no TAP: a check that speaks by its exit status
            self.add_verdict(name, result, output)
        elif whole_skip is not None:
            self.skipped.append((name, whole_skip))
        elif (plan is None or points != plan) and "\nBail out!" not in "\n" + stdout:
            planned = "no plan" if plan is None else f"{plan} planned"
            self.failed.append((name, f"{points} points seen, {planned} ({result.lower()})", output))
        elif result in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS") and len(self.failed) == failed_before:
            # all points are fine, but the process is not (a leak found at exit, a signal)
            self.failed.append((name, f"{result.lower()}, status {test.get('returncode')}", output))

    def add_figures(self, output):
        for number, what, kind in FIGURE.findall(output):
            self.add_figure(what, int(number), kind)

    def add_figure(self, what, number, kind=""):
        kinds = self.figures.setdefault(what, {})
        kinds[kind] = kinds.get(kind, 0) + number

    def tell(self, what, text):
        """A figure that is more than a sum."""
        self.told[what] = text

    def add_point(self, name, is_good, why, output=""):
        """One point of what is no test of meson."""
        if is_good:
            self.passed += 1
        else:
            self.failed.append((name, why, output))

    def add_fuzz(self, result):
        self.add_figure("fuzz executions", result.executions, result.target)
        self.add_point(f"fuzz: {result.target}", not result.fault, "an input fails",
                       result.fault or "")

    def describe_figure(self, what):
        if what in self.told:
            return self.told[what]
        kinds = self.figures.get(what, {})
        parts = ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()) if kind)
        return f"{sum(kinds.values()) or 'none'}{f' ({parts})' if parts else ''}"

    def add_points(self, name, stdout, output):
        points, plan, whole_skip = 0, None, None
        for line in stdout.splitlines():
            if line.startswith("Bail out!"):
                self.failed.append((name, line, output))
            elif match := PLAN.match(line):
                plan = int(match[1])
                if plan == 0:
                    whole_skip = match[2] or "no reason given"
            elif match := POINT.match(line):
                points += 1
                point = f"{name}: {match[3] or match[2] or points}"
                directive = (match[4] or "").upper()
                if directive == "SKIP" or (directive == "TODO" and match[1]):
                    self.skipped.append((point, match[5] or directive))
                elif match[1]:
                    self.failed.append((point, "not ok", output))
                else:
                    self.passed += 1
        return points, plan, whole_skip

    def add_verdict(self, name, result, output):
        if result in ("OK", "EXPECTEDFAIL"):
            self.passed += 1
        elif result == "SKIP":
            last = output.splitlines()[-1:] or ["no reason given"]
            self.skipped.append((name, last[0]))
        else:
            self.failed.append((name, result.lower(), output))

    def has_run(self):
        return self.passed + len(self.failed) > 0

    def is_good(self):
        return self.has_run() and not self.failed

    def report(self, full=False):
        """The last line is what scripts read; those before it are the figures of a full run."""
        if not self.has_run():
            print("no test ran")
        for name, reason in self.skipped:
            print(f"skipped: {name}: {reason}")
        shown = None
        for name, why, output in self.failed:
            print(f"\nFAILED: {name}: {why}")
            if output and output != shown:
                print("\n".join("    " + line for line in output.splitlines()[-200:]))
            shown = output
        for what in FIGURES if full else ():
            print(f"{what}: {self.describe_figure(what)}")
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped")


def read(path):
    """The tests in meson's log, none if it has not come to one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        return []
