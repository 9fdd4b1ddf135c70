# SPDX-License-Identifier: MIT
"""The screen of a guest that has a device (`./run vm --device`), as a person would see it.

No compositor is asked: it is what QEMU shows.
"""

import contextlib
import glob
import itertools
import json
import os
import pathlib
import select
import struct

from harness import LIMIT, need, parse_ppm, to_rgb

# Of the guest: bochs, qxl or virtio-gpu; None if it has none.
DEVICE = os.environ.get('VITRINE_DEVICE')

numbers = itertools.count()


def see_screen():
    """Its width, its height, and its pixels in red, green, blue."""
    directory = pathlib.Path(os.environ['VITRINE_SCREEN'])  # on the host
    # What a GPU shows is known to QEMU's window alone, which is on an X server's screen
    if (window := directory / 'Xvfb_screen0').exists():
        return crop_window(*parse_xwd(window.read_bytes()))
    path = directory / f'screen-{os.getpid()}-{next(numbers)}.ppm'
    ask_monitor('screendump', filename=str(path))
    try:
        return parse_ppm(path.read_bytes())
    finally:
        path.unlink()


def ask_monitor(command, **arguments):
    """QEMU's monitor (QMP) is at the other end of the guest's one port."""
    fd = os.open(glob.glob('/dev/vport*')[0], os.O_RDWR | os.O_CLOEXEC)
    try:
        answers = read_answers(fd)
        # Which it has to be asked for first, and refuses to be asked for again
        send_request(fd, answers, 'qmp_capabilities', {})
        answer = send_request(fd, answers, command, arguments)
        need('return' in answer, f'{command}: {answer}')
        return answer['return']
    finally:
        os.close(fd)


def send_request(fd, answers, command, arguments):
    name = f'{os.getpid()}-{next(numbers)}'
    request = {'execute': command, 'arguments': arguments, 'id': name}
    os.write(fd, json.dumps(request).encode() + b'\n')
    # Beside greetings, events, and what was for others
    return next(answer for answer in answers if answer.get('id') == name)


def read_answers(fd):
    data = b''
    while True:
        need(select.select([fd], [], [], LIMIT)[0], 'the monitor does not answer')
        data += os.read(fd, 4096)
        *lines, data = data.split(b'\n')
        for line in lines:
            with contextlib.suppress(ValueError):  # the rest of what another has read
                yield json.loads(line)


def parse_xwd(data):
    header = struct.unpack_from('>25I', data)
    size, width, height, bytes_per_line, n_colors = (header[i] for i in (0, 4, 5, 12, 19))
    need(header[7] == 0 and header[11] == 32, f'an unexpected layout: {header}')
    rows = range(size + 12 * n_colors, len(data), bytes_per_line)[:height]
    return width, height, to_rgb(b''.join(data[row:row + 4 * width] for row in rows))


def crop_window(width, height, pixels):
    """From where QEMU's window is opened, with 640x480 pixels in the middle, to the corner."""
    x, y = (width - 640) // 2, (height - 480) // 2
    return width - x, height - y, b''.join(
        pixels[3 * (row * width + x):3 * (row + 1) * width] for row in range(y, height))
