# SPDX-License-Identifier: MIT
"""What a process has in use: file descriptors, memory, locks, mappings, timers."""

import collections
import contextlib
import os
import pathlib
import re
import time

MIB = 1 << 20
# Others are clients', such as windows' buffers
OURS = '/memfd:vitrine'

# fds: open file descriptors. limit: how many it may have. maps: mappings. locks: locks and leases.
# own: bytes of memory that no other process has. shared: bytes of memfds that it has open or mapped.
# kinds: how many file descriptors of each kind.
Usage = collections.namedtuple('Usage', 'fds limit maps locks threads own shared kinds')


def read(pid, name):
    return pathlib.Path(f'/proc/{pid}/{name}').read_text(errors='replace')


def read_status(status, name):
    match = re.search(rf'^{name}:\s+(\d+)', status, re.M)
    return int(match[1])


def read_fds(pid):
    """Each file descriptor's target, and what stat() says of it."""
    for fd in os.listdir(f'/proc/{pid}/fd'):
        path = f'/proc/{pid}/fd/{fd}'
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(path), os.stat(path)


def get_usage(pid):
    kinds, memfds = collections.Counter(), {}
    for target, stat in read_fds(pid):
        kinds['memfd' if target.startswith('/memfd:') else
              re.sub(r'[\d/].*', '', target) or 'file'] += 1
        if target.startswith(OURS):
            memfds[stat.st_ino] = stat.st_blocks * 512
    maps = read(pid, 'maps').splitlines()
    for line in maps:
        if OURS in line:
            addresses, _, _, _, inode, _ = line.split(maxsplit=5)
            start, end = (int(address, 16) for address in addresses.split('-'))
            memfds.setdefault(int(inode), end - start)
    status = read(pid, 'status')
    limit = re.search(r'Max open files\s+(\d+)', read(pid, 'limits'))[1]
    locks = [line for line in pathlib.Path('/proc/locks').read_text().splitlines()
             if line.split()[-4] == str(pid)]
    return Usage(sum(kinds.values()), int(limit), len(maps), len(locks),
                 read_status(status, 'Threads'), 1024 * read_status(status, 'RssAnon'),
                 sum(memfds.values()), dict(kinds))


def describe(usage):
    return (f'{usage.fds} fds, {usage.own / MIB:.1f} MiB of its own, {usage.shared / MIB:.1f} MiB '
            f'shared, {usage.maps} mappings, {usage.locks} locks, {usage.threads} threads')


def get_cpu_seconds(pid):
    """What the process has computed for so far."""
    fields = read(pid, 'stat').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def count_wakeups(pid, seconds):
    """How often the threads of a process woke up meanwhile: by timers, if nothing else happens."""
    def count():
        return sum(read_status(read(pid, f'task/{task}/status'), 'voluntary_ctxt_switches')
                   for task in os.listdir(f'/proc/{pid}/task'))
    before = count()
    time.sleep(seconds)
    return count() - before


def wait_until(is_so, seconds, interval=0.05):
    """Whether it is so within that time. For what no event tells."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


def read_limit(name):
    """What docs/threat-model.md says that clients can make the compositor keep of this: all, those
    of one user, and those of one process; in bytes where it says bytes."""
    text = (pathlib.Path(__file__).parents[2] / 'docs/threat-model.md').read_text()
    row = re.search(rf'^\| {name}[^|]*\|(.*)\|$', text, re.M)
    units = {'MiB': MIB, 'GiB': 1024 * MIB, '': 1}
    cells = [re.fullmatch(r' *(\d+) ?(\w*) *', cell) for cell in row[1].split('|')]
    return tuple(int(cell[1]) * units[cell[2]] for cell in cells)
