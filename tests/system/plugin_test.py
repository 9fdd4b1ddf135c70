#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The plugin in unmodified compositors, headless. Prints TAP.

usage: plugin_test.py sway|labwc|cage
environment: VITRINE_RUN, VITRINE, SANDBOX, LOCKER, TOPLEVEL, WINDOW: the built programs
"""

import contextlib
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TIMEOUT = 30

RUN = os.environ['VITRINE_RUN']
VITRINE = os.environ['VITRINE']
SANDBOX = os.environ['SANDBOX']
LOCKER = os.environ['LOCKER']
TOPLEVEL = os.environ['TOPLEVEL']
WINDOW = os.environ['WINDOW']

# What the compositor starts: it tells what it has inherited, then moves something.
START = '''#!/bin/sh
env -0 >env
cat /proc/self/maps >maps
weston-simple-shm >app.log 2>&1 &
echo "$WAYLAND_DISPLAY $!" >ready
wait
'''

APP = 'org.freedesktop.weston.simple-shm'
# A window of which something changes all the time, whatever its size is.
TERMINAL = ('foot', '--config=/dev/null', 'sh', '-c',
            'i=0; while sleep 0.02; do i=$((i + 1)); echo $i; done')


class Skip(Exception):
    pass


def need(condition, message):
    if not condition:
        raise AssertionError(message)


class Compositor:
    """A compositor from start to end, in a directory of its own."""

    def __init__(self, name, options=(), plugin=True, environment=(), config=''):
        self.name = name
        self.config = config  # more lines, of sway's
        self.dir = tempfile.mkdtemp(prefix='plugin-test.')
        self.log = os.path.join(self.dir, 'log')
        self.events = os.path.join(self.dir, 'events')
        self.stderr = os.path.join(self.dir, 'stderr')
        os.mkfifo(self.path('ready'))
        with open(self.path('start'), 'w') as file:
            file.write(START)
        os.chmod(self.path('start'), 0o700)
        # Nobody has to be listening for the command to end
        self.hook = 'printf "%s %s %s %s %s\\n" "$VITRINE_EVENT" "$VITRINE_SOURCE" ' \
            '"$VITRINE_GUARANTEE" "$VITRINE_PID" "${LD_PRELOAD-none}" >>' + self.events
        run = [RUN, '--strict', '--log', self.log, '--on-capture', self.hook, *options, '--']
        env = dict(os.environ, XDG_RUNTIME_DIR=self.dir, HOME=self.dir, WLR_BACKENDS='headless',
                   WLR_RENDERER='pixman', WLR_LIBINPUT_NO_DEVICES='1')
        env.update(environment)
        for variable in ('WAYLAND_DISPLAY', 'DISPLAY', 'SWAYSOCK'):
            env.pop(variable, None)
        with open(self.stderr, 'w') as stderr:
            self.process = subprocess.Popen((run if plugin else []) + self.command(),
                                            env=env, cwd=self.dir, stdout=stderr, stderr=stderr,
                                            stdin=subprocess.DEVNULL)
        try:
            display, app = self.read_fifo('ready').split()
        except TimeoutError:
            self.process.kill()
            raise AssertionError('it does not start: ' + self.read('stderr')[-800:])
        self.app = int(app)
        self.env = dict(env, WAYLAND_DISPLAY=display)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGTERM)
        # cage waits for what it started, which waits for the application; one that connects
        # only now, on a machine with much to do, would wait for cage
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.app, signal.SIGKILL)
        try:
            status = self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = 'none: it hung'
        if unused[0] is None:
            # cage ends with the status of what it started
            need(status in (0, 143) or (self.name == 'cage' and status == 1),
                 f'exit status {status}: ' + self.read('stderr')[-800:])
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        try:
            with open(self.path(name), errors='replace') as file:
                return file.read()
        except FileNotFoundError:
            return ''

    def read_fifo(self, name):
        lines = []
        thread = threading.Thread(target=lambda: lines.append(self.read(name)), daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        if not lines:
            raise TimeoutError(name)
        return lines[0]

    def command(self):
        start = self.path('start')
        if self.name == 'sway':
            with open(self.path('config'), 'w') as file:
                file.write(f'xwayland disable\n{self.config}\nexec {start}\n')
            return ['sway', '-c', self.path('config')]
        if self.name == 'labwc':
            os.mkdir(self.path('labwc'))
            return ['labwc', '-C', self.path('labwc'), '-s', start]
        return ['cage', '--', start]

    def run(self, *command, fails=False):
        """Runs a client. Returns its output."""
        done = subprocess.run(command, env=self.env, cwd=self.dir, capture_output=True,
                              timeout=2 * TIMEOUT, check=False)
        output = (done.stdout + done.stderr).decode(errors='replace')
        need((done.returncode != 0) == fails,
             f'{" ".join(command)}: status {done.returncode}: {output[-1200:]}')
        return output

    def start(self, *command, **arguments):
        return subprocess.Popen(command, env=self.env, cwd=self.dir, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **arguments)

    def vitrine(self, *arguments, fails=False):
        return self.run(VITRINE, *arguments, fails=fails)

    def raw_frames(self, count, *options):
        """Frames as a list of pictures, in red, green, blue."""
        info = self.vitrine('record', '--frames', str(count), '--format', 'raw', *options, 'raw')
        with open(self.path('raw'), 'rb') as file:
            data = file.read()
        need(len(data) % count == 0, f'{len(data)} bytes in {count} frames: {info}')
        size = len(data) // count
        return [to_rgb(data[i * size:(i + 1) * size]) for i in range(count)]

    def swaymsg(self, *command):
        self.run('swaymsg', '--socket', glob.glob(self.path('sway-ipc.*.sock'))[0], *command)

    def freeze(self):
        """Stops the moving window once it moves."""
        self.raw_frames(20)
        os.kill(self.app, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.app, signal.SIGCONT)

    def grim(self):
        self.run('grim', '-t', 'ppm', 'grim.ppm')
        with open(self.path('grim.ppm'), 'rb') as file:
            data = file.read()
        header = re.match(rb'P6\s+(\d+)\s+(\d+)\s+255\s', data)
        return data[header.end():]


def to_rgb(xrgb):
    rgb = bytearray(len(xrgb) // 4 * 3)
    for i in range(3):
        rgb[i::3] = xrgb[2 - i::4]
    return bytes(rgb)


def drain(stream):
    """Reads a stream to its end. Returns a function: how many lines there were so far."""
    n_lines = 0

    def read():
        nonlocal n_lines
        for _ in stream:
            n_lines += 1

    threading.Thread(target=read, daemon=True).start()
    return lambda: n_lines


def n_colors(rgb):
    return len({rgb[i:i + 3] for i in range(0, len(rgb) - 2, 3 * 97)})


# The tests. Each is shown to be possible before it is shown to be refused.

def test_shot(compositor):
    """vitrine shot writes a picture with something in it"""
    compositor.vitrine('shot', 'shot.png')
    with open(compositor.path('shot.png'), 'rb') as file:
        need(file.read(8) == b'\x89PNG\r\n\x1a\n', 'no PNG')
    need(n_colors(compositor.raw_frames(20)[-1]) > 8, 'only one colour')


def test_record(compositor):
    """vitrine record --frames 120 records what moves"""
    frames = compositor.raw_frames(120)
    need(len(frames) == 120, f'{len(frames)} frames')
    need(len(set(frames)) > 60, f'only {len(set(frames))} of 120 frames are different')


def test_audit(compositor):
    """vitrine audit finds that the guarantee is kept"""
    output = compositor.vitrine('audit')
    need('sealed' in output, output[-500:])


def test_children(compositor):
    """children of the compositor inherit nothing of the plugin"""
    maps, env = compositor.read('maps'), compositor.read('env')
    with open(f'/proc/{compositor.process.pid}/maps') as file:
        need('libvitrine-plugin' in file.read(), 'it is not even in the compositor')
    need('WAYLAND_DISPLAY=' in env and 'libc.so' in maps, 'the child did not say')
    need('vitrine' not in maps, maps)
    for line in env.split('\0'):
        need(not line.startswith(('LD_PRELOAD', 'VITRINE_PLUGIN')), line)


def test_grim(compositor):
    """grim works beside, and sees the same pixels"""
    compositor.freeze()
    try:
        before = compositor.grim()
        view = compositor.raw_frames(1)[0]
        need(before == compositor.grim(), 'the screen does not stand still')
        need(n_colors(view) > 8, 'only one colour')
        need(view == before, 'a view differs from what grim sees')
    finally:
        compositor.thaw()


def test_wf_recorder(compositor):
    """wf-recorder works beside a view"""
    os.mkfifo(compositor.path('video'))
    recorder = compositor.start('wf-recorder', '--no-dmabuf', '-c', 'rawvideo', '-m', 'nut', '-y',
                                '-f', 'video', '-x', 'bgr0')
    enough, sizes = threading.Event(), []

    def read_video():
        with open(compositor.path('video'), 'rb') as file:
            while data := file.read(1 << 20):
                sizes.append(len(data))
                if sum(sizes) > 10 * 4 * 1280 * 720:
                    enough.set()

    reader = threading.Thread(target=read_video, daemon=True)
    reader.start()
    try:
        need(len(set(compositor.raw_frames(120))) > 60, 'the view stands still')
        need(enough.wait(TIMEOUT), f'only {sum(sizes)} bytes of video')
    finally:
        recorder.send_signal(signal.SIGINT)
        output = recorder.communicate(timeout=TIMEOUT)[0]
    need(recorder.returncode == 0, f'status {recorder.returncode}: {output[-800:]}')


def test_log(compositor):
    """the log and the command say who looks, at what, and when it ends"""
    session = compositor.start(VITRINE, 'record', '--frames', '5', '--format', 'raw', 'raw')
    session.communicate(timeout=TIMEOUT)
    # The client may be gone before the compositor has seen that it is
    lines = []
    tail = compositor.start('timeout', str(TIMEOUT), 'tail', '-n', '+1', '-F', 'log')
    for line in tail.stdout:
        if f' pid={session.pid} ' in line:
            lines.append(line.rstrip('\n'))
        if len(lines) == 2:
            break
    tail.terminate()
    tail.communicate(timeout=TIMEOUT)
    need(len(lines) == 2, lines)
    for line, what in zip(lines, ('start', 'stop')):
        need(re.search(rf'vitrine: capture {what} source=HEADLESS-1 guarantee=sealed pid=\d+ '
                       # a process that is gone has no name any more, but its pid is known
                       r'comm="(vitrine)?" app-id="" protocol=xx_dmabuf_view_manager_v1 '
                       r'frames=\d+$', line), line)
    # The command is not waited for by anybody, and commands may overtake each other
    expected = {f'{what} HEADLESS-1 sealed {session.pid} none' for what in ('start', 'stop')}
    tail = compositor.start('timeout', str(TIMEOUT), 'tail', '-n', '+1', '-F', 'events')
    for line in tail.stdout:
        expected.discard(line.strip())
        if not expected:
            break
    tail.terminate()
    tail.communicate(timeout=TIMEOUT)
    need(not expected, f'never came: {expected}')


def lock(compositor):
    """Starts a screen locker and waits until the screen is locked."""
    ready, ready_child = os.pipe()
    locker = compositor.start('swaylock', '--color', 'ff0000', '--ready-fd', str(ready_child),
                              pass_fds=[ready_child])
    os.close(ready_child)
    locked = os.read(ready, 1)
    os.close(ready)
    need(locked == b'\n', 'no lock: ' + (locker.communicate(timeout=TIMEOUT)[0]
                                         if locker.poll() is not None else ''))
    return locker


def test_lock(compositor):
    """a session stops with "locked", and there is none before the screen is unlocked"""
    if compositor.name == 'cage':
        raise Skip('cage has no ext-session-lock')
    compositor.vitrine('shot', 'shot.png')
    session = compositor.start(VITRINE, 'watch')
    need('fps' in session.stdout.readline(), 'no line of vitrine watch')
    locker = lock(compositor)
    try:
        output = session.communicate(timeout=TIMEOUT)[0]
        need(session.returncode != 0 and 'locked' in output, output)
        compositor.vitrine('shot', 'shot.png', fails=True)
    finally:
        locker.send_signal(signal.SIGUSR1)
        locker.communicate(timeout=TIMEOUT)
    compositor.vitrine('shot', 'shot.png')


def test_dead_locker(compositor):
    """a locker that dies leaves the screen locked, for views as well"""
    if compositor.name == 'cage':
        raise Skip('cage has no ext-session-lock')
    # Killed once it has locked, or for a protocol error in the same breath
    for die in (lambda: lock(compositor).kill(), lambda: compositor.run(LOCKER)):
        die()
        compositor.vitrine('shot', 'shot.png', fails=True)
        locker = lock(compositor)
        compositor.vitrine('shot', 'shot.png', fails=True)
        locker.send_signal(signal.SIGUSR1)
        locker.communicate(timeout=TIMEOUT)
        compositor.vitrine('shot', 'shot.png')


def test_sandboxed(compositor):
    """a sandboxed client does not see the global"""
    if compositor.name == 'cage':
        raise Skip('cage has no security-context-v1')
    compositor.vitrine('shot', 'shot.png')
    output = compositor.run(SANDBOX, 'org.example.App', VITRINE, 'shot', 'shot.png', fails=True)
    need('does not offer' in output or 'xx' in output, output)


def test_survives(compositor):
    """sessions survive resizes, outputs that go off, come and go, and a reload"""
    if compositor.name != 'sway':
        raise Skip('needs commands for the compositor')
    watch = compositor.start(VITRINE, 'watch', '-o', 'HEADLESS-1')
    watch.stdout.readline()

    def go(*command):
        compositor.swaymsg(*command)
        if 'off' not in command:
            need(len(compositor.raw_frames(5, '-o', 'HEADLESS-1')) == 5, command)
        need(watch.poll() is None, f'{command} ended a session')

    for command in (['output', 'HEADLESS-1', 'mode', '800x600'],
                    ['output', 'HEADLESS-1', 'mode', '1280x720@30Hz'],
                    ['output', 'HEADLESS-1', 'mode', '1280x720@60Hz'],
                    ['output', 'HEADLESS-1', 'scale', '2'],
                    ['output', 'HEADLESS-1', 'scale', '1'],
                    ['output', 'HEADLESS-1', 'transform', '90'],
                    ['output', 'HEADLESS-1', 'transform', 'normal'],
                    ['output', 'HEADLESS-1', 'power', 'off'],
                    ['output', 'HEADLESS-1', 'power', 'on'],
                    ['reload']):
        go(*command)
    # 19 more, each of them viewed; the session on one that goes is the only one to stop
    for i in range(2, 21):
        compositor.swaymsg('create_output')
        compositor.vitrine('shot', '-o', f'HEADLESS-{i}', 'shot.png')
    for i in range(2, 21):
        go('output', f'HEADLESS-{i}', 'unplug')
    watch.terminate()
    watch.communicate(timeout=TIMEOUT)


def need_toplevels(compositor):
    if compositor.name == 'cage':
        raise Skip('cage has no ext-foreign-toplevel-list')


def test_toplevel(compositor):
    """a window is viewed on its own, at the pace of a screen"""
    need_toplevels(compositor)
    output = compositor.run(TOPLEVEL, '120', APP)
    views = re.findall(r'^view (\d+)x(\d+) (\w+)$', output, re.MULTILINE)
    need(views and all(view[2] == 'sealed' for view in views), output)
    need(int(views[0][0]) < 1280 or int(views[0][1]) < 720, f'not only the window: {output}')
    found = re.search(r'^frames (\d+) different (\d+) rate ([\d.]+)$', output, re.MULTILINE)
    need(found and int(found[1]) == 120 and int(found[2]) > 60, output)
    need(float(found[3]) < 60 * 120 / (120 - 3), output)
    # And again, since the source goes on to be there
    need('frames 5 ' in compositor.run(TOPLEVEL, '5', APP), 'no second session')


def test_static_toplevel(compositor):
    """a window that stands still is shown to each who looks"""
    need_toplevels(compositor)
    compositor.freeze()
    try:
        for _ in range(3):
            need('frames 1 ' in compositor.run(TOPLEVEL, '1', APP), 'no frame')
        stays = compositor.start(TOPLEVEL, '1000000', APP)
        need('view' in stays.stdout.readline(), 'no view')
        for _ in range(3):
            need('frames 1 ' in compositor.run(TOPLEVEL, '1', APP), 'no frame beside another')
        stays.kill()
        stays.communicate(timeout=TIMEOUT)
    finally:
        compositor.thaw()


def test_toplevels_beside(compositor):
    """several look at a window, and one at the output"""
    need_toplevels(compositor)
    lookers = [compositor.start(TOPLEVEL, '120', APP) for _ in range(3)]
    need(len(set(compositor.raw_frames(60))) > 30, 'the output stands still')
    for looker in lookers:
        output = looker.communicate(timeout=TIMEOUT)[0]
        found = re.search(r'frames 120 different (\d+) ', output)
        need(found and int(found[1]) > 60, output)


def test_closed_toplevel(compositor):
    """a window that is closed stops its sessions"""
    need_toplevels(compositor)
    window = compositor.start(*TERMINAL)
    looker = compositor.start(TOPLEVEL, '1000000', 'foot')
    need('view' in looker.stdout.readline(), 'no view')
    window.terminate()
    window.communicate(timeout=TIMEOUT)
    output = looker.communicate(timeout=TIMEOUT)[0]
    need('stopped 0' in output, output)
    compositor.vitrine('shot', 'shot.png')


def test_resized_toplevel(compositor):
    """a window that is resized is announced anew"""
    if compositor.name != 'sway':
        raise Skip('only a tiling compositor resizes by itself')
    window = compositor.start(*TERMINAL)
    looker = compositor.start(TOPLEVEL, '1000000', 'foot')
    first = looker.stdout.readline()
    other = compositor.start('foot', '--config=/dev/null', '--app-id=other', 'sleep', '1000')
    line = first
    while line.split()[:2] == first.split()[:2]:
        line = looker.stdout.readline()
        need(line.startswith('view '), f'{first} and then: {line}')
    looker.terminate()
    looker.communicate(timeout=TIMEOUT)
    for process in window, other:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


PACE_CONFIG = '''output HEADLESS-1 mode --custom 640x480@30Hz
output HEADLESS-2 mode --custom 640x480@120Hz
workspace 1 output HEADLESS-1
workspace 2 output HEADLESS-2
workspace 3 output HEADLESS-1
assign [app_id="hidden"] workspace 3
focus output HEADLESS-1
'''


def need_pace(compositor, app_id, refresh, least):
    """Looks for three seconds, and again if the machine had no time."""
    n_frames = 3 * refresh
    for _ in range(3):
        output = compositor.run(TOPLEVEL, str(n_frames), app_id)
        rate = float(re.search(r' rate ([\d.]+)$', output, re.MULTILINE)[1])
        # However slow the machine: never more than one frame of each period
        need(rate < refresh * n_frames / (n_frames - 3),
             f'{rate} frames of {app_id} a second, at {refresh} Hz')
        if rate > least:
            return
    raise AssertionError(f'no more than {rate} frames of {app_id} a second, at {refresh} Hz')


def test_pace(name):
    """a window is drawn as often as the output that shows it, however fast it paints"""
    if name != 'sway':
        raise Skip('needs commands for the compositor')
    with Compositor(name, environment={'WLR_HEADLESS_OUTPUTS': '2'},
                    config=PACE_CONFIG) as compositor:
        os.kill(compositor.app, signal.SIGTERM)
        window = compositor.start(WINDOW, '400', 'fast')
        need(window.stdout.readline() == 'shown\n', 'it shows no picture')
        drain(window.stdout)
        need_pace(compositor, 'fast', 30, 22)
        # Not merely what it started with, nor the fastest of all
        compositor.swaymsg('[app_id=fast] move to workspace 2')
        need_pace(compositor, 'fast', 120, 75)
        compositor.swaymsg('output HEADLESS-2 mode --custom 640x480@60Hz')
        need_pace(compositor, 'fast', 60, 38)
        window.terminate()
        window.wait(TIMEOUT)


def test_nobody_looks(name):
    """a window that nothing shows is drawn at 60 Hz while somebody looks, and else not at all"""
    if name != 'sway':
        raise Skip('needs commands for the compositor')
    with Compositor(name, environment={'WLR_HEADLESS_OUTPUTS': '2'},
                    config=PACE_CONFIG) as compositor:
        os.kill(compositor.app, signal.SIGTERM)
        window = compositor.start(WINDOW, '400', 'hidden')
        n_shown = drain(window.stdout)
        need_pace(compositor, 'hidden', 60, 38)
        need(n_shown() > 100, f'{n_shown()} pictures of it were shown')
        time.sleep(0.5)
        before = n_shown()
        time.sleep(2)
        need(n_shown() == before, f'{n_shown() - before} pictures were drawn for nobody')
        need_pace(compositor, 'hidden', 60, 38)
        window.terminate()
        window.wait(TIMEOUT)


def test_allow_sandboxed(name):
    """--allow-sandboxed lets a sandboxed client look, and the log has its app-id"""
    if name == 'cage':
        raise Skip('cage has no security-context-v1')
    with Compositor(name, ['--allow-sandboxed']) as compositor:
        compositor.run(SANDBOX, 'org.example.App', VITRINE, 'shot', 'shot.png')
        need(' app-id="org.example.App" ' in compositor.read('log'), compositor.read('log'))


def test_min_guarantee(name):
    """--min-guarantee snapshot gives nothing weaker"""
    with Compositor(name, ['--min-guarantee', 'snapshot']) as compositor:
        compositor.vitrine('shot', '--guarantee', 'snapshot', 'shot.png')
        compositor.vitrine('shot', '--guarantee', 'sealed', 'shot.png', fails=True)
        need(' guarantee=snapshot ' in compositor.read('log'), compositor.read('log'))
        need('sealed' not in compositor.read('log'), compositor.read('log'))


def test_other_preload(name):
    """other preloaded libraries stay preloaded"""
    libc_helper = '/lib/x86_64-linux-gnu/libanl.so.1'
    if not os.path.exists(libc_helper):
        raise Skip('no library at hand')
    with Compositor(name, environment={'LD_PRELOAD': libc_helper}) as compositor:
        need(f'LD_PRELOAD={libc_helper}\0' in compositor.read('env'), compositor.read('env'))
        compositor.vitrine('shot', 'shot.png')


def test_without(name):
    """without vitrine-run there are no views, and grim works"""
    with Compositor(name, plugin=False) as compositor:
        compositor.run('grim', 'grim.png')
        compositor.vitrine('shot', 'shot.png', fails=True)


def run_test(number, test, argument):
    name = test.__doc__.replace('"', "'")
    try:
        test(argument)
        print(f'ok {number} - {name}', flush=True)
    except Skip as reason:
        print(f'ok {number} - {name} # SKIP {reason}', flush=True)
    except (AssertionError, OSError, subprocess.SubprocessError, ValueError) as error:
        for line in f'{type(error).__name__}: {error}'.splitlines():
            print(f'# {line}')
        print(f'not ok {number} - {name}', flush=True)


def main():
    name = sys.argv[1]
    shared = [test_shot, test_record, test_audit, test_children, test_grim, test_wf_recorder,
              test_log, test_sandboxed, test_survives, test_toplevel, test_static_toplevel,
              test_toplevels_beside, test_closed_toplevel, test_resized_toplevel, test_lock,
              test_dead_locker]
    own = [test_pace, test_nobody_looks, test_allow_sandboxed, test_min_guarantee,
           test_other_preload, test_without]
    only = sys.argv[2:]
    if only:
        shared = [test for test in shared if test.__name__ in only]
        own = [test for test in own if test.__name__ in only]
    programs = [name, 'grim', 'wf-recorder', 'swaylock', 'weston-simple-shm', 'foot']
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        print('1..0 # SKIP there is no ' + ', '.join(missing))
        return
    print(f'1..{len(shared) + len(own) + 1}')
    number = 0

    def test_life(options):
        """the compositor starts with views, and ends as it should"""
        nonlocal number
        with Compositor(name, options) as compositor:
            need('read-only views are on' in compositor.read('log'), compositor.read('log'))
            for test in shared:
                number += 1
                run_test(number, test, compositor)

    try:
        test_life([])
        failure = None
    except AssertionError as error:
        failure = error
    while number < len(shared):
        number += 1
        print(f'not ok {number} - {shared[number - 1].__doc__}')
    number += 1
    if failure is not None:
        print('\n'.join(f'# {line}' for line in str(failure).splitlines()))
    print(f'{"ok" if failure is None else "not ok"} {number} - {test_life.__doc__}', flush=True)
    for test in own:
        number += 1
        run_test(number, test, name)


if __name__ == '__main__':
    main()
