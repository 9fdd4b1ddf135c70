#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Records sessions as seeds for the fuzz targets requests and events.

usage: ./run shell tests/fuzz/record_seeds.py
       ./run uml tests/fuzz/record_seeds.py, for what needs dma-bufs

Clients tell what they say and hear (WAYLAND_DEBUG). What a client says becomes an input of
requests, with what the compositor did meanwhile, as far as the client was told; what it hears
becomes an input of events, with what the client did meanwhile. See struct step in wire.h.
"""

import glob
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'tests/harness'))
from harness import PLACE, ReferenceCompositor, finish, need  # noqa: E402

SEEDS = TOP / 'tests/fuzz/seeds'
XML = ['/usr/share/wayland/wayland.xml', *sorted(glob.glob(f'{TOP}/protocol/*.xml')), *sorted(
    glob.glob('/usr/share/wayland-protocols/*/*/*.xml'))]
STEP_ARGS, STEP_MESSAGES, STEPS_CAP, OBJECTS_CAP = 10, 192, 48, 64
SESSION_INTERFACE = 'xx_dmabuf_view_session_v1'

# enum action of each target
PUMP, PAINT, PAINT_PART, RESIZE, LOCK, ALLOW, STOP, RAW, FDS, READ, WAIT, POWER = range(192, 204)
SESSION, NEXT_FRAME, RELEASE, END_SESSION, DISPATCH = range(192, 197)


def record_stopped(compositor):
    """A session that the user ends."""
    watch = compositor.start('env', 'WAYLAND_DEBUG=client', 'vitrine', 'watch')
    for line in compositor.start('vitrine', 'sessions', '--watch', '--json').stdout:
        one = json.loads(line)
        if (session := one.get('session', one))['pid'] == watch.pid:
            compositor.run('vitrine', 'sessions', '--stop', str(session['id']))
            return finish(watch)
    return need(False, 'no such session')


def run_client(*command):
    return lambda compositor: compositor.run('env', 'WAYLAND_DEBUG=client', *command).stderr


RECORD = 'vitrine', 'record', '--type', 'raw'
AUDIT = 'vitrine', 'audit', '--no-machine', '--seconds', '0.1'
# By place, the name, and the client of vitrine-compositor
PROGRAMS = {
    'host': [
        ('shot', run_client('vitrine', 'shot', 'shot.png')),
        ('shot-snapshot', run_client('vitrine', 'shot', '--guarantee', 'snapshot', 'shot.png')),
        ('info', run_client('vitrine', 'info')),
        ('record', run_client(*RECORD, '--frames', '5', 'raw')),
        ('record-guarantees',
         run_client(*RECORD, '--frames', '3', '--guarantee', 'snapshot,sealed', 'raw')),
        ('watch', run_client('vitrine', 'watch', '--frames', '4')),
        ('audit', run_client(*AUDIT)),
        ('stopped', record_stopped),
    ],
    'uml': [('info-dmabuf', run_client('vitrine', 'info'))],
}
# By place, the name, the program of tests/integration, and the test in it
TESTS = {
    'host': [
        ('damage', 'session_test', 'damage_of_skipped_frames_is_merged'),
        ('resize', 'session_test', 'resize_announces_new_views_and_retires_the_old[sealed]'),
        ('resize-snapshot', 'session_test',
         'resize_announces_new_views_and_retires_the_old[snapshot]'),
        ('format', 'session_test', 'change_of_format_announces_new_views'),
        ('revoked', 'session_test', 'frame_held_past_the_deadline_is_revoked'),
        ('locked', 'session_test', 'lock_is_told_as_the_reason[sealed]'),
        ('gone', 'session_test', 'removed_output_stops_its_sessions'),
        ('guarantees', 'session_test', 'guarantee_is_one_that_the_client_accepts'),
        ('implicit', 'implicit_test', 'frames_come_with_damage_time_and_serials_in_a_row'),
        ('policy', 'manager_test', 'guarantees_are_sent_again_when_policy_changes'),
        ('policy-session', 'manager_test',
         'guarantee_is_told_at_the_first_view_and_when_it_changes'),
        ('window', 'capture_source_test', 'source_goes_on_without_its_node'),
        ('buffer-view-shm', 'manager_test', 'error_of_get_buffer_view[invalid_buffer, shm]'),
        ('export-dmabuf', 'export_dmabuf_test',
         'frame_is_described_as_the_stock_protocol_does'),
        ('export-dmabuf-next', 'export_dmabuf_test',
         'all_frames_that_are_waited_for_are_the_next_one'),
    ],
    'uml': [
        ('buffer-view', 'dmabuf_test', 'buffer_view_prefers_the_stronger_guarantee'),
        ('buffer-view-formats', 'dmabuf_test',
         'buffer_view_is_of_a_storage_and_a_format_that_was_asked_for'),
        ('session-dmabuf', 'dmabuf_test', 'session_prefers_the_stronger_guarantee'),
    ],
}


# Reading


def read_protocols():
    """By interface and direction, the messages: by name, the opcode and the arguments."""
    letters = {'int': 'i', 'uint': 'u', 'fixed': 'f', 'string': 's', 'object': 'o',
               'new_id': 'n', 'array': 'a', 'fd': 'h'}
    found = {}
    for path in XML:
        for interface in xml.etree.ElementTree.parse(path).iter('interface'):
            for tag in 'request', 'event':
                found[interface.get('name'), tag] = {
                    message.get('name'): (opcode, [
                        (letters[arg.get('type')], arg.get('interface'))
                        for arg in message.iter('arg')])
                    for opcode, message in enumerate(interface.findall(tag))}
    return found


PROTOCOLS = read_protocols()
LINE = re.compile(r'^\[[^]]*\] (?:\{[^}]*\} )?(?:discarded )?( *-> )?(\w+)#(\d+)\.(\w+)\((.*)\)$')
ARG = re.compile(r'"([^"]*)"|([^",\s][^",]*)')


class Message:
    """A line of WAYLAND_DEBUG: numbers, strings, and ids of objects."""

    def __init__(self, match):
        sent, self.interface, number, self.name, text = match.groups()
        self.is_request, self.id = sent is not None, int(number)
        messages = PROTOCOLS.get((self.interface, 'request' if sent else 'event'), {})
        self.opcode, self.types = messages.get(self.name, (None, []))
        texts = [quoted if word == '' else word for quoted, word in ARG.findall(text)]
        self.is_bind = (self.interface, self.name) == ('wl_registry', 'bind')
        self.bound = texts[1] if self.is_bind else None
        if self.is_bind:
            self.args = [int(texts[-1].partition('#')[2])]
        else:
            self.args = [self.read(*pair) for pair in zip(self.types, texts)]

    @staticmethod
    def read(what, text):
        if what[0] in 'on':
            return int(text.partition('#')[2]) if '#' in text else None
        if what[0] == 's':
            return text.encode()
        if what[0] in 'ah':
            return int(re.sub(r'\D', '', text))
        return int(float(text) * 256) if what[0] == 'f' else int(text)

    def is_destructor(self):
        return self.is_request and not self.types and self.name in ('destroy', 'release')


def read_messages(log):
    """Of one client: the ids of several would be mixed up."""
    messages = [Message(match) for match in map(LINE.match, log.splitlines()) if match]
    need(sum(message.name == 'get_registry' for message in messages) == 1,
         'not one client: ' + log[:400])
    return messages


# Writing


class Recorder:
    """The steps of an input, and the objects that the target has in its table after them."""

    def __init__(self, interfaces):
        self.objects = [[interface, None] for interface in interfaces]
        self.steps = []

    def add(self, action, *args, at=0, opcode=0, extra=0):
        words = [arg & 0xffffffff for arg in args][:STEP_ARGS]
        self.steps.append([action, at, opcode, extra, words + [0] * (STEP_ARGS - len(words))])

    def pack(self):
        return b''.join(struct.pack(f'<4B{STEP_ARGS}I', *step[:4], *step[4])
                        for step in self.steps[:STEPS_CAP])

    def find(self, number):
        return next((i for i, entry in enumerate(self.objects) if entry[1] == number), None)

    def find_among(self, interface, number):
        """Its number among those of its interface; one that the target has not is the first."""
        if number is None:
            return 0x80000000
        ids = [entry[1] for entry in self.objects if entry[0] == interface]
        return ids.index(number) if number in ids else 0

    def make_args(self, message):
        args = []
        for (kind, interface), value in zip(message.types, message.args):
            if kind == 'o':
                args.append(self.find_among(interface, value))
            elif kind == 's':
                args += [len(value), *struct.unpack('<2I', value[:8].ljust(8, b'.'))]
            elif kind == 'a':  # what is in it is not told
                args += [value, 1, 0]
            elif kind not in 'nh':
                args.append(value)
        return args

    def bind(self, message):
        """The first of the interface that has no number yet; a target has no other."""
        for entry in self.objects:
            if entry == [message.bound, None]:
                entry[1] = message.args[0]
                return


class Requests(Recorder):
    """What a client says, to the objects that bed_connect() makes."""

    def __init__(self):
        super().__init__([
            'xx_dmabuf_view_manager_v1', 'ext_image_capture_source_v1',
            'ext_output_image_capture_source_manager_v1', 'wl_output', 'wl_shm',
            'wp_single_pixel_buffer_manager_v1', 'zwp_linux_dmabuf_v1',
            'zwlr_export_dmabuf_manager_v1', 'wl_display'])
        self.size, self.mask = None, None

    def take(self, message):
        if message.is_bind:
            self.bind(message)
        elif not message.is_request:
            self.act(message)
        elif (at := self.find(message.id)) is not None:
            self.say(message, at)

    def say(self, message, at):
        args = self.make_args(message)
        if any(kind == 'h' for kind, _ in message.types):  # a memfd of this size
            args = [*args, *[0] * 7][:7] + [65535]
        self.add(1, *args, at=at, opcode=message.opcode)
        for (kind, interface), value in zip(message.types, message.args):
            if kind == 'n' and len(self.objects) < OBJECTS_CAP:
                self.objects.append([interface, value])
        if message.is_destructor():
            self.objects[at] = self.objects[-1]
            self.objects.pop()

    def act(self, message):
        """What the compositor has done, for the client to hear this."""
        args = message.args
        if message.name == 'frame' and message.interface == SESSION_INTERFACE:
            x, y, width, height = args[5:]
            is_part = self.size is not None and (width, height) != self.size
            self.add(*[PAINT_PART, x, y, width - 1, height - 1] if is_part else [PAINT])
        elif message.name == 'frame':
            self.add(PAINT)
        elif message.name == 'view':
            if self.size not in (None, (args[2], args[3])):
                self.add(RESIZE, args[2] - 1, args[3] - 1)
            self.size = args[2], args[3]
        elif message.name == 'stopped':
            reason = args[0]  # as enum stop_reason has it
            self.add(*{1: [STOP, 1], 2: [STOP, 0], 3: [LOCK, 1]}.get(reason, [PUMP]))
        elif message.name == 'guarantees':
            if self.mask not in (None, args[0]):
                self.add(ALLOW, args[0])
            self.mask = args[0]
        elif message.name in ('off', 'on') and message.interface == SESSION_INTERFACE:
            self.add(POWER, int(message.name == 'on'))
        elif message.name == 'revoked':
            self.add(WAIT)
        elif message.name == 'done' and message.interface == 'wl_callback':
            self.add(READ)


class Events(Recorder):
    """What a client hears, of the objects that the library makes; one session at a time."""

    def __init__(self):
        super().__init__([
            'wl_display', 'wl_registry', 'xx_dmabuf_view_manager_v1',
            'ext_output_image_capture_source_manager_v1', 'wl_output', SESSION_INTERFACE])
        self.said, self.held, self.views, self.mask = {}, [], {}, None

    def take(self, message):
        if message.is_bind:
            self.bind(message)
        elif message.is_request:
            self.act(message)
        elif message.interface != 'wl_registry' and message.interface != 'wl_display' and \
                (at := self.find(message.id)) is not None:
            self.hear(message, at)

    def act(self, message):
        if message.name == 'create_session':
            self.objects[-1][1], self.said, self.held = message.args[0], {}, []
        elif message.id == self.objects[-1][1]:
            self.act_in_session(message.name, message.args)

    def act_in_session(self, name, args):
        if name.startswith('set_'):
            self.said[name] = args[0] if args else 2
        elif name == 'start':
            cursors = self.said.get('set_cursors', 0) == 1
            self.add(SESSION, self.said['set_guarantees'], self.said['set_storages'],
                     cursors | self.said.get('set_implicit_release', 0))
        elif name == 'release' and args[0] in self.held:
            self.release(args[0])
        elif name == 'destroy':
            self.add(END_SESSION)
            self.objects[-1][1] = None

    def release(self, serial):
        n = self.held.index(serial)
        self.held[n] = self.held[-1]
        self.held.pop()
        self.add(RELEASE, n)

    def hear(self, message, at):
        args, extra = self.make_args(message), 0
        if message.name == 'view':
            self.views[args[0]] = args[3], args[7]
        elif message.name == 'plane':  # see make_fd(): as large as it has to be, and sealed
            height, guarantee = self.views[args[0]]
            args = [*args, *[0] * 7][:7] + [-(-args[3] * height // 4096) * 4096]
            extra = 17 if guarantee == 1 else 1
        self.add(0, *args, at=at, opcode=message.opcode, extra=extra)
        if message.name == 'frame':
            self.add(NEXT_FRAME)
            self.held.append(message.args[1])
            if 'set_implicit_release' in self.said:
                self.release(message.args[1])
        elif message.name == 'stopped' or self.mask is not None and message.name == 'guarantees':
            self.add(DISPATCH)
        if message.name == 'guarantees':
            self.mask = args[0]


# Recording


def record(name, log):
    messages = read_messages(log)
    for target, recorder in ('requests', Requests()), ('events', Events()):
        for message in messages:
            recorder.take(message)
        data = recorder.pack()
        # Not what only connects
        if any(step[0] >= STEP_MESSAGES for step in recorder.steps):
            path = SEEDS / target / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f'{target}/{name}: {len(recorder.steps)} steps, {len(data)} bytes')


def record_test(program, test):
    directory = pathlib.Path(os.environ['VITRINE_BUILD'], 'tests/integration')
    done = subprocess.run([directory / program, test], cwd=directory, text=True, check=True,
                          capture_output=True, timeout=60,
                          env={**os.environ, 'WAYLAND_DEBUG': 'client'})
    need(' # SKIP' not in done.stdout, f'{test} was skipped')
    return done.stderr


def main():
    for name, client in PROGRAMS[PLACE]:
        with ReferenceCompositor('-o', '64x32') as compositor:
            record(name, client(compositor))
    for name, program, test in TESTS[PLACE]:
        record(name, record_test(program, test))


if __name__ == '__main__':
    main()
