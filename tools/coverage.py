# SPDX-License-Identifier: MIT
"""Which lines of the product the tests of the build `coverage` have run, guests and all."""
import json
import os
import shutil
import subprocess

from runner import Error

COMPONENTS = ("compositor", "derive", "client")
WANTED_PERCENT = 90
# Its tests may take so many times longer.
SLOWDOWN = 4
# What measures and what attacks for minutes is left out, and the kernels that run no line of ours
# that others do not.
SUITES = ("unit", "integration", "e2e", "plugin", "uml", "vm-7.2", "vm-bochs", "vm-virtio-gpu")


def build_of(session):
    return os.path.join(session.builds, "coverage")


def guests_of(session):
    """A directory for each guest, which shares no locks with this system."""
    return os.path.join(build_of(session), "guests")


def forget(session):
    """What earlier runs have counted; tells guests that they are to count apart."""
    for directory, _, names in os.walk(build_of(session)):
        for name in names:
            if name.endswith(".gcda"):
                os.unlink(os.path.join(directory, name))
    shutil.rmtree(guests_of(session), ignore_errors=True)
    os.environ["VITRINE_COVERAGE"] = guests_of(session)
    os.environ["VITRINE_BUILD"] = build_of(session)  # guests have it, and not the plain one
    os.environ["HARNESS_SLOWDOWN"] = str(SLOWDOWN)


def is_timed(name):
    """Whether a point, as in `coverage: vm+timed - vitrine:test: point`, is of the suite `timed`."""
    suites = name.partition(": ")[2].partition(" - ")[0]
    return "timed" in suites.split("+")


def judge(found, summary):
    """Adds what the tests found, but for failures of those that measure time; returns these."""
    summary.passed += found.passed
    summary.failed += [failure for failure in found.failed if not is_timed(failure[0])]
    return [f"{name}: {why}" for name, why, _ in found.failed if is_timed(name)]


def find_trees(session):
    """The directories with counts: this system's, and those of guests."""
    yield build_of(session)
    guests = guests_of(session)
    for name in sorted(os.listdir(guests)) if os.path.isdir(guests) else []:
        tree = os.path.join(guests, name)
        if link_notes(tree):
            yield tree


def link_notes(tree):
    """Puts what the compiler noted beside each file of counts, where gcov looks for it."""
    found = False
    for directory, _, names in os.walk(tree):
        for name in names:
            if name.endswith(".gcda"):
                notes = os.path.join(directory, name.removesuffix("gcda") + "gcno")
                if not os.path.lexists(notes):
                    os.symlink("/" + os.path.relpath(notes, tree), notes)
                found = True
    return found


def gcovr(session, *arguments):
    filters = [word for name in COMPONENTS
               for word in ("--filter", os.path.join(session.top, name) + "/")]
    command = ["gcovr", "--root", session.top, "--gcov-ignore-parse-errors", *filters, *arguments]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Error(f"gcovr failed:\n{done.stderr[-2000:]}")
    return done.stdout


def collect(session):
    """The lines of all trees, in a file that gcovr reads."""
    build, parts = build_of(session), []
    for number, tree in enumerate(find_trees(session)):
        part = os.path.join(build, f"coverage-{number}.json")
        apart = ["--gcov-exclude-directories", guests_of(session)] if tree == build else []
        gcovr(session, "--object-directory", tree, *apart, "--json", part, tree)
        parts += ["--add-tracefile", part]
    return parts


def percent_of(files):
    total = sum(file["line_total"] for file in files)
    return 100 * sum(file["line_covered"] for file in files) / total if total else 0


def report(session, summary):
    """Its figures, one point for each component, and the list of what has not run."""
    session.stage("counting the lines that ran")
    parts = collect(session)
    path = os.path.join(session.builds, "coverage.txt")
    gcovr(session, *parts, "--txt", path)
    files = json.loads(gcovr(session, *parts, "--json-summary", "-"))["files"]
    with open(path, encoding="utf-8") as text:
        print(text.read())
    texts = []
    for component in COMPONENTS:
        percent = percent_of([file for file in files
                              if file["filename"].startswith(component + "/")])
        texts.append(f"{component}/ {percent:.1f} %")
        summary.add_point(f"coverage: {component}/", percent >= WANTED_PERCENT,
                          f"{percent:.1f} % of its lines ran, {WANTED_PERCENT} % are wanted")
    summary.tell("coverage", f"{', '.join(texts)} of lines")
