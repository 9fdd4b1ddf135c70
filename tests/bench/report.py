# SPDX-License-Identifier: MIT
"""What a benchmark's figures say: tables, and the limits that are aimed at."""

import statistics

RESOLUTIONS = ["720p", "1080p", "4K", "8K"]


def find(result, path, resolution, clients, damage, place="host"):
    """Figures of one place compare with each other only."""
    for row in result["rows"]:
        if (row.get("place", "host"), row["path"], row["resolution"], row["clients"],
                row["damage"]) == (place, path, resolution, clients, damage):
            return row
    return None


def ratio(above, below, key="compositor_cpu_us"):
    """None if there is nothing to compare, or no more than noise."""
    if above is None or below is None or above[key] <= 0 or below[key] <= 0:
        return None
    return above[key] / below[key]


class Checks:
    def __init__(self):
        self.checks = []

    def at_most(self, name, value, limit):
        if value is not None:
            self.checks.append({"name": name, "value": round(value, 3), "limit": limit,
                "kind": "at most", "ok": value <= limit})

    def at_least(self, name, value, limit):
        if value is not None:
            self.checks.append({"name": name, "value": round(value, 1), "limit": limit,
                "kind": "at least", "ok": value >= limit})


def check_sealed(checks, result, damage):
    def row(path, resolution, clients):
        return find(result, path, resolution, clients, damage)

    for resolution in RESOLUTIONS:
        checks.at_most(f"sealed / control, CPU, {resolution}, 8 clients, {damage} damage",
            ratio(row("sealed", resolution, 8), row("control", resolution, 8)), 1.5)
    checks.at_most(f"sealed, CPU, 8K / 720p, 8 clients, {damage} damage",
        ratio(row("sealed", "8K", 8), row("sealed", "720p", 8)), 1.2)
    checks.at_least(f"wlr-screencopy-shm / sealed, CPU, 4K, 8 clients, {damage} damage",
        ratio(row("wlr-screencopy-shm", "4K", 8), row("sealed", "4K", 8)), 200)
    checks.at_least(f"wlr-screencopy-shm / control (no client can do with less), CPU, 4K, "
        f"8 clients, {damage} damage",
        ratio(row("wlr-screencopy-shm", "4K", 8), row("control", "4K", 8)), 200)
    sealed = row("sealed", "4K", 64)
    if sealed is not None and damage == "full":  # at the refresh rate of a screen
        checks.at_most(f"sealed, frames missed, 4K, 64 clients, {damage} damage",
            sealed["missed"], 0)
    checks.at_most(f"sealed, CPU per client, 4K, 64 / 8 clients, {damage} damage",
        ratio(sealed, row("sealed", "4K", 8)), 1.2)
    for clients in (8, 64):
        for key, limit in (("latency_us_p50", 1.5), ("latency_us_p99", 3)):
            checks.at_most(
                f"sealed / control, {key[-3:]} latency, 4K, {clients} clients, {damage} damage",
                ratio(row("sealed", "4K", clients), row("control", "4K", clients), key), limit)


def check_implicit(checks, result, damage):
    for clients in (8, 64):
        checks.at_most(f"implicit / control, CPU, 4K, {clients} clients, {damage} damage",
            ratio(find(result, "implicit", "4K", clients, damage),
                find(result, "control", "4K", clients, damage)), 0.7)
    crowd = find(result, "implicit", "4K", 256, damage)
    if crowd is not None and damage == "full":  # at the refresh rate of a screen
        checks.at_most(f"implicit, frames missed, 4K, 256 clients, {damage} damage",
            crowd["missed"], 0)
        checks.at_most(f"implicit, frames that clients missed, 4K, 256 clients, {damage} damage",
            crowd["skipped"], 0)


def check_asleep(checks, asleep):
    for key, what in (("missed", "missed"), ("skipped", "that clients missed")):
        checks.at_most(f"implicit, frames {what}, 4K, 8 clients beside {asleep['clients']} that "
            "never read", asleep[key], 0)


def check_snapshot(checks, result):
    ext = "ext-image-copy-capture-shm"
    for resolution in RESOLUTIONS:
        for damage, limit in (("full", 1.0), ("small", 0.1)):
            checks.at_most(f"snapshot / {ext}, CPU, {resolution}, 1 client, {damage} damage",
                ratio(find(result, "snapshot", resolution, 1, damage),
                    find(result, ext, resolution, 1, damage)), limit)
        one, many = (find(result, "snapshot", resolution, clients, "full") for clients in (1, 64))
        if one is not None and many is not None and one["compositor_cpu_us"] > 0:
            control = find(result, "control", resolution, 64, "full")
            # Telling clients of frames is not copying
            copy = (many["compositor_cpu_us"] - control["compositor_cpu_us"]) * 64
            checks.at_most(f"snapshot, CPU of all but telling, {resolution}, 64 / 1 clients",
                copy / one["compositor_cpu_us"], 1.2)


def check_guest(checks, result):
    """What needs dma-bufs, which the host seldom has."""
    for above, below in (("wlr-export-dmabuf-hardened", "wlr-export-dmabuf"),
            ("guarded", "control")):
        # A single client's few frames are lost in the noise of a virtual machine
        for clients in (8, 64):
            ratios = []
            for resolution in RESOLUTIONS:
                for damage in ("small", "full"):
                    value = ratio(*(find(result, path, resolution, clients, damage, "guest")
                        for path in (above, below)))
                    checks.at_most(f"guest: {above} / {below}, CPU, {resolution}, {clients} "
                        f"clients, {damage} damage", value, 1.5)
                    ratios += [value] if value is not None else []
            if ratios:  # each has few repetitions, and neither size nor damage should matter
                checks.at_most(f"guest: {above} / {below}, CPU, {clients} clients, median of "
                    "the above", statistics.median(ratios), 1.5)


def make_checks(result):
    """The limits of the project, as far as this run measured them."""
    checks = Checks()
    for damage in ("small", "full"):
        check_sealed(checks, result, damage)
        check_implicit(checks, result, damage)
    if "asleep" in result:
        check_asleep(checks, result["asleep"])
    check_snapshot(checks, result)
    check_guest(checks, result)
    if "sessions" in result:
        check_sessions(checks, result)
    if "unwatched" in result:
        checks.at_most("sway under vitrine-run / sway, CPU of a frame, 1080p, no client looks, "
            f"median of {len(result['unwatched']['pairs'])} pairs", result["unwatched"]["ratio"],
            1.03)
    return checks.checks


def check_sessions(checks, result):
    idle = result["idle_wakeups_per_s"]
    checks.at_most("64 idle sessions, wake-ups a second above baseline",
        max(0, idle["sealed"] - idle["baseline"]), 0)
    for scene in ("still", "moving"):
        sessions = result["sessions"][scene]
        for key, what in (("main_thread_us", "main thread"), ("cpu_us", "all threads")):
            checks.at_most(f"session of one frame, CPU of {what}, 4K, {scene} screen, "
                "with / without retirement", ratio(sessions["retired"], sessions["kept"], key), 2)


def format_us(us):
    return f"{us:.1f}" if us < 100 else f"{us:,.0f}"


def format_bytes(count):
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def format_number(number):
    return f"{number:.2f}".rstrip("0").rstrip(".")


def make_markdown_rows(result, place):
    for row in result["rows"]:
        if row.get("place", "host") != place:
            continue
        low, high = row["spread"]["compositor_cpu_us"]
        yield (f"| {row['path']} | {row['resolution']} | {row['damage']} | {row['clients']} "
            f"| {format_us(row['compositor_cpu_us'])} | {format_us(low)} to {format_us(high)} "
            f"| {format_us(row['client_cpu_us'])} | {format_us(row['latency_us_p50'])} "
            f"| {format_us(row['latency_us_p99'])} | {row['missed']} of "
            f"{row['missed'] + row['output_frames']} | {format_bytes(row['bytes_copied'])} "
            f"| {format_number(row['fds'])} | {row['wire_bytes']:.0f} "
            f"| {format_us(row['output_frame_redraw_us'])} |")


def make_markdown_asleep(result):
    asleep = result.get("asleep")
    if asleep is None:
        return []
    return [f"- 8 clients with implicit release at 4K, beside {asleep['clients']} that never "
        f"read: the output missed {asleep['missed']} of "
        f"{asleep['missed'] + asleep['output_frames']} frames, and the clients "
        f"{asleep['skipped']}; latency p50 {format_us(asleep['latency_us_p50'])} µs, "
        f"{format_us(asleep['latency_us_p50_alone'])} without them."]


def make_markdown_sessions(result):
    sessions, idle = result["sessions"], result["idle_wakeups_per_s"]
    return [
        f"- A bare round trip costs the compositor {result['roundtrip_cpu_us']:.1f} µs.",
        f"- 64 idle clients: {format_number(idle['baseline'])} wake-ups a second without and "
        f"{format_number(idle['sealed'])} with sessions.",
        *make_markdown_asleep(result),
        *(f"- Opening and ending a session of one frame at 4K, on a {scene} screen: "
            f"{format_us(sessions[scene]['retired']['cpu_us'])} µs of compositor CPU, "
            f"{format_us(sessions[scene]['retired']['main_thread_us'])} of it in the main thread, "
            f"and {format_us(sessions[scene]['retired']['first_frame_us'])} µs until the frame is "
            f"there. Without retirement: {format_us(sessions[scene]['kept']['cpu_us'])} and "
            f"{format_us(sessions[scene]['kept']['first_frame_us'])} µs."
            for scene in ("still", "moving")),
        f"- Drawing the screen once: {format_us(sessions['redraw_us'])} µs.",
    ]


def make_markdown_unwatched(result):
    pairs = result["unwatched"]["pairs"]
    stock, plugin = (statistics.median(pair[name]["cpu_us"] for pair in pairs)
        for name in ("stock", "vitrine-run"))
    return [f"- A 1080p frame of sway that no client looks at: {format_us(stock)} µs without and "
        f"{format_us(plugin)} µs under vitrine-run (medians of {len(pairs)} alternating pairs)."]


def make_markdown_table(result, place):
    rows = list(make_markdown_rows(result, place))
    if not rows:
        return []
    return ["",
        "| path | size | damage | clients | compositor | spread | client | p50 | p99 | missed "
        "| copied | fds | wire | redraw |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|", *rows]


def make_markdown_guest(result):
    guest = result.get("guest", {})
    repetitions = [row["repetitions"] for row in result["rows"] if row.get("place") == "guest"]
    if not repetitions:
        return []
    return ["", "## Where there are dma-bufs", "",
        f"In User-Mode Linux ({guest['kernel']}) with one processor, buffers from udmabuf and the "
        f"guard module; at 60 Hz, and at 20 Hz with 64 clients; medians of {min(repetitions)} to "
        f"{max(repetitions)} interleaved repetitions, in {guest['seconds']} s. These compare "
        "with each other only: system calls take far longer there. CPU time is that outside of "
        "epoll_wait, as that kernel counts in ticks of 10 ms. The compositor cannot be "
        "interrupted by clients, and its time is not in theirs; of the compositor it is the "
        "median of the frames, as what the host does in between would be in a sum. It is in that "
        "of the clients."]


def make_markdown(result):
    machine = result["machine"]
    lines = [
        "# What capturing costs",
        "",
        f"{machine['cpus']} CPUs ({machine['cpu']}), Linux {machine['kernel']}, pixman renderer, "
        f"headless output at {result['refresh_hz']['full']} Hz with full and "
        f"{result['refresh_hz']['small']} Hz with small damage (64 by 64 pixels); medians of up to "
        f"{result['repetitions']} interleaved repetitions; load average before: "
        f"{machine['load_before']}.",
        "",
        "CPU times are per client and frame, in µs, of the compositor above the same scene "
        "without capture, and of the client. Drawing the scene is not in them: it is the last "
        "column, per output frame. Latency is from the commit to the client, in µs. Bytes, file "
        "descriptors and bytes on the socket (both ways) are per client and frame. `control` is "
        "the limit: one small event and one small request per frame.",
        "",
    ]
    if "sessions" in result:
        lines += make_markdown_sessions(result)
    if "unwatched" in result:
        lines += make_markdown_unwatched(result)
    for path, reason in result["unavailable"].items():
        lines.append(f"- Not measured: {path}: {reason}.")
    lines += ["", "| limit aimed at | measured | |", "|---|---|---|"]
    for check in result["checks"]:
        lines.append(f"| {check['name']}: {check['kind']} {check['limit']} "
            f"| {format_number(check['value'])} | {'met' if check['ok'] else '**missed**'} |")
    lines += make_markdown_table(result, "host")
    lines += make_markdown_guest(result)
    lines += make_markdown_table(result, "guest")
    return "\n".join(lines) + "\n"


def make_terminal(result):
    """The short version."""
    lines = [f"{'path':<28}{'size':<7}{'damage':<8}{'clients':>7}{'compositor':>12}"
        f"{'client':>9}{'p50':>9}{'p99':>9}  missed", f"{'':<50}{'us/frame':>12}{'us':>9}"
        f"{'us':>9}{'us':>9}"]
    place = "host"
    for row in result["rows"]:
        if row.get("place", "host") != place:
            place = row["place"]
            lines.append(f"in the {place}, to be compared with what follows only:")
        lines.append(f"{row['path']:<28}{row['resolution']:<7}{row['damage']:<8}"
            f"{row['clients']:>7}{format_us(row['compositor_cpu_us']):>12}"
            f"{format_us(row['client_cpu_us']):>9}{format_us(row['latency_us_p50']):>9}"
            f"{format_us(row['latency_us_p99']):>9}  {row['missed']}")
    lines.append("")
    for check in result["checks"]:
        lines.append(f"{'met   ' if check['ok'] else 'MISSED'} {check['name']}: "
            f"{format_number(check['value'])} ({check['kind']} {check['limit']})")
    return "\n".join(lines)
