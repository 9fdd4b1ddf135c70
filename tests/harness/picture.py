# SPDX-License-Identifier: MIT
"""Pictures that are the same pixel by pixel.

A picture is a width, a height, and the pixels in red, green, blue.
"""

import contextlib
import os
import signal
import time

from harness import LIMIT, n_colors, need, parse_ppm


@contextlib.contextmanager
def still_picture(compositor):
    """The picture that grim sees while the window, once it was painted, is not painted anew."""
    end = time.monotonic() + LIMIT
    while n_colors(compositor.grim()) <= 8:
        need(time.monotonic() < end, 'there is no window')
    os.kill(compositor.app, signal.SIGSTOP)
    try:
        before = compositor.grim_sized()
        while (picture := compositor.grim_sized()) != before:
            need(time.monotonic() < end, 'the screen does not stand still')
            before = picture
        yield picture
    finally:
        os.kill(compositor.app, signal.SIGCONT)


def need_same(picture, expected, what):
    need(picture[:2] == expected[:2], f'{what}: {picture[:2]} instead of {expected[:2]} pixels')
    wrong = sum(picture[2][i:i + 3] != expected[2][i:i + 3]
                for i in range(0, len(expected[2]), 3)) if picture != expected else 0
    need(wrong == 0, f'{what}: {wrong} pixels of {len(expected[2]) // 3} are wrong, '
         f'{n_colors(picture[2])} colours instead of {n_colors(expected[2])}')


def take_shot(compositor, *options):
    """What `vitrine shot` writes."""
    compositor.run('vitrine', 'shot', *options, 'shot.png')
    compositor.run('unpng', 'shot.png', 'shot.ppm')
    return parse_ppm(compositor.path('shot.ppm').read_bytes())
