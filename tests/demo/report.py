# SPDX-License-Identifier: MIT
"""Turns what `vitrine watch --json` and `vitrine audit --json` say into the
report of the demo, a table, and the text that foot shows."""

import collections

# The colour of a bar in the text: nothing else on the screen has it.
MARKER = (0xE8, 0x59, 0x0C)

# Rows of the audit that the text has room for.
SHOWN = [
    ("mmap(PROT_WRITE, MAP_SHARED)", "mmap(PROT_WRITE)"),
    ("mprotect(PROT_WRITE) of a read map", "mprotect(PROT_WRITE)"),
    ("write to the read map by /proc/self/mem", "write to /proc/self/mem"),
    ("reopen /proc/self/fd read-write and write", "reopen read-write, write"),
    ("fallocate(FALLOC_FL_PUNCH_HOLE)", "punch a hole"),
    ("see later content in a view that was kept after its session", "look on after the end"),
]


# What `vitrine watch` and `vitrine audit` said, and the exit status of the latter.
Run = collections.namedtuple("Run", "watch audit status kernel")


def count(audit, result):
    return sum(row["result"] == result for row in audit["audit"])


def describe_run(run):
    keys = ["frames", "fps", "guarantee", "storage", "distinct_buffers", "fds_received",
            "latency_us_p50", "latency_us_p99"]
    report = {key: run.watch[key] for key in keys}
    report["kernel"] = run.kernel
    report["audit"] = [{key: row[key] for key in ("attack", "expected", "result")}
                       for row in run.audit["audit"]]
    return report


def make_report(runs):
    """The first run, and the list of all."""
    report = describe_run(runs[0])
    report["runs"] = [describe_run(run) for run in runs]
    return report


def table_rows(run):
    watch, audit = run.watch, run.audit
    return [
        ("kernel", run.kernel),
        ("guarantee", f"{watch['guarantee']}, storage {watch['storage']}"),
        ("frames", f"{watch['frames']}, {watch['fps']} per second"),
        ("buffers", f"{watch['distinct_buffers']}, file descriptors received: "
                    f"{watch['fds_received']}"),
        ("latency", f"{watch['latency_us_p50']} µs median, "
                    f"{watch['latency_us_p99']} µs 99th percentile"),
        ("audit", f"{count(audit, 'refused')} attacks refused, "
                  f"{count(audit, 'not applicable')} not applicable here, "
                  f"{audit['broken']} promises broken"),
    ]


def make_table(out, runs):
    written = ", ".join(f"{out}/{name}" for name in ("shot.png", "report.json", "demo.y4m"))
    blocks = ["".join(f"{name:<12}{value}\n" for name, value in table_rows(run)) for run in runs]
    return "\n".join(blocks) + f"\n{'written':<12}{written}\n"


def color(red, green, blue):
    return f"\x1b[38;2;{red};{green};{blue}m"


def has_marker(pixels):
    """A run of pixels of that colour, in red, green, blue."""
    return 32 * bytes(MARKER) in pixels


def make_text(run):
    watch = run.watch
    grey, white, orange = color(150, 156, 170), color(240, 240, 240), color(*MARKER)
    green, red = color(130, 210, 120), color(240, 90, 90)
    bar = "\x1b[48;2;{};{};{}m".format(*MARKER) + " " * 52 + "\x1b[0m"
    lines = [
        f"{orange}\x1b[1mvitrine{white}  look, don't touch\x1b[0m",
        bar,
        "",
        f"{white}This is foot, a terminal, in vitrine-compositor,",
        "on a machine without a screen. On its left,",
        "weston-simple-shm paints each frame anew.",
        "",
        "The client that took this picture saw the memory of",
        f"the compositor itself, {orange}without a copy{white}. This is what",
        f"happened when it tried to change it ({watch['guarantee']}):",
        "",
    ]
    if watch["guarantee"] == "snapshot":
        lines[8] = f"the compositor, {orange}in a private copy{white}. This is what"
    results = {row["attack"]: row for row in run.audit["audit"]}
    for attack, short in SHOWN:
        row = results.get(attack)
        if row is not None:
            tint = green if row["result"] == row["expected"] else red
            lines.append(f"  {grey}{short:<28}{tint}{row['result']}")
    lines += [
        "",
        f"  {grey}{'frames per second':<28}{white}{watch['fps']:.1f}",
        f"  {grey}{'median latency':<28}{white}{watch['latency_us_p50']} µs",
        f"  {grey}{'frames looked at':<28}{white}{watch['frames']}",
        f"  {grey}{'file descriptors received':<28}{white}{watch['fds_received']}",
    ]
    return "\r\n".join(lines) + "\x1b[0m"
