#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients of the library that are not ours: the example of the documentation, and other
languages. Prints TAP.

usage: clients_test.py [TEST...], with the built commands on PATH, and in the environment
EXAMPLE, the source that was built as docs-example, CLIENT_LIBRARY and CLIENT_INCLUDES
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import sys

from harness import (KEEP_SIZE, Group, PluginCompositor, ReferenceCompositor, collect, finish,
                     given, n_colors, need, require, run, run_groups, skip_if)

LIBRARY = os.environ['CLIENT_LIBRARY']
INCLUDES = os.environ['CLIENT_INCLUDES'].split(':')
APP = 'org.freedesktop.weston.simple-shm'
TERMINAL = ('foot', '--config=/dev/null', '--window-size-pixels=400x300', 'sh', '-c',
            'i=0; while sleep 0.02; do i=$((i + 1)); echo $i; done')


class Outputs(ReferenceCompositor):
    """One output, of a size that is no multiple of anything."""

    def __init__(self):
        super().__init__('-o', '642x482')


@given(Outputs)
def test_example(compositor):
    """the example of docs/clients.md has 30 lines at most, and says of each frame how bright it is"""
    lines = pathlib.Path(os.environ['EXAMPLE']).read_text().splitlines()
    need(len(lines) <= 30, f'{len(lines)} lines')
    example = compositor.start('stdbuf', '-oL', 'docs-example')

    def read_brightness():
        line = example.stdout.readline()
        found = re.fullmatch(r'642x482 (\d+)\n', line)
        need(found, f'it says {line}')
        return int(found[1])

    first = read_brightness()
    need(0 < first < 255, f'a brightness of {first}')
    compositor.start(TERMINAL[0], '--fullscreen', *TERMINAL[1:])
    while abs(read_brightness() - first) < 10:  # a limit of time ends it
        pass
    # It says why it has ended
    compositor.process.send_signal(signal.SIGTERM)
    rest = finish(example).splitlines()
    need(example.returncode == 0 and 'compositor' in rest[-1], rest[-3:])


# --- C++, by windows -----------------------------------------------------------------

def need_window(compositor):
    output = compositor.run('looker', '60', APP).stdout
    # It may be resized at first
    found = re.fullmatch(r'window \S+\n(?:size \d+x\d+ sealed\n)*size (\d+)x(\d+) sealed\n'
                         r'frames 60 different (\d+)\n', output)
    need(found and int(found[3]) > 30, output)
    return int(found[1]), int(found[2])


def need_end(compositor):
    window = compositor.start(*TERMINAL)
    looker = compositor.start('looker', '1000000', 'foot')
    identifier = looker.stdout.readline().split()[-1]
    need(looker.stdout.readline().startswith('size '), 'no frame')
    window.terminate()
    lines = finish(looker).splitlines()
    need(f'removed {identifier}' in lines, lines)
    need('ended the window does not exist any more' in lines, lines)
    need_window(compositor)


@given(PluginCompositor, 'sway', config=KEEP_SIZE)
def test_windows_of_sway(compositor):
    """in sway a window is looked at by the library, and its sessions end with it"""
    need_window(compositor)
    need_end(compositor)
    # Beside another one it is the window that is seen, and not the output
    compositor.start(*TERMINAL)
    compositor.run('looker', '1', 'foot')
    need(need_window(compositor)[0] < 1280, 'more than the window')


@given(Outputs)
def test_windows_of_the_reference(compositor):
    """in vitrine-compositor a window is looked at by the library, and its sessions end with it"""
    need_window(compositor)
    need_end(compositor)


# --- Python --------------------------------------------------------------------------

class FrameInfo(ctypes.Structure):
    _fields_ = [('width', ctypes.c_uint32), ('height', ctypes.c_uint32),
                ('fourcc', ctypes.c_uint32), ('modifier', ctypes.c_uint64),
                ('guarantee', ctypes.c_int), ('storage', ctypes.c_int),
                ('device', ctypes.c_uint64), ('transform', ctypes.c_uint32),
                ('time', ctypes.c_long * 2), ('received', ctypes.c_long * 2),
                ('shown_again', ctypes.c_bool), ('skipped', ctypes.c_uint32), ('view_index', ctypes.c_uint32),
                ('serial', ctypes.c_uint32), ('n_planes', ctypes.c_uint32),
                ('fds', ctypes.c_int * 4), ('offsets', ctypes.c_uint32 * 4),
                ('strides', ctypes.c_uint32 * 4)]


def load_library():
    library = ctypes.CDLL(LIBRARY)
    for name in ('vitrine_client_find_output', 'vitrine_output_get_source',
                 'vitrine_frame_get_info', 'vitrine_frame_get_pixels'):
        getattr(library, name).restype = ctypes.c_void_p
    library.vitrine_client_get_error.restype = ctypes.c_char_p
    return library


def shoot(library, name):
    """The size, serial and age of a frame of the first output; its red, green and blue."""
    client, session, frame = (ctypes.c_void_p() for _ in range(3))
    error = library.vitrine_client_connect(name, ctypes.byref(client), None)
    need(error == 0, f'no connection: {error}')
    output = ctypes.c_void_p(library.vitrine_client_find_output(client, None))
    source = ctypes.c_void_p(library.vitrine_output_get_source(output))
    need(library.vitrine_session_create(source, None, ctypes.byref(session)) == 0, 'no session')
    ready = library.vitrine_session_next_frame(session, 10000, ctypes.byref(frame))
    need(ready == 1, f'no frame: {ready}, {library.vitrine_client_get_error(client)}')
    info = FrameInfo.from_address(library.vitrine_frame_get_info(frame))
    pixels = library.vitrine_frame_get_pixels(frame, ctypes.c_uint32(0))
    data = ctypes.string_at(pixels, info.strides[0] * (info.height - 1) + info.width * 4)
    seen = info.width, info.height, info.serial, info.shown_again
    rgb = bytearray()
    for y in range(info.height):
        row = data[y * info.strides[0]:][:info.width * 4]
        line = bytearray(info.width * 3)
        for i in range(3):
            line[i::3] = row[2 - i::4]
        rgb += line
    library.vitrine_frame_release(frame)
    library.vitrine_client_destroy(client)
    return seen, bytes(rgb)


@given(PluginCompositor, 'sway')
def test_ctypes(compositor):
    """Python makes a shot by ctypes, which is the picture that grim takes"""
    library = load_library()
    name = str(compositor.path(compositor.env['WAYLAND_DISPLAY'])).encode()
    with compositor.frozen():
        seen, rgb = shoot(library, name)
        need(seen[:3] == (1280, 720, 1), seen)
        while not seen[3]:  # what the window has drawn last may have come after the start
            seen, rgb = shoot(library, name)
        need(n_colors(rgb) > 8, 'only one colour')
        need(rgb == compositor.grim(), 'grim takes another picture')


# --- Rust ----------------------------------------------------------------------------

@skip_if(not shutil.which('bindgen') or not shutil.which('rustc'), 'there is no bindgen and rustc')
@given(Outputs)
def test_bindgen(compositor):
    """Rust sees a frame by what bindgen makes of the header"""
    bindings = compositor.path('bindings.rs')
    run('bindgen', f'{INCLUDES[0]}/vitrine-client/client.h', '--allowlist-function', 'vitrine_.*',
        '-o', bindings, '--', *(f'-I{path}' for path in INCLUDES))
    run('rustc', '--edition', '2021', '-o', compositor.path('looker_rs'),
        pathlib.Path(__file__).parent / 'looker.rs', '-C',
        f'link-args={LIBRARY} -Wl,-rpath,{pathlib.Path(LIBRARY).parent}',
        env=dict(os.environ, BINDINGS_DIR=str(compositor.dir)))
    output = compositor.run(compositor.path('looker_rs')).stdout
    found = re.fullmatch(r'642x482 (\d+)\n', output)
    need(found and int(found[1]) >= 642 * 4, output)


def main():
    require('docs-example', 'looker', 'vitrine-compositor', 'vitrine-run', 'sway', 'foot', 'grim',
            'weston-simple-shm')
    shared, alone = collect(globals(), sys.argv[1:])
    need(not shared, 'all start what they look at')
    run_groups(Group(alone))


if __name__ == '__main__':
    main()
