#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command line of vitrine-compositor, and its screen lock. Prints TAP.

usage: reference_test.py [TEST...], with the built commands on PATH
"""

import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from harness import (LIMIT, Compositor, Group, ReferenceCompositor, collect, finish, given,
                     make_environment, n_colors, need, parse_ppm, require, run, run_groups)
from picture import need_same, take_shot

# Command lines, and what is said of them
WRONG = [
    (['-o', '640'], 'not an output mode like 1280x720@60: 640'),
    (['-o', '0x480'], 'not an output mode like 1280x720@60: 0x480'),
    (['-o', '640x16385'], 'not an output mode like 1280x720@60: 640x16385'),
    (['-o', '640x480@'], 'not an output mode like 1280x720@60: 640x480@'),
    (['-o', '640x480@0.5'], 'not an output mode like 1280x720@60: 640x480@0.5'),
    (['-o', '640x480@nan'], 'not an output mode like 1280x720@60: 640x480@nan'),
    (['-o', '640x480@60Hz'], 'not an output mode like 1280x720@60: 640x480@60Hz'),
    (['-o', '64x64'] * 17, 'too many outputs'),
    (['-b', '12345'], 'not a colour like 20242c: 12345'),
    (['-b', '12345g'], 'not a colour like 20242c: 12345g'),
    (['--allow', 'all'], 'no guarantees like fd_read_only: all'),
    (['-x'], '--exit-with-startup needs --startup'),
    (['-v', 'more'], 'unexpected argument: more'),
    (['--size', '640'], 'not an output mode like 1280x720@60: 640'),
    (['--ready-fd', '1000'], 'not an open file descriptor from 3 on: 1000'),
    (['--ready-fd', '1'], 'not an open file descriptor from 3 on: 1'),
    (['--ready-fd', 'one'], 'not an open file descriptor from 3 on: one'),
    (['--ready-fd', '-1'], 'not an open file descriptor from 3 on: -1'),
    (['--run-timeout', '0'], 'not a number of seconds: 0'),
    (['--run-timeout', 'nan'], 'not a number of seconds: nan'),
    (['--run-timeout', '1e9'], 'not a number of seconds: 1e9'),
    (['--run-timeout', '1', '-s', 'true'], '--run-timeout needs a command'),
]

# The same before a command: the status says that it was not run
WRONG_WITH_COMMAND = [
    (['-o', '640', '--', 'true'], 'not an output mode like 1280x720@60: 640'),
    (['-s', 'true', '--', 'true'], 'there is a startup command already: true'),
    (['--policy', '/missing', '--', 'true'], '/missing: No such file or directory'),
]


def test_wrong_options():
    """a wrong command line is one line that names what is wrong, and status 1"""
    for options, message in WRONG:
        done = run('vitrine-compositor', *options, status=1)
        need(done.stderr == f'vitrine-compositor: {message}\n', done.stderr)
        need(done.stdout == '', done.stdout)
    for options, message in WRONG_WITH_COMMAND:
        done = run('vitrine-compositor', *options, status=125)
        need(done.stderr == f'vitrine-compositor: {message}\n', done.stderr)
    need('--nothing' in run('vitrine-compositor', '--nothing', status=1).stderr, 'it is not named')


def test_help():
    """the help and the version go to standard output"""
    done = run('vitrine-compositor', '--help')
    need(done.stdout.startswith('Usage: vitrine-compositor ') and not done.stderr, done)
    for option in '--output', '--policy', '--no-stock-capture':
        need(option in done.stdout, f'{option} is not in it')
    name, version = run('vitrine-compositor', '-V').stdout.split()
    need(name == 'vitrine-compositor' and version == run('vitrine', '--version').stdout.split()[1],
         f'{name} {version}')


def start_in(directory, *options, status, **environment):
    changes = {'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman',
               'XDG_RUNTIME_DIR': directory, **environment}
    return run('vitrine-compositor', *options, env=make_environment(changes), status=status)


def test_exit_with_startup():
    """it ends with the status of what it has started, which finds the socket"""
    with tempfile.TemporaryDirectory() as directory:
        for command, status in (('test -S $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY', 0), ('exit 7', 7),
                                ('kill -KILL $$', 128 + signal.SIGKILL)):
            done = start_in(directory, '--socket', 'here', '-x', '-s', command, status=status)
            need(done.stdout == 'WAYLAND_DISPLAY=here\n', done.stdout)
        need(not os.listdir(directory), os.listdir(directory))


def test_command():
    """it ends with the status of the command after --, which has standard output for itself"""
    with tempfile.TemporaryDirectory() as directory:
        for command, status, stdout in (
                (['sh', '-c', 'test -S $XDG_RUNTIME_DIR/$WAYLAND_DISPLAY && echo done'], 0, 'done\n'),
                (['sh', '-c', 'exit 7'], 7, ''),
                (['sh', '-c', 'kill -KILL $$'], 128 + signal.SIGKILL, ''),
                (['/missing'], 127, ''), ([directory], 126, ''),
                (['vitrine', 'shot', '-o', 'HEADLESS-2', '/dev/null'], 0, '')):
            # wlroots tells of each X11 display that is taken
            done = start_in(directory, '--no-xwayland', '--size', '64x48', '--size', '32x32', '--',
                            *command, status=status)
            need(done.stdout == stdout and (not done.stderr or status in (126, 127)), done)
            need(status not in (126, 127) or f'cannot run {command[0]}: ' in done.stderr, done.stderr)
        done = start_in(directory, '--', 'true', status=125, XDG_RUNTIME_DIR=None)
        need('XDG_RUNTIME_DIR is not set' in done.stderr, done.stderr)
        need(not os.listdir(directory), os.listdir(directory))


# Four processes, of which the command is one. Each says its number on a fifo
START_OTHERS = '''
setsid sh -c '%(trap)s; echo $$ >pids; sh -c "echo \\$\\$ >pids; exec sleep 1000" & wait' &
sh -c 'echo $$ >pids; exec sleep 1000' &
echo $$ >pids
%(last)s
'''


def need_nothing_left(directory, end, status, trap=':'):
    """Ends, in the way that is given, a compositor whose command has started others."""
    os.mkfifo(pids := os.path.join(directory, 'pids'))
    environment = make_environment({'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman',
                                    'XDG_RUNTIME_DIR': directory})
    command = START_OTHERS % {
        'trap': trap, 'last': 'read -r line; exit 7' if end is None else 'exec sleep 1000'}
    with open(os.open(pids, os.O_RDWR), 'r', encoding='utf-8') as pipe:
        process = subprocess.Popen(['vitrine-compositor', '--', 'sh', '-c', command],
                                   cwd=directory, env=environment, stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        started = [os.pidfd_open(int(pipe.readline())) for _ in range(4)]
    if end is not None:
        process.send_signal(end)
    errors = process.communicate('\n', timeout=LIMIT)[1]
    need(process.returncode == status, f'status {process.returncode}: {errors}')
    for fd in started:
        need(select.select([fd], [], [], 0)[0], 'one of its processes is still there')
        os.close(fd)
    os.remove(pids)
    need(not os.listdir(directory), os.listdir(directory))
    return errors


def test_nothing_is_left():
    """nothing that the command has started is there when the compositor has ended"""
    with tempfile.TemporaryDirectory() as directory:
        for end, status in ((None, 7), (signal.SIGTERM, 128 + signal.SIGTERM),
                            (signal.SIGINT, 128 + signal.SIGINT)):
            need(not need_nothing_left(directory, end, status), 'something did not end by itself')
        errors = need_nothing_left(directory, None, 7, 'trap "" TERM HUP')
        need('it is killed' in errors, errors)


def test_run_timeout():
    """a command that runs for too long gets SIGTERM, and SIGKILL later: the status is 124"""
    with tempfile.TemporaryDirectory() as directory:
        start_in(directory, '--run-timeout', '1000', '--', 'sh', '-c', 'exit 7', status=7)
        done = start_in(directory, '--run-timeout', '0.2', '--', 'sh', '-c',
                        'trap "echo ended; exit 3" TERM; sleep 1000 & wait', status=124)
        need(done.stdout == 'ended\n' and 'has run for too long' in done.stderr, done)
        done = start_in(directory, '--run-timeout', '0.2', '--', 'sh', '-c',
                        'trap "" TERM; sleep 1000 & wait', status=124)
        need('it is killed' in done.stderr, done.stderr)
        # Not when it is asked for by the startup command
        start_in(directory, '--run-timeout', '0.2', '-x', '-s', 'sleep 1000', status=124)
        need(not os.listdir(directory), os.listdir(directory))


def test_ready():
    """when clients can connect, it says so on a file descriptor and to a service manager"""
    with tempfile.TemporaryDirectory() as directory:
        for address in '\0vitrine-' + os.path.basename(directory), directory + '/notify':
            ready, ready_child = os.pipe()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.settimeout(LIMIT)
                manager.bind(address)
                environment = make_environment({
                    'WLR_BACKENDS': 'headless', 'WLR_RENDERER': 'pixman',
                    'XDG_RUNTIME_DIR': directory, 'NOTIFY_SOCKET': address.replace('\0', '@')})
                process = subprocess.Popen(
                    ['vitrine-compositor', '--ready-fd', str(ready_child), '--', 'sh', '-c',
                     f'test -e /proc/$$/fd/{ready_child} || read -r line; echo "$NOTIFY_SOCKET$line"'],
                    env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, pass_fds=[ready_child], text=True)
                os.close(ready_child)
                with open(ready, encoding='utf-8') as pipe:
                    name = pipe.read()  # to the end: only we had it
                need(name == 'wayland-0\n', f'{name!r}')
                need(manager.recv(64) == b'READY=1', 'another message')
                environment['WAYLAND_DISPLAY'] = name.strip()
                run('vitrine', 'shot', '/dev/null', env=environment)
                stdout, errors = process.communicate('bye\n', timeout=LIMIT)
                need(process.returncode == 0 and stdout == 'bye\n', errors)


def test_failed_start():
    """without a place for its socket or without a backend it says so and fails"""
    with tempfile.TemporaryDirectory() as directory:
        done = start_in(directory, '-x', '-s', 'true', status=1, XDG_RUNTIME_DIR=None)
        need('XDG_RUNTIME_DIR is not set' in done.stderr, done.stderr)
        missing = str(pathlib.Path(directory) / 'missing')
        done = start_in(directory, '-x', '-s', 'true', status=1, XDG_RUNTIME_DIR=missing)
        need(f'cannot listen on a socket in {missing}' in done.stderr, done.stderr)
        for backend in 'nothing', 'wayland':
            done = start_in(directory, '--backend', backend, '-x', '-s', 'true', status=1,
                            WAYLAND_DISPLAY='missing')
            need('cannot create the backend' in done.stderr, done.stderr)
        done = start_in(directory, '-x', '-s', 'true', status=1, WLR_RENDERER='gles2',
                        WLR_RENDER_DRM_DEVICE=missing)
        need('cannot create the renderer' in done.stderr, done.stderr)


@given(Compositor, ['vitrine-compositor', '-b', '8040c0', '-o', '64x48@50', '--output', '96x32'])
def test_outputs(compositor):
    """it has the outputs that were asked for, in the colour that was asked for"""
    for name, width, height in ('HEADLESS-1', 64, 48), ('HEADLESS-2', 96, 32):
        need_same(take_shot(compositor, '-o', name),
                  (width, height, bytes((0x80, 0x40, 0xc0)) * (width * height)), name)
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-3', 'shot.png', status=1)


@given(ReferenceCompositor, '--no-stock-capture')
def test_no_stock_capture(compositor):
    """the stock protocols can be left out, and views are there all the same"""
    compositor.run('vitrine', 'shot', 'shot.png')
    with ReferenceCompositor() as other:
        other.grim()
    compositor.run('grim', 'grim.png', status=1)


APP = 'org.freedesktop.weston.simple-shm'


def start_looking(compositor, app_id):
    """A client that has seen a window and goes on to do so; and the line of the first view."""
    looker = compositor.start('toplevel', '1000000', app_id)
    line = looker.stdout.readline()
    need(line.startswith('view '), f'no view: {line}')
    return looker, line


@given(ReferenceCompositor, '-o', '640x480')
def test_window(compositor):
    """a window is viewed on its own as long as it is there, at the pace of its screen"""
    output = compositor.run('toplevel', '60', APP).stdout
    need(set(re.findall(r'^view .*$', output, re.MULTILINE)) == {'view 616x456 sealed'}, output)
    found = re.search(r'^frames 60 different (\d+) rate ([\d.]+)$', output, re.MULTILINE)
    need(found and int(found[1]) > 30 and float(found[2]) < 60 * 60 / (60 - 3), output)
    terminal = ('foot', '--config=/dev/null')
    window = compositor.start(*terminal, 'sleep', '1000', stdout=subprocess.DEVNULL)
    looker, first = start_looking(compositor, 'foot')
    compositor.start(*terminal, '--app-id=other', 'sleep', '1000', stdout=subprocess.DEVNULL)
    line = first
    while line.split()[:2] == first.split()[:2]:
        line = looker.stdout.readline()
        need(line.startswith('view '), f'{first} and then: {line}')
    finish(window, signal.SIGTERM)
    output = finish(looker)
    need('stopped 0' in output, output)


@given(ReferenceCompositor)
def test_window_behind_lock(compositor):
    """no window is to be had while the screen is locked"""
    looker, _ = start_looking(compositor, APP)
    locker = lock(compositor)
    output = finish(looker)
    need('stopped 3' in output, output)
    output = finish(compositor.start('toplevel', '1', APP))
    need('stopped 3\nframes 0 ' in output, output)
    finish(locker, signal.SIGUSR1)
    compositor.run('toplevel', '5', APP)


def test_example():
    """the example of the manual, as it stands there, gives the picture of a terminal"""
    manual = pathlib.Path(__file__).parents[2] / 'compositor/reference/vitrine-compositor.1.scd'
    example = re.search(r"^\t\*(vitrine-compositor -- .*foot\.png.*)\*$", manual.read_text('utf-8'),
                        re.MULTILINE)[1]
    with tempfile.TemporaryDirectory() as directory:
        environment = make_environment({'WLR_BACKENDS': None, 'WLR_RENDERER': None,
                                        'XDG_RUNTIME_DIR': directory, 'HOME': directory})
        run('sh', '-c', example, cwd=directory, env=environment)
        run('unpng', 'foot.png', 'foot.ppm', cwd=directory)
        width, height, pixels = parse_ppm((pathlib.Path(directory) / 'foot.ppm').read_bytes())
        need(width > 1000 and height > 600 and n_colors(pixels) > 4,
             f'{width}x{height}, {n_colors(pixels)} colours')


# What a client behind a security context finds. The others are of those that look at, or act for,
# other clients
SANDBOX_GLOBALS = {
    'wl_compositor', 'wl_data_device_manager', 'wl_output', 'wl_seat', 'wl_shm', 'wl_subcompositor',
    'wp_cursor_shape_manager_v1', 'wp_fractional_scale_manager_v1', 'wp_presentation',
    'wp_single_pixel_buffer_manager_v1', 'wp_viewporter', 'xdg_activation_v1', 'xdg_wm_base',
    'zwp_primary_selection_device_manager_v1', 'zxdg_decoration_manager_v1',
    'zxdg_output_manager_v1',
}
PRIVILEGED_GLOBALS = {
    'ext_data_control_manager_v1', 'ext_foreign_toplevel_image_capture_source_manager_v1',
    'ext_foreign_toplevel_list_v1', 'ext_image_copy_capture_manager_v1',
    'ext_output_image_capture_source_manager_v1', 'ext_session_lock_manager_v1',
    'wp_security_context_manager_v1', 'xx_dmabuf_view_manager_v1', 'zwlr_data_control_manager_v1',
    'zwlr_layer_shell_v1', 'zwlr_output_manager_v1', 'zwlr_screencopy_manager_v1',
    'zwlr_virtual_pointer_manager_v1', 'zwp_virtual_keyboard_manager_v1',
}


@given(ReferenceCompositor, environment={'WLR_RENDERER': 'pixman'})
def test_globals(compositor):
    """a sandboxed client sees nothing of what looks at, or acts for, other clients"""
    def list_globals(*command):
        output = compositor.run(*command, 'wayland-info').stdout
        return set(re.findall(r"^interface: '(\w+)'", output, re.MULTILINE))
    need(list_globals() == SANDBOX_GLOBALS | PRIVILEGED_GLOBALS,
         list_globals() ^ (SANDBOX_GLOBALS | PRIVILEGED_GLOBALS))
    seen = list_globals('sandbox', 'org.example.App')
    need(seen == SANDBOX_GLOBALS, seen ^ SANDBOX_GLOBALS)


@given(Compositor, ['vitrine-compositor', '-o', '640x480'])
def test_clipboards(compositor):
    """programs that look after the clipboards copy and paste, and windows are not needed"""
    for options in [], ['--primary']:
        # What it leaves running, to be asked for the text, would keep a pipe
        compositor.start('wl-copy', *options, 'hello', stdout=subprocess.DEVNULL).wait(LIMIT)
        need(compositor.run('wl-paste', '--no-newline', *options).stdout == 'hello', options)
        compositor.run('wl-copy', '--clear', *options)
        compositor.run('wl-paste', *options, status=1)


def start_terminal(compositor, *command, options=()):
    """A terminal that runs a command, which may tell on the fifo `said`."""
    os.mkfifo(compositor.path('said'))
    # Open for writing too, so that it never ends
    pipe = open(os.open(compositor.path('said'), os.O_RDWR), encoding='utf-8')
    terminal = compositor.start('foot', '--config=/dev/null', *options, *command,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return terminal, pipe


@given(Compositor, ['vitrine-compositor', '-o', '640x480'])
def test_virtual_keyboard(compositor):
    """a virtual keyboard types into the window that has the focus"""
    _, pipe = start_terminal(compositor, 'sh', '-c',
                             'echo ready >said; read -r line; echo "$line" >said; sleep 1000')
    with pipe:
        need(pipe.readline() == 'ready\n', 'the terminal has not started')
        compositor.run('toplevel', '1', 'foot')  # there is the window, which has the focus
        compositor.run('wtype', 'Hello, wörld', '-k', 'Return')
        line = pipe.readline()
        need(line == 'Hello, wörld\n', line)


@given(Compositor, ['vitrine-compositor', '-o', '640x480'])
def test_virtual_pointer(compositor):
    """a virtual pointer clicks on the window that it is moved to, which gets the focus"""
    pipes = {}
    for name in 'left', 'right':
        compositor.path('said').unlink(missing_ok=True)
        # What the terminal reports of a click begins with ESC [ M. It has read that it is to do
        # so once it has said, in four bytes, that it is well. It stays: the other one would move
        _, pipes[name] = start_terminal(
            compositor, 'sh', '-c', 'stty -icanon -echo; printf "\\033[?1000h\\033[5n"; '
            'head -c 4 >/dev/null; echo ready >said; exec >said; head -c 3 | od -An -c; '
            'head -c 9 >/dev/null; read -r line; echo "$line"; sleep 1000',
            options=['--app-id=' + name])
        need(pipes[name].readline() == 'ready\n', 'the terminal has not started')
        compositor.run('toplevel', '1', name)
    compositor.run('wlrctl', 'pointer', 'move', '-9999', '-9999')
    for name, dx in ('left', '160'), ('right', '320'):
        compositor.run('wlrctl', 'pointer', 'move', dx, '200')
        compositor.run('wlrctl', 'pointer', 'click', 'left')
        need(pipes[name].readline().split() == ['033', '[', 'M'], 'no click')
        compositor.run('wtype', name, '-k', 'Return')
        need(pipes[name].readline() == name + '\n', 'the other one has the focus')
        pipes[name].close()


# A surface of one colour in a layer below all windows
BACKGROUND = ('swaybg', '-c', '#8040c0')


def wait_for_color(compositor, color, name):
    """Until the whole of an output has it."""
    end = time.monotonic() + LIMIT
    while True:
        width, height, pixels = take_shot(compositor, '-o', name)
        if pixels == bytes(color) * (width * height):
            return
        need(time.monotonic() < end, f'{name} is never {color}')


@given(Compositor, ['vitrine-compositor', '-b', '000000', '-o', '64x48', '-o', '32x32'])
def test_layers(compositor):
    """a background is shown on each output until its client ends"""
    background = compositor.start(*BACKGROUND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in 'HEADLESS-1', 'HEADLESS-2':
        wait_for_color(compositor, (0x80, 0x40, 0xc0), name)
    finish(background, signal.SIGTERM)
    for name in 'HEADLESS-1', 'HEADLESS-2':
        wait_for_color(compositor, (0, 0, 0), name)


@given(Compositor, ['vitrine-compositor', '-o', '640x480'])
def test_launcher(compositor):
    """a launcher has the keyboard before all windows as long as it is there"""
    _, pipe = start_terminal(compositor, 'sh', '-c',
                             'echo ready >said; while read -r line; do echo "$line" >said; done')
    with pipe:
        need(pipe.readline() == 'ready\n', 'the terminal has not started')
        compositor.run('toplevel', '1', 'foot')
        compositor.path('choices').write_text('first\nsecond\n')
        launcher = compositor.start(
            'sh', '-c', 'exec fuzzel --dmenu --no-icons --background-color=ff00ffff <choices',
            stderr=subprocess.DEVNULL)
        while b'\xff\0\xff' * 100 not in take_shot(compositor)[2]:
            need(launcher.poll() is None, 'it has ended')
        compositor.run('wtype', 'second', '-k', 'Return')
        need(finish(launcher) == 'second\n', 'another choice')
        compositor.run('wtype', 'third', '-k', 'Return')
        line = pipe.readline()
        need(line == 'third\n', line)


def find_display(compositor):
    """DISPLAY of what it has started, which has written it to a file."""
    return next(compositor.follow('display'))


def use_x11(compositor):
    """Lets clients find Xwayland, and has it busy: wlroots 0.20 can leave an event unread that
    came while it sent something, until there is another one. A window that nothing moves would
    not be there. Returns DISPLAY.
    """
    compositor.env['DISPLAY'] = find_display(compositor)
    compositor.start('sh', '-c', 'while xprop -root -f BUSY 8s -set BUSY x; do sleep 0.2; done')
    return compositor.env['DISPLAY']


@given(Compositor, ['vitrine-compositor', '-o', '640x480', '-s', 'echo "$DISPLAY" >display'])
def test_xwayland(compositor):
    """a window of an X11 client is laid out, shown and viewed as others are"""
    display = use_x11(compositor)
    output = compositor.run('xdpyinfo').stdout
    need(f'name of display:    {display}' in output and '640x480 pixels' in output, output)
    message = compositor.start('xmessage', 'Hello')
    output = compositor.run('toplevel', '1', 'Xmessage').stdout
    while 'view 616x456 sealed' not in output:  # it was mapped before it had its place
        need(message.poll() is None and 'view ' in output, output)
        output = compositor.run('toplevel', '1', 'Xmessage').stdout
    need(re.search(r'Width: 616\s+Height: 456',
                   compositor.run('xwininfo', '-name', 'xmessage').stdout), 'another size')
    window = compositor.start('stdbuf', '-oL', 'xev', '-name', 'evented')
    compositor.run('toplevel', '1', 'evented')
    compositor.run('wtype', 'q')
    # Which one is not the same to all: Xwayland reads the new keymap when the keyboard is gone
    while 'KeyPress event' not in (line := window.stdout.readline()):
        need(line, 'the key was not heard of')
    looker, _ = start_looking(compositor, 'evented')
    finish(window, signal.SIGTERM)
    output = finish(looker)
    need('stopped 0' in output, output)


# Upon each signal it says anew whether its client places it: by a member of XSetWindowAttributes
X11_CHANGER = """
import ctypes, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
x11 = ctypes.CDLL('libX11.so.6')
x11.XOpenDisplay.restype = ctypes.c_void_p
display = ctypes.c_void_p(x11.XOpenDisplay(None))
window = x11.XCreateSimpleWindow(display, x11.XDefaultRootWindow(display), 0, 0, 50, 40, 0, 0, 0)
x11.XStoreName(display, window, b'changer')
x11.XMapWindow(display, window)
attributes = (ctypes.c_long * 14)()
for i in range(1, 3):
    x11.XSync(display, 0)
    signal.sigwait([signal.SIGUSR1])
    ctypes.c_int.from_buffer(attributes, 88).value = i % 2
    x11.XChangeWindowAttributes(display, window, 1 << 9, ctypes.byref(attributes))
    x11.XMoveWindow(display, window, 5 * i, 5)
x11.XSync(display, 0)
signal.sigwait([signal.SIGUSR1])
"""


def need_no_window(compositor, title):
    """Waits until there is none, but not for long."""
    end = time.monotonic() + LIMIT
    while f'"{title}"' in (output := compositor.run('vitrine', 'info').stdout):
        need(time.monotonic() < end, output)


@given(Compositor, ['vitrine-compositor', '-o', '640x480', '-s', 'echo "$DISPLAY" >display'])
def test_x11_window_that_changes(compositor):
    """a window of an X11 client that decides to place it itself is none any more, nor has the focus"""
    use_x11(compositor)
    changer = compositor.start(sys.executable, '-c', X11_CHANGER)
    compositor.run('toplevel', '1', 'changer')
    message = compositor.start('xmessage', 'Hello')
    compositor.run('toplevel', '1', 'Xmessage')
    changer.send_signal(signal.SIGUSR1)
    need_no_window(compositor, 'changer')
    finish(message, signal.SIGTERM)
    need_no_window(compositor, 'xmessage')
    changer.send_signal(signal.SIGUSR1)
    compositor.run('toplevel', '1', 'changer')
    finish(changer, signal.SIGUSR1)


@given(Compositor, ['vitrine-compositor', '--no-xwayland', '-s', 'echo "$DISPLAY" >display'],
       environment={'DISPLAY': ':99'})
def test_no_xwayland(compositor):
    """without Xwayland, X11 clients find no display, also not that of another desktop"""
    need(find_display(compositor) == '', find_display(compositor))


def lock(compositor):
    """A locker, once it has been told that the screen is locked."""
    ready, ready_child = os.pipe()
    locker = compositor.start('swaylock', '--color', 'ff0000', '--ready-fd', str(ready_child),
                              pass_fds=[ready_child])
    os.close(ready_child)
    with open(ready, 'rb') as pipe:
        need(pipe.read(1) == b'\n', 'no lock: ' + (finish(locker) if locker.poll() else ''))
    return locker


def need_lock_kept(compositor):
    """Nothing of the screen is to be had."""
    done = compositor.run('vitrine', 'shot', 'shot.png', status=1)
    need('locked' in done.stderr, done.stderr)


@given(ReferenceCompositor, '-o', '640x480', '-o', '320x240')
def test_lock(compositor):
    """a session stops with "locked", and there is none before the screen is unlocked"""
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-1', 'shot.png')
    session = compositor.start('vitrine', 'watch', '-o', 'HEADLESS-1')
    need('fps' in session.stdout.readline(), 'no line of vitrine watch')
    locker = lock(compositor)
    output = finish(session)
    need(session.returncode != 0 and 'locked' in output, output)
    for name in 'HEADLESS-1', 'HEADLESS-2':
        done = compositor.run('vitrine', 'shot', '-o', name, 'shot.png', status=1)
        need('locked' in done.stderr, done.stderr)
    need(compositor.start('swaylock').wait() != 0, 'a second locker was let in')
    need(locker.poll() is None, 'a second locker has ended the first one')
    finish(locker, signal.SIGUSR1)
    compositor.run('vitrine', 'shot', '-o', 'HEADLESS-2', 'shot.png')


@given(ReferenceCompositor)
def test_dead_locker(compositor):
    """a locker that dies leaves the screen locked, and another one may unlock it"""
    # Killed once it has locked, or for a protocol error in the same breath
    for die in (lambda: finish(lock(compositor), signal.SIGKILL),
                lambda: compositor.run('locker')):
        compositor.run('vitrine', 'shot', 'shot.png')
        die()
        need_lock_kept(compositor)
        locker = lock(compositor)
        need_lock_kept(compositor)
        finish(locker, signal.SIGUSR1)
    compositor.run('vitrine', 'shot', 'shot.png')


def main():
    require('vitrine', 'vitrine-compositor', 'weston-simple-shm', 'grim', 'swaylock', 'locker',
            'toplevel', 'unpng', 'foot',
            'sandbox', 'wayland-info', 'wl-copy', 'wtype', 'wlrctl', 'swaybg', 'fuzzel',
            'Xwayland', 'xdpyinfo', 'xmessage', 'xev')
    shared, alone = collect(globals(), sys.argv[1:])
    need(not shared, 'all start what they look at')
    run_groups(Group(alone))


for test in (test_wrong_options, test_help, test_exit_with_startup, test_command,
             test_nothing_is_left, test_run_timeout, test_ready, test_example, test_failed_start):
    test.alone = True

if __name__ == '__main__':
    main()
