# SPDX-License-Identifier: MIT
"""What the tests in Python share: the points of TAP, and compositors with their clients.

A test is a function whose docstring's first line is its name. It fails by an exception and
has a limit of time. What it has started in its compositor is ended after it.
"""

import contextlib
import functools
import glob
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

# Where this runs: "host", "uml" (patched kernel, vgem, vkms) or "vm" (stock kernel).
PLACE = os.environ.get('VITRINE_GUEST', 'host')
# Guests count the seconds of an emulated or shared processor, which draws what a GPU would.
LIMIT = 30 * {'host': 1, 'uml': 4, 'vm': 6}[PLACE] * int(os.environ.get('HARNESS_SLOWDOWN', 1))


class Failure(Exception):
    """What was needed is not so."""


class Skip(Exception):
    """What the test needs is not there."""


def need(condition, message):
    if not condition:
        raise Failure(message)


def need_raised(kind, function, *arguments):
    """Returns what the function raises, which is to be of this kind."""
    try:
        function(*arguments)
    except kind as error:
        return error
    raise Failure(f'no {kind.__name__}')


# --- points --------------------------------------------------------------------------

def note(text):
    for line in str(text).splitlines():
        print('# ' + line, flush=True)


def require(*names, **others):
    """Ends the program as skipped unless these programs, devices and others are there."""
    missing = [name for name in names if shutil.which(name) is None and
               not (name.startswith('/') and os.path.exists(name))]
    missing += [name for name, is_there in others.items() if not is_there]
    if missing:
        print('1..0 # SKIP there is no ' + ', '.join(missing))
        sys.exit()


def skip_if(condition, reason):
    def decorate(function):
        @functools.wraps(function)
        def skip(*_):
            raise Skip(reason)
        return skip if condition else function
    return decorate


def given(fixture, *arguments, **how):
    """The test gets what this context manager gives, and shares it with no other."""
    def decorate(function):
        @functools.wraps(function)
        def run():
            with fixture(*arguments, **how) as thing:
                function(thing)
        run.alone = True
        return run
    return decorate


def collect(names, only=()):
    """The tests among these names of a module: those to share a fixture, and the others."""
    tests = [(function.__doc__.partition('\n')[0], function) for name, function in names.items()
             if name.startswith('test_') and (not only or name in only)]
    return ([test for test in tests if not hasattr(test[1], 'alone')],
            [test for test in tests if hasattr(test[1], 'alone')])


class Group:
    """Tests, as pairs of a name and a function.

    They share what the fixture gives, if there is one. That it starts and ends as it should is
    a point too: the last one, `ending`.
    """

    def __init__(self, tests, fixture=None, ending=None):
        self.tests, self.fixture, self.ending = list(tests), fixture, ending

    def __len__(self):
        return len(self.tests) + (self.fixture is not None)

    def run(self, tap):
        if self.fixture is None:
            for name, function in self.tests:
                tap.check(name, function)
            return
        tests, failure = iter(self.tests), None
        try:
            with self.fixture() as shared:
                for name, function in tests:
                    tap.check(name, function, shared)
                    shared.end_clients()
        except Exception as error:
            failure = error

        def end(*_):
            if failure is not None:
                raise failure
        for name, _ in tests:  # those that it did not come to
            tap.check(name, end)
        tap.check(self.ending, end)


class Tap:
    def __init__(self, total):
        self.number = self.failed = 0
        print(f'TAP version 13\n1..{total}', flush=True)

    def check(self, name, function, *arguments):
        self.number += 1
        name = name.replace('"', "'")
        verdict, directive = 'ok', ''
        try:
            with limited(10 * LIMIT):
                function(*arguments)
        except Skip as reason:
            directive = f' # SKIP {reason}'
        except Exception as error:
            verdict = 'not ok'
            self.failed += 1
            note(f'{type(error).__name__}, line {find_line(error)}: {error}')
        print(f'{verdict} {self.number} - {name}{directive}', flush=True)


def find_line(error):
    """Where a test failed: the outermost line that is not of this file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace.tb_lineno if trace is not None else 'of the harness'


def run_groups(*groups):
    tap = Tap(sum(len(group) for group in groups))
    for group in groups:
        group.run(tap)
    sys.exit(tap.failed > 0)


@contextlib.contextmanager
def limited(seconds):
    def expire(*_):
        raise TimeoutError(f'not done within {seconds} s')
    signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


# --- processes -----------------------------------------------------------------------

def run(*command, status=0, timeout=2 * LIMIT, **how):
    """Runs a program to its end, which is to have that status."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors='replace', timeout=timeout, check=False, **how)
    need(done.returncode == status, f'{" ".join(map(str, command))}: status {done.returncode}: '
         f'{(done.stdout + done.stderr)[-1200:]}')
    return done


def finish(process, number=0):
    """Waits for a process, to which it may send a signal first. Returns what it printed."""
    if number != 0:
        process.send_signal(number)
    return process.communicate(timeout=LIMIT)[0]


def drain(stream):
    """Reads a stream to its end. Returns a function: how many lines there were so far."""
    n_lines = 0

    def read():
        nonlocal n_lines
        for _ in stream:
            n_lines += 1

    threading.Thread(target=read, daemon=True).start()
    return lambda: n_lines


def find_processes(variable):
    """Those that have this in their environment."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):  # gone, or another user's
            environ = pathlib.Path(f'/proc/{pid}/environ').read_bytes()
            if variable.encode() in environ.split(b'\0'):
                yield int(pid)


def wait_for_end(pids):
    """Waits for these processes. Returns the names of those that had to be killed."""
    killed, end = [], time.monotonic() + LIMIT
    for pid in pids:
        with contextlib.suppress(OSError):  # gone
            name = pathlib.Path(f'/proc/{pid}/comm').read_text().strip()
            fd = os.pidfd_open(pid)
            try:
                if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
                    killed.append(name)
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
    return killed


# --- compositors ---------------------------------------------------------------------

ENVIRONMENT = {
    'WLR_BACKENDS': 'headless',
    'WLR_RENDERER': 'pixman',
    'WLR_LIBINPUT_NO_DEVICES': '1',
    'LIBSEAT_BACKEND': 'builtin',
    'SEATD_VTBOUND': '0',
    'WAYLAND_DISPLAY': None,
    'DISPLAY': None,
    'SWAYSOCK': None,
}


def make_environment(*changes):
    """Ours with these changes; None takes a variable away."""
    environment = dict(os.environ)
    for change in changes:
        environment.update(change)
    return {name: value for name, value in environment.items() if value is not None}


def find_card():
    """The device that has connectors."""
    connectors = sorted(glob.glob('/sys/class/drm/card*-*'))
    return '/dev/dri/' + os.path.basename(connectors[0]).split('-')[0] if connectors else None


def drm_environment(renderer='pixman'):
    """For a compositor that shows its picture on the screen of a guest, without a seat."""
    return {'WLR_BACKENDS': 'drm', 'WLR_DRM_DEVICES': find_card(), 'WLR_RENDERER': renderer}


class Compositor:
    """A compositor from start to end, in a directory of its own.

    Standard output is where it tells its socket, in a line WAYLAND_DISPLAY=NAME.
    """

    good_statuses = (0,)
    stdout = 'ready'

    def __init__(self, command, environment=(), **how):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='vitrine-test.'))
        self.process = self.app = self.ready = None
        self.clients = []
        self.env = make_environment(
            ENVIRONMENT, dict(environment),
            {'XDG_RUNTIME_DIR': str(self.dir), 'HOME': str(self.dir)})
        try:
            self.launch(command, how)
        except BaseException:
            self.stop()
            raise

    def launch(self, command, how):
        os.mkfifo(self.path('ready'))
        # Open until the end, as the compositor may have more to say
        self.ready = os.open(self.path('ready'), os.O_RDONLY | os.O_NONBLOCK)
        with open(self.path('stderr'), 'wb') as stderr, \
                open(self.path(self.stdout), 'wb') as stdout:
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr, **how)
        variable, *app = self.wait_until_ready().split()
        self.app = int(app[0]) if app else None
        self.env['WAYLAND_DISPLAY'] = variable.partition('=')[2]

    def wait_until_ready(self):
        line, end = b'', time.monotonic() + LIMIT
        process = os.pidfd_open(self.process.pid)
        try:
            while not line.endswith(b'\n'):
                events = select.select([self.ready, process], [], [],
                                       max(0, end - time.monotonic()))[0]
                data = os.read(self.ready, 4096) if self.ready in events else b''
                need(data, 'it does not start: ' + self.read('stderr')[-800:])
                line += data
        finally:
            os.close(process)
        need(line.startswith(b'WAYLAND_DISPLAY='), f'it starts with {line}')
        return line.decode()

    def stop(self):
        """Ends it and all that runs in it. Returns what was wrong with that, or None."""
        problems = []
        self.end_clients()
        if self.process is not None:
            self.process.terminate()
            # cage waits for what it started, which waits for the application; one that connects
            # only now, on a machine with much to do, would wait for cage
            if self.app is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.app, signal.SIGKILL)
            try:
                status = self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                status = 'none: it hung'
            if status not in self.good_statuses:
                problems.append(f'exit status {status}: ' + self.read('stderr')[-800:])
            if left := wait_for_end(find_processes(f'XDG_RUNTIME_DIR={self.dir}')):
                problems.append('still there: ' + ', '.join(left))
        if self.ready is not None:
            os.close(self.ready)
            self.ready = None
        self.close_log()
        shutil.rmtree(self.dir, ignore_errors=True)
        return '\n'.join(problems) or None

    def close_log(self):
        """For those that have one."""

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        problem = self.stop()
        need(failure is not None or problem is None, problem)

    def path(self, name):
        return self.dir / name

    def read(self, name):
        try:
            return self.path(name).read_text(errors='replace')
        except FileNotFoundError:
            return ''

    def follow(self, name):
        """The lines of a file as they are written, without end."""
        self.path(name).touch()  # else tail says, as a line, that there is none yet
        for line in self.start('tail', '-n', '+1', '-F', name).stdout:
            yield line.rstrip('\n')
        need(False, f'tail of {name} has ended')

    def run(self, *command, **how):
        return run(*command, env=self.env, cwd=self.dir, **how)

    def start(self, *command, **how):
        """A client, to be ended after the test at the latest."""
        how = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, **how}
        process = subprocess.Popen(command, env=self.env, cwd=self.dir,
                                   stdin=subprocess.DEVNULL, **how)
        self.clients.append(process)
        return process

    def end_clients(self):
        for process in self.clients:
            process.kill()
            process.wait()
        self.clients = []

    def raw_frames(self, count, *options):
        """Frames as a list of pictures, in red, green, blue."""
        done = self.run('vitrine', 'record', '--frames', str(count), '--type', 'raw', *options,
                        'raw')
        data = self.path('raw').read_bytes()
        need(len(data) % count == 0, f'{len(data)} bytes in {count} frames: {done.stderr}')
        size = len(data) // count
        return [to_rgb(data[i * size:(i + 1) * size]) for i in range(count)]

    def grim(self):
        """The picture that grim takes, in red, green, blue."""
        return self.grim_sized()[2]

    def grim_sized(self, *options, **how):
        self.run('grim', '-t', 'ppm', *options, 'grim.ppm', **how)
        return parse_ppm(self.path('grim.ppm').read_bytes())


class ReferenceCompositor(Compositor):
    """vitrine-compositor with a window that is painted at full rate."""

    def __init__(self, *options, environment=()):
        super().__init__(['vitrine-compositor', *options, '-s', 'weston-simple-shm'], environment)
        # The guarantee is for this process to restrict, and not for clients
        self.env.pop('VITRINE_BACKENDS', None)


# What the compositor starts: it tells what it has inherited, then moves something.
START = '''#!/bin/sh
env -0 >env
cat /proc/self/maps >maps
ulimit -Sn >nofile
weston-simple-shm >app.log 2>&1 &
echo "WAYLAND_DISPLAY=$WAYLAND_DISPLAY $!" >ready
wait
'''


# For sway where other windows come and go: this one aborts if it is resized while both of its
# buffers are held ("Both buffers busy at redraw()"), as stock sway may do on a busy machine
KEEP_SIZE = 'for_window [app_id="org.freedesktop.weston.simple-shm"] floating enable'


class PluginCompositor(Compositor):
    """sway, labwc or cage, unmodified, with the plugin and a window that is painted at full rate.

    `log` and `events` are the files of what the plugin tells; `config` has more lines of sway's.
    """

    stdout = 'stdout'  # it is the script that tells its socket
    script = START

    def __init__(self, name, *options, plugin=True, environment=(), config='', hook=None,
                 log_is_fifo=False):
        self.name, self.options, self.plugin, self.config = name, options, plugin, config
        self.hook, self.log_is_fifo, self.log_fd = hook, log_is_fifo, -1
        # cage ends with the status of what it started
        self.good_statuses = (0, 1, 143) if name == 'cage' else (0, 143)
        super().__init__(None, environment)

    def launch(self, command, how):
        self.path('start').write_text(self.script)
        self.path('start').chmod(0o700)
        super().launch(self.make_run_command() + self.make_command(), how)

    def make_run_command(self):
        if not self.plugin:
            return []
        if self.log_is_fifo:
            os.mkfifo(self.path('log'))
            self.log_fd = os.open(self.path('log'), os.O_RDONLY | os.O_NONBLOCK)
        # To a file rather than a pipe, so that the command ends without a reader
        hook = self.hook or 'printf "%s %s %s %s %s\\n" "$VITRINE_EVENT" "$VITRINE_SOURCE" ' \
            f'"$VITRINE_GUARANTEE" "$VITRINE_PID" "${{LD_PRELOAD-none}}" >>{self.path("events")}'
        return ['vitrine-run', '--strict', '--log', self.path('log'), '--on-capture', hook,
                *self.options, '--']

    def close_log(self):
        if self.log_fd >= 0:
            os.close(self.log_fd)
            self.log_fd = -1

    def make_command(self):
        start = self.path('start')
        if self.name == 'sway':
            self.path('config').write_text(f'xwayland disable\n{self.config}\nexec {start}\n')
            return ['sway', '-c', self.path('config')]
        if self.name == 'labwc':
            self.path('labwc').mkdir()
            return ['labwc', '-C', self.path('labwc'), '-s', start]
        return ['cage', '--', start]

    def grim_sized(self, *options):
        if self.plugin:
            return super().grim_sized(*options)
        try:
            return super().grim_sized(*options, timeout=LIMIT / 3)
        except subprocess.TimeoutExpired:
            return self.grim_sized_moving(*options)

    def grim_sized_moving(self, *options):
        """Once more, after the window has moved the screen, if it stood still.

        Without us cage on virtio-gpu and sway on qxl have each given grim no frame of a still
        screen, once. What they lack then is not ours.
        """
        note(f'grim had no frame of {self.name} alone, and is started again')
        state = pathlib.Path(f'/proc/{self.app}/stat').read_text().rpartition(')')[2].split()[0]
        os.kill(self.app, signal.SIGCONT)
        picture = super().grim_sized(*options)
        if state == 'T':
            os.kill(self.app, signal.SIGSTOP)
            picture = super().grim_sized(*options)
        return picture

    def ipc(self):
        return next(self.dir.glob('sway-ipc.*.sock'))

    def swaymsg(self, *command):
        return self.run('swaymsg', '--socket', self.ipc(), *command)

    @contextlib.contextmanager
    def frozen(self):
        """The window that moves, once it has moved, stands still meanwhile."""
        self.raw_frames(20)
        os.kill(self.app, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.app, signal.SIGCONT)


def parse_ppm(data):
    """A width, a height, and pixels in red, green, blue."""
    match = re.match(rb'P6\s+(\d+)\s+(\d+)\s+255\s', data)
    return int(match[1]), int(match[2]), data[match.end():]


def to_rgb(xrgb):
    rgb = bytearray(len(xrgb) // 4 * 3)
    for i in range(3):
        rgb[i::3] = xrgb[2 - i::4]
    return bytes(rgb)


def n_colors(rgb):
    return len({rgb[i:i + 3] for i in range(0, len(rgb) - 2, 3 * 97)})
