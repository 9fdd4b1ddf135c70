# SPDX-License-Identifier: MIT
"""Draws the figures of a benchmark as an SVG, without a plotting library."""

import math

from report import RESOLUTIONS, find

WIDTH, HEIGHT = 1040, 480
TOP, BOTTOM = 92, 392
# Left and right edge of each panel; what is right of it is for the labels.
PANELS = [(72, 332), (592, 852)]
PIXELS = {"720p": 1280 * 720, "1080p": 1920 * 1080, "4K": 3840 * 2160, "8K": 7680 * 4320}
STYLES = {  # colours that differ for the colour-blind as well
    "wlr-screencopy-shm": ("#d55e00", "wlr-screencopy"),
    "ext-image-copy-capture-shm": ("#e69f00", "ext-image-copy-capture"),
    "wlr-export-dmabuf": ("#cc79a7", "wlr-export-dmabuf"),
    "wlr-export-dmabuf-hardened": ("#882255", "the same, hardened"),
    "snapshot": ("#56b4e9", "vitrine snapshot"),
    "sealed": ("#0072b2", "vitrine sealed"),
    "guarded": ("#009e73", "vitrine guarded"),
    "control": ("#777777", "limit: one small event"),
}
CLIENTS = 8


class Panel:
    """Two logarithmic axes: pixels, and microseconds."""

    def __init__(self, left, right, resolutions, low, high):
        self.left, self.right = left, right
        self.resolutions = resolutions
        self.low, self.high = low, high

    def x(self, resolution):
        first, last = (math.log(PIXELS[self.resolutions[i]]) for i in (0, -1))
        part = (math.log(PIXELS[resolution]) - first) / ((last - first) or 1)
        return self.left + 16 + part * (self.right - self.left - 32)

    def y(self, us):
        part = (math.log10(max(us, 10 ** self.low)) - self.low) / (self.high - self.low)
        return BOTTOM - part * (BOTTOM - TOP)


def format_us(exponent):
    return {0: "1 µs", 1: "10 µs", 2: "100 µs", 3: "1 ms", 4: "10 ms", 5: "100 ms", 6: "1 s",
            7: "10 s"}.get(exponent, f"10^{exponent} µs")


def draw_axes(panel, title):
    yield (f'<text x="{panel.left}" y="{TOP - 14}" class="title">{title}</text>')
    for exponent in range(panel.low, panel.high + 1):
        y = panel.y(10 ** exponent)
        yield f'<path class="grid" d="M{panel.left} {y:.1f}H{panel.right}"/>'
        yield (f'<text x="{panel.left - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{format_us(exponent)}</text>")
    for resolution in panel.resolutions:
        yield (f'<text x="{panel.x(resolution):.1f}" y="{BOTTOM + 20}" text-anchor="middle">'
            f"{resolution}</text>")


def draw_line(panel, points, color):
    """Points are (resolution, us, low, high)."""
    for resolution, _, low, high in points:
        yield (f'<path d="M{panel.x(resolution):.1f} {panel.y(low):.1f}V{panel.y(high):.1f}" '
            f'stroke="{color}" stroke-width="5" stroke-opacity="0.25"/>')
    path = "L".join(f"{panel.x(name):.1f} {panel.y(us):.1f}" for name, us, _, _ in points)
    yield f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2.5"/>'
    for resolution, us, _, _ in points:
        yield (f'<circle cx="{panel.x(resolution):.1f}" cy="{panel.y(us):.1f}" r="4" '
            f'fill="{color}"/>')


def place_labels(labels):
    """Moves labels that would overlap apart: a list of (y, text, color)."""
    labels = sorted(labels)
    for _ in range(100):
        for i in range(len(labels) - 1):
            gap = labels[i + 1][0] - labels[i][0]
            if gap < 17:
                shift = (17 - gap) / 2
                labels[i] = (labels[i][0] - shift, *labels[i][1:])
                labels[i + 1] = (labels[i + 1][0] + shift, *labels[i + 1][1:])
    return labels


def draw_panel(edges, title, series):
    """Series are lists of points, by path."""
    names = {name for points in series.values() for name, *_ in points}
    resolutions = [name for name in RESOLUTIONS if name in names]
    values = [us for points in series.values() for _, us, *_ in points if us > 0] or [1]
    low = math.floor(math.log10(min(values)))
    panel = Panel(*edges, resolutions, low, max(low + 1, math.ceil(math.log10(max(values)))))
    yield from draw_axes(panel, title)
    labels = []
    for path, points in series.items():
        color, label = STYLES[path]
        yield from draw_line(panel, points, color)
        labels.append((panel.y(points[-1][1]), label, color))
    for y, label, color in place_labels(labels):
        yield (f'<text x="{panel.right - 4}" y="{y + 4:.1f}" style="fill:{color}">'
            f"{label}</text>")


def make_series(result, make_point):
    series = {}
    places = {row.get("place", "host") for row in result["rows"]}
    place = "host" if "host" in places else "guest"
    for path in STYLES:
        # A place has a scale of its own, so that there is one only
        rows = [find(result, path, name, CLIENTS, "full", place) for name in RESOLUTIONS]
        points = [make_point(row) for row in rows if row is not None]
        if points:
            series[path] = points
    return series


def make_svg(result):
    cpu = make_series(result, lambda row: (row["resolution"], row["compositor_cpu_us"],
        *row["spread"]["compositor_cpu_us"]))
    latency = make_series(result, lambda row: (row["resolution"], row["latency_us_p50"],
        row["latency_us_p50"], row["latency_us_p99"]))
    machine = result["machine"]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">',
        "<style>text{font:13px 'DejaVu Sans',sans-serif;fill:#333}"
        ".head{font-size:17px;font-weight:bold}.title{font-weight:bold}"
        ".grid{stroke:#ddd;fill:none}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="24" y="32" class="head">What a captured frame costs: {CLIENTS} clients, '
        "every pixel changes in each frame</text>",
        '<text x="24" y="53">Each protocol on the same compositor, per client and frame. '
        "Lower is better; logarithmic.</text>",
        *draw_panel(PANELS[0], "Compositor CPU time (bars: spread)", cpu),
        *draw_panel(PANELS[1], "Latency (bars: up to the 99th percentile)", latency),
        f'<text x="24" y="{HEIGHT - 20}">vitrine-compositor, headless, pixman renderer, '
        f'{result["refresh_hz"]["full"]} Hz, {machine["cpus"]} CPUs ({machine["cpu"]}). '
        f'Medians of up to {result["repetitions"]} runs. Drawing the scene itself is not in it.'
        "</text>",
        "</svg>",
    ]) + "\n"
