#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The plugin in unmodified compositors, headless. Prints TAP.

usage: plugin_test.py sway|labwc|cage [TEST...], with the built commands on PATH
"""

import fcntl
import functools
import json
import os
import pathlib
import re
import signal
import sys
import threading
import time

from harness import (KEEP_SIZE, LIMIT, Group, PluginCompositor, collect, drain, finish, given,
                     n_colors, need, require, run_groups, skip_if)
from policy import ALLOW, DENY, WRONG, list_sessions, policy_fixture

NAME = sys.argv[1]
# One that every program can load
LIBRARY = '/lib/x86_64-linux-gnu/libanl.so.1'
APP = 'org.freedesktop.weston.simple-shm'
# A window of which something changes all the time, at any size.
TERMINAL = ('foot', '--config=/dev/null', 'sh', '-c',
            'i=0; while sleep 0.02; do i=$((i + 1)); echo $i; done')
FEW_FILES = 256

needs_lock = skip_if(NAME == 'cage', 'cage has no ext-session-lock')
needs_sandboxes = skip_if(NAME == 'cage', 'cage has no security-context-v1')
needs_toplevels = skip_if(NAME == 'cage', 'cage has no ext-foreign-toplevel-list')
needs_commands = skip_if(NAME != 'sway', 'needs commands for the compositor')


# The tests. Each is shown to be possible before it is shown to be refused.

def test_shot(compositor):
    """vitrine shot writes a picture with something in it"""
    compositor.run('vitrine', 'shot', 'shot.png')
    picture = compositor.path('shot.png').read_bytes()
    need(picture.startswith(b'\x89PNG\r\n\x1a\n'), 'no PNG')
    need(n_colors(compositor.raw_frames(20)[-1]) > 8, 'only one colour')


def test_record(compositor):
    """vitrine record --frames 120 records what moves"""
    frames = compositor.raw_frames(120)
    need(len(frames) == 120, f'{len(frames)} frames')
    need(len(set(frames)) > 60, f'only {len(set(frames))} of 120 frames are different')


def test_audit(compositor):
    """vitrine audit finds that the guarantee is kept"""
    output = compositor.run('vitrine', 'audit').stdout
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
    with compositor.frozen():
        before = compositor.grim()
        view = compositor.raw_frames(1)[0]
        need(before == compositor.grim(), 'the screen does not stand still')
        need(n_colors(view) > 8, 'only one colour')
        need(view == before, 'a view differs from what grim sees')


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

    threading.Thread(target=read_video, daemon=True).start()
    need(len(set(compositor.raw_frames(120))) > 60, 'the view stands still')
    need(enough.wait(LIMIT), f'only {sum(sizes)} bytes of video')
    output = finish(recorder, signal.SIGINT)
    need(recorder.returncode == 0, f'status {recorder.returncode}: {output[-800:]}')


def test_log(compositor):
    """the log and the command say who looks, at what, and when it ends"""
    session = compositor.start('vitrine', 'record', '--frames', '5', '--type', 'raw', 'raw')
    finish(session)
    # The client may be gone before the compositor has seen that it is
    lines = (line for line in compositor.follow('log') if f' pid={session.pid} ' in line)
    for what, line in zip(('start', 'stop'), lines):
        need(re.search(rf'vitrine: capture {what} source=HEADLESS-1 guarantee=sealed pid=\d+ '
                       rf'uid={os.getuid()} comm="vitrine" exe="[^"]*/vitrine" engine="" app-id="" '
                       r'protocol=xx_dmabuf_view_manager_v1 frames=\d+$', line), line)
    # The plugin does not wait for the command, and commands may overtake each other
    expected = {f'{what} HEADLESS-1 sealed {session.pid} none' for what in ('start', 'stop')}
    for line in compositor.follow('events'):
        expected.discard(line.strip())
        if not expected:
            break


@needs_sandboxes
def test_sandboxed(compositor):
    """a sandboxed client does not see the global"""
    compositor.run('vitrine', 'shot', 'shot.png')
    done = compositor.run('sandbox', 'org.example.App', 'vitrine', 'shot', 'shot.png', status=1)
    need('does not offer' in done.stderr or 'xx' in done.stderr, done.stderr)


@needs_commands
def test_survives(compositor):
    """sessions survive resizes, outputs that go off, come and go, and a reload"""
    watch = compositor.start('vitrine', 'watch', '-o', 'HEADLESS-1')
    watch.stdout.readline()

    def go(command):
        compositor.swaymsg(command)
        if 'off' not in command:
            need(len(compositor.raw_frames(5, '-o', 'HEADLESS-1')) == 5, command)
        else:
            done = compositor.run('vitrine', 'shot', '-o', 'HEADLESS-1', '--timeout', '2',
                                  'off.png', status=1)
            need('the output is off' in done.stderr, done.stderr)
        need(watch.poll() is None, f'{command} ended a session')

    for change in ('mode 800x600', 'mode 1280x720@30Hz', 'mode 1280x720@60Hz', 'scale 2', 'scale 1',
                   'transform 90', 'transform normal', 'power off', 'power on'):
        go(f'output HEADLESS-1 {change}')
    go('reload')
    # 19 more, each of them viewed; the session on one that goes is the only one to stop
    for i in range(2, 21):
        compositor.swaymsg('create_output')
        compositor.run('vitrine', 'shot', '-o', f'HEADLESS-{i}', 'shot.png')
    for i in range(2, 21):
        go(f'output HEADLESS-{i} unplug')


@needs_commands
def test_disabled(compositor):
    """an output that is disabled ends its sessions, and is seen anew once it is enabled"""
    watch = compositor.start('vitrine', 'watch', '-o', 'HEADLESS-1')
    watch.stdout.readline()
    compositor.swaymsg('output HEADLESS-1 disable')
    output = finish(watch)
    need('does not exist any more' in output and watch.returncode == 1, output)
    compositor.swaymsg('output HEADLESS-1 enable')
    need(len(compositor.raw_frames(5, '-o', 'HEADLESS-1')) == 5, 'no frames')


def test_shown_again(compositor):
    """what a still screen shows again has no latency"""
    with compositor.frozen():
        for _ in range(3):  # what had not been shown before is at first
            done = compositor.run('vitrine', 'watch', '--frames', '1', '--json')
    watched = json.loads(done.stdout)
    need(watched['frames'] == 1 and watched['latency_us_p50'] is None, f'{watched}')


def look(compositor, n_frames, app_id=APP):
    """Sees so many frames of a window. Returns what the client printed about them."""
    output = compositor.run('toplevel', str(n_frames), app_id).stdout
    need(f'frames {n_frames} ' in output, output)
    return output


def start_looking(compositor, app_id=APP):
    """A client that has seen a window and goes on to do so; and the line of the first view."""
    looker = compositor.start('toplevel', '1000000', app_id)
    line = looker.stdout.readline()
    need(line.startswith('view '), f'no view: {line}')
    return looker, line


@needs_toplevels
def test_toplevel(compositor):
    """a window is viewed on its own, at the pace of a screen"""
    output = look(compositor, 120)
    views = re.findall(r'^view (\d+)x(\d+) (\w+)$', output, re.MULTILINE)
    need(views and all(view[2] == 'sealed' for view in views), output)
    need(int(views[0][0]) < 1280 or int(views[0][1]) < 720, f'not only the window: {output}')
    found = re.search(r'^frames 120 different (\d+) rate ([\d.]+)$', output, re.MULTILINE)
    need(found and int(found[1]) > 60, output)
    need(float(found[2]) < 60 * 120 / (120 - 3), output)
    # And again, since the source goes on to be there
    look(compositor, 5)


@needs_toplevels
def test_static_toplevel(compositor):
    """a window that stands still is shown to each client that looks"""
    with compositor.frozen():
        for _ in range(3):
            look(compositor, 1)
        start_looking(compositor)
        for _ in range(3):
            look(compositor, 1)


@needs_toplevels
def test_toplevels_beside(compositor):
    """several look at a window, and one at the output"""
    lookers = [compositor.start('toplevel', '120', APP) for _ in range(3)]
    need(len(set(compositor.raw_frames(60))) > 30, 'the output stands still')
    for looker in lookers:
        output = finish(looker)
        found = re.search(r'frames 120 different (\d+) ', output)
        need(found and int(found[1]) > 60, output)


@needs_toplevels
def test_closed_toplevel(compositor):
    """a window that is closed stops its sessions"""
    window = compositor.start(*TERMINAL)
    looker, _ = start_looking(compositor, 'foot')
    finish(window, signal.SIGTERM)
    output = finish(looker)
    need('stopped 0' in output, output)
    compositor.run('vitrine', 'shot', 'shot.png')


@skip_if(NAME != 'sway', 'only a tiling compositor resizes by itself')
def test_resized_toplevel(compositor):
    """a window that is resized is announced anew"""
    compositor.start(*TERMINAL)
    looker, first = start_looking(compositor, 'foot')
    compositor.start('foot', '--config=/dev/null', '--app-id=other', 'sleep', '1000')
    line = first
    while line.split()[:2] == first.split()[:2]:
        line = looker.stdout.readline()
        need(line.startswith('view '), f'{first} and then: {line}')


def lock(compositor):
    """Starts a screen locker and waits until the screen is locked."""
    ready, ready_child = os.pipe()
    locker = compositor.start('swaylock', '--color', 'ff0000', '--ready-fd', str(ready_child),
                              pass_fds=[ready_child])
    os.close(ready_child)
    locked = os.read(ready, 1)
    os.close(ready)
    need(locked == b'\n', 'no lock: ' + (finish(locker) if locker.poll() is not None else ''))
    return locker


@needs_lock
def test_lock(compositor):
    """a session stops with "locked", and there is none before the screen is unlocked"""
    compositor.run('vitrine', 'shot', 'shot.png')
    session = compositor.start('vitrine', 'watch')
    need('fps' in session.stdout.readline(), 'no line of vitrine watch')
    locker = lock(compositor)
    try:
        output = finish(session)
        need(session.returncode != 0 and 'locked' in output, output)
        compositor.run('vitrine', 'shot', 'shot.png', status=1)
    finally:
        finish(locker, signal.SIGUSR1)
    compositor.run('vitrine', 'shot', 'shot.png')


@needs_lock
def test_dead_locker(compositor):
    """a locker that dies leaves the screen locked, for views as well"""
    # Killed once it has locked, or for a protocol error in the same breath
    for die in (lambda: lock(compositor).kill(), lambda: compositor.run('locker')):
        die()
        compositor.run('vitrine', 'shot', 'shot.png', status=1)
        locker = lock(compositor)
        compositor.run('vitrine', 'shot', 'shot.png', status=1)
        finish(locker, signal.SIGUSR1)
        compositor.run('vitrine', 'shot', 'shot.png')


given_compositor = functools.partial(given, PluginCompositor, NAME)
given_two_outputs = given_compositor(environment={'WLR_HEADLESS_OUTPUTS': '2'}, config='''
output HEADLESS-1 mode --custom 640x480@30Hz
output HEADLESS-2 mode --custom 640x480@120Hz
workspace 1 output HEADLESS-1
workspace 2 output HEADLESS-2
workspace 3 output HEADLESS-1
assign [app_id="hidden"] workspace 3
focus output HEADLESS-1
''')


def need_pace(compositor, app_id, refresh, least):
    """Looks for three seconds, and again if the machine had no time."""
    n_frames = 3 * refresh
    for _ in range(3):
        output = look(compositor, n_frames, app_id)
        rate = float(re.search(r' rate ([\d.]+)$', output, re.MULTILINE)[1])
        # However slow the machine: never more than one frame of each period
        need(rate < refresh * n_frames / (n_frames - 3),
             f'{rate} frames of {app_id} a second, at {refresh} Hz')
        if rate > least:
            return
    need(False, f'no more than {rate} frames of {app_id} a second, at {refresh} Hz')


@needs_commands
@given_two_outputs
def test_pace(compositor):
    """a window is drawn as often as the output that shows it, however fast it paints"""
    os.kill(compositor.app, signal.SIGTERM)
    window = compositor.start('window', '400', 'fast')
    need(window.stdout.readline() == 'shown\n', 'it shows no picture')
    drain(window.stdout)
    need_pace(compositor, 'fast', 30, 22)
    # Not merely what it started with, nor the fastest of all
    compositor.swaymsg('[app_id=fast] move to workspace 2')
    need_pace(compositor, 'fast', 120, 75)
    compositor.swaymsg('output HEADLESS-2 mode --custom 640x480@60Hz')
    need_pace(compositor, 'fast', 60, 38)


@needs_commands
@given_two_outputs
def test_hidden(compositor):
    """a window that nothing shows is drawn at 60 Hz while a client looks, and else not at all"""
    os.kill(compositor.app, signal.SIGTERM)
    n_shown = drain(compositor.start('window', '400', 'hidden').stdout)
    need_pace(compositor, 'hidden', 60, 38)
    need(n_shown() > 100, f'{n_shown()} pictures of it were shown')
    # That nothing happens takes a while to see
    time.sleep(0.5)
    before = n_shown()
    time.sleep(2)
    need(n_shown() == before, f'{n_shown() - before} pictures were drawn without need')
    need_pace(compositor, 'hidden', 60, 38)


@needs_sandboxes
@given_compositor('--allow-sandboxed')
def test_allow_sandboxed(compositor):
    """--allow-sandboxed lets a sandboxed client look, and the log has its app-id"""
    compositor.run('sandbox', 'org.example.App', 'vitrine', 'shot', 'shot.png')
    sandbox = ' engine="org.example.engine" app-id="org.example.App" '
    # As it is gone by then, wlroots has forgotten where it came from
    for what in 'start', 'stop':
        next(line for line in compositor.follow('log')
             if f'capture {what} ' in line and sandbox in line)


@needs_sandboxes
@given_compositor('--allow-sandboxed')
def test_forged_name(compositor):
    """a name with a newline, commands for a terminal and overrides makes up nothing"""
    name = 'a" pid=1 \n\u202e\x9bb\x1b]0;c\x07'
    compositor.run('sandbox', name, 'vitrine', 'shot', 'shot.png')
    shown = r'app-id="a\u{22} pid=1 \u{a}\u{202e}\u{9b}b\u{1b}]0;c\u{7}" '
    next(line for line in compositor.follow('log') if 'capture stop ' in line and shown in line)
    log = compositor.path('log').read_bytes()
    need(all(byte == 0x0a or 0x20 <= byte < 0x7f for byte in log), log)
    need(all(b' vitrine: ' in line for line in log.splitlines()), log)


@given_compositor(log_is_fifo=True)
def test_full_log(compositor):
    """a log that is not read holds nothing up, and loses nothing that it has room for"""
    with open(compositor.path('log'), 'rb') as log:
        fcntl.fcntl(log, fcntl.F_SETPIPE_SZ, 4096)
        shot = compositor.start('vitrine', 'shot', 'shot.png')
        finish(shot)
        for line in log:  # it is read now
            if f'capture stop source=HEADLESS-1 guarantee=sealed pid={shot.pid} ' in line.decode():
                break
        shots = []
        while len(shots) < 4096 / 2 / 150 + 2:
            shots.append(compositor.start('vitrine', 'shot', 'shot.png'))
            output = finish(shots[-1])
            need(shots[-1].returncode == 0, output)
        need(len(compositor.raw_frames(60)) == 60, 'no frames')
        expected = {f'capture {what} source=HEADLESS-1 guarantee=sealed pid={shot.pid} '
                    for what in ('start', 'stop') for shot in shots}
        while expected:
            line = log.readline().decode()
            need(line, 'the log has ended')
            expected = {text for text in expected if text not in line}


def read_children(compositor):
    """Processes that the compositor has to wait for: (whether it is a zombie, name)."""
    pid = compositor.process.pid
    children = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    stats = (pathlib.Path(f'/proc/{child}/stat').read_text() for child in children)
    return sorted((stat.rpartition(')')[2].split()[0] == 'Z', stat.partition('(')[2].rpartition(')')[0])
                  for stat in stats)


@given_compositor(hook='test -p gate && : <gate; echo "$VITRINE_EVENT" >>events')
def test_slow_command(compositor):
    """commands that do not end are bounded, and the compositor has nothing to do with them"""
    os.mkfifo(compositor.path('gate'))
    before = read_children(compositor)
    n_sessions = 0
    while 'is not run' not in compositor.read('log'):
        compositor.run('vitrine', 'shot', 'shot.png')
        n_sessions += 1
        need(n_sessions < 60, 'there is no bound')
    n_told = compositor.read('log').partition('is not run')[0].count(' vitrine: capture ')
    need(n_told == 8 + 64 + 1, f'{n_told} events until one was too much')
    need(len(compositor.raw_frames(60)) == 60, 'no frames')
    need(read_children(compositor) == before, f'{before}, then {read_children(compositor)}')
    with open(compositor.path('gate'), 'r+b', buffering=0):
        events = compositor.follow('events')
        for _ in range(8 + 64):
            need(next(events) in ('start', 'change', 'stop'), 'no event')
        compositor.run('vitrine', 'shot', 'shot.png')
        next(line for line in compositor.follow('log') if 'times it was not' in line)
        os.unlink(compositor.path('gate'))  # there is no more to wait for


@given_compositor('--min-guarantee', 'snapshot')
def test_min_guarantee(compositor):
    """--min-guarantee snapshot gives nothing weaker"""
    compositor.run('vitrine', 'shot', '--guarantee', 'snapshot', 'shot.png')
    compositor.run('vitrine', 'shot', '--guarantee', 'sealed', 'shot.png', status=1)
    need(' guarantee=snapshot ' in compositor.read('log'), compositor.read('log'))
    need('sealed' not in compositor.read('log'), compositor.read('log'))


def given_policy(policy, *options):
    def start(path):
        return PluginCompositor(NAME, '--policy', path, *options)
    return given(policy_fixture, policy, start, 'log')


def test_sessions(compositor):
    """sessions are listed, and the one that is named is stopped"""
    need(not list_sessions(compositor), list_sessions(compositor))
    watch = compositor.start('vitrine', 'watch')
    need('fps' in watch.stdout.readline(), 'no line of vitrine watch')
    sessions = list_sessions(compositor)
    need([session['pid'] for session in sessions] == [watch.pid], sessions)
    compositor.run('vitrine', 'sessions', '--stop', str(sessions[0]['id']))
    output = finish(watch)
    need(watch.returncode == 1 and 'ended the session' in output, output)
    done = compositor.run('vitrine', 'sessions', '--reload', status=1)
    need('there is no policy file' in done.stderr, done.stderr)


@given_policy(ALLOW)
def test_policy(policy):
    """SIGHUP has the policy read again, and is still the compositor's"""
    watch = policy.compositor.start('vitrine', 'watch')
    need('fps' in watch.stdout.readline(), 'no line of vitrine watch')
    policy.hang_up()
    policy.write(WRONG)
    line = policy.hang_up()
    need(f'the policy stays as it was: {policy.path}:2: unknown key "exectuable"' in line, line)
    need(watch.poll() is None, 'a session has ended')

    if NAME == 'labwc':  # which reads its own file again
        policy.compositor.path('labwc/rc.xml').write_text('<no xml')
    policy.write(DENY)
    policy.hang_up()
    output = finish(watch)
    need(watch.returncode == 1 and 'denies' in output, output)
    policy.shot(status=1)
    if NAME == 'labwc':
        for line in policy.compositor.follow('stderr'):
            if 'parser error' in line:
                break
    policy.write(ALLOW)
    policy.compositor.run('vitrine', 'sessions', '--reload')
    policy.shot()


@skip_if(NAME == 'labwc', 'labwc blocks SIGHUP by itself')
@given_policy(ALLOW)
def test_children_hang_up(policy):
    """children of the compositor neither block nor ignore SIGHUP"""
    policy.hang_up()
    policy.compositor.raw_frames(20)  # it runs, and is not what the C library has just forked
    with open(f'/proc/{policy.compositor.app}/status') as file:
        masks = dict(line.split(':') for line in file if line.startswith(('SigBlk', 'SigIgn')))
    for name, mask in masks.items():
        need(not int(mask, 16) & 1, f'{name} is {mask}')
    need('VITRINE_PLUGIN' not in policy.compositor.read('env'), policy.compositor.read('env'))


@needs_toplevels
@given_policy({'rules': [{'match': {'source': f'window:{APP}'}, 'deny': True}], **ALLOW})
def test_window_policy(policy):
    """a window is denied by its app-id, and the output that it is on is not"""
    policy.shot()
    looker = policy.compositor.start('toplevel', '5', APP)
    output = finish(looker)
    need('stopped 1' in output, output)
    policy.write(ALLOW)
    policy.hang_up()
    look(policy.compositor, 5)
    looker, _ = start_looking(policy.compositor)
    windows = [session['window'] for session in list_sessions(policy.compositor)]
    need(windows == [APP], f'windows that are looked at: {windows}')
    policy.write({'rules': [{'match': {'source': 'window:*'}, 'deny': True}], **ALLOW})
    policy.hang_up()
    output = finish(looker)
    need('stopped 1' in output, output)


@needs_sandboxes
@given_policy({'rules': [{'match': {'app-id': 'org.example.*'}, 'allow': ['sealed']}], **ALLOW})
def test_sandboxed_policy(policy):
    """a sandboxed client needs a rule that names it"""
    policy.shot('sandbox', 'org.example.App', 'vitrine')
    done = policy.shot('sandbox', 'org.other.App', 'vitrine', status=1)
    need('does not offer' in done.stderr or 'xx' in done.stderr, done.stderr)


def get_allowed(compositor):
    return set(json.loads(compositor.run('vitrine', 'probe', '--json').stdout)
               ['compositor']['guarantees'])


@given_compositor()
def test_default_policy(compositor):
    """everything but fd_read_only is allowed"""
    need(get_allowed(compositor) == {'snapshot', 'sealed', 'guarded'}, get_allowed(compositor))


@given_compositor('--allow', 'fd_read_only')
def test_allow(compositor):
    """--allow fd_read_only allows that too"""
    need(get_allowed(compositor) == {'snapshot', 'sealed', 'guarded', 'fd_read_only'},
         get_allowed(compositor))


@skip_if(not os.path.exists(LIBRARY), 'no library at hand')
@given_compositor(environment={'LD_PRELOAD': LIBRARY})
def test_other_preload(compositor):
    """other preloaded libraries stay preloaded"""
    need(f'LD_PRELOAD={LIBRARY}\0' in compositor.read('env'), compositor.read('env'))
    compositor.run('vitrine', 'shot', 'shot.png')


@given_compositor(plugin=False)
def test_without(compositor):
    """without vitrine-run there are no views, and grim works"""
    compositor.run('grim', 'grim.png')
    compositor.run('vitrine', 'shot', 'shot.png', status=1)


class Life(PluginCompositor):
    def __init__(self):
        super().__init__(NAME, config=KEEP_SIZE)
        need('read-only views are on' in self.read('log'), self.read('log'))


class FewFiles(PluginCompositor):
    """A compositor that starts with room for few file descriptors, but may have more."""

    def make_run_command(self):
        return ['sh', '-c', f'ulimit -Sn {FEW_FILES}; exec "$@"', 'sh', *super().make_run_command()]


# Of two commands the last one counts
@given(FewFiles, NAME, '--on-capture', 'ulimit -Sn >>hook')
def test_file_descriptors(compositor):
    """the compositor may have all file descriptors that it can, and its children no more than before"""
    with open(f'/proc/{compositor.process.pid}/limits') as file:
        soft, hard = re.search(r'Max open files +(\d+) +(\d+)', file.read()).groups()
    need(int(hard) > FEW_FILES, 'there are no more to be had here')
    need(soft == hard, f'{soft} of {hard}')
    need(compositor.read('nofile') == f'{FEW_FILES}\n', compositor.read('nofile'))
    compositor.raw_frames(2)
    line = next(compositor.follow('hook'))
    need(line == str(FEW_FILES), line)


def main():
    require(NAME, 'grim', 'wf-recorder', 'swaylock', 'weston-simple-shm', 'foot')
    shared, alone = collect(globals(), sys.argv[2:])
    run_groups(Group(shared, Life, 'the compositor starts with views, and ends as it should'),
               Group(alone))


if __name__ == '__main__':
    main()
