#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is promised of the memory of a device with a driver of its own, and what is not
promised of it. Needs no compositor. Runs in a guest that has such a device (vm --device),
and with swiotlb=force as well. Prints TAP.

usage: promises_test.py, with the built commands on PATH
"""

import functools
import json
import pathlib

from harness import Group, collect, need, require, run, run_groups
from screen import DEVICE

# The driver, and whether the kernel writes to maps of it without asking for permission (TTM does).
DRIVER, IS_WRITTEN = {'bochs': ('bochs-drm', True), 'qxl': ('qxl', True),
                      'virtio-gpu': ('virtio_gpu', False), None: (None, False)}[DEVICE]
HAS_BOUNCE_BUFFERS = 'swiotlb=force' in pathlib.Path('/proc/cmdline').read_text().split()


@functools.cache
def audit():
    """Of each backend and exporter, the attacks by their names; the audit is to end well."""
    report = json.loads(run('vitrine', 'audit', '--no-session', '--json').stdout)
    need(report['broken'] == report['inconclusive'] == 0, f'{report}')
    return {(block['backend'], block['exporter']): {row['attack']: row for row in block['rows']}
            for block in report['machine']}


def need_refused(rows, attack):
    need(rows[attack]['result'] == 'refused', f'{rows[attack]}')


def test_guard_exporters():
    """memory of every exporter of the machine is guarded"""
    exporters = {exporter for backend, exporter in audit() if backend == 'guard'}
    need(exporters == {'udmabuf', 'heap', 'vgem', DRIVER}, f'{exporters}')


def test_guard():
    """no map of a guard is written to by ways that ask for no permission"""
    for (backend, exporter), rows in audit().items():
        if backend == 'guard':
            need_refused(rows, 'write to the read map by /proc/self/mem')
            need_refused(rows, 'PTRACE_POKEDATA to the read map of a child')
    need_refused(audit()['guard', 'heap'], 'derive from an fd that is open with O_WRONLY')


def test_prime():
    """a read-only export is given where its maps cannot be written, and only there"""
    rows = audit()['prime', DRIVER]
    if not IS_WRITTEN:
        need_refused(rows, 'write to the read map by /proc/self/mem')
        return
    # It has been tried, and worked
    need(len(rows) == 1 and 'rightly' in rows['derive a view']['detail'], f'{rows}')
    need_refused(audit()['prime', 'vgem'], 'write to the read map by /proc/self/mem')


def test_probe():
    """vitrine probe names the devices whose maps can be written"""
    backends = json.loads(run('vitrine', 'probe', '--json').stdout)['machine']['backends']
    detail, = (backend['detail'] for backend in backends if backend['name'] == 'prime')
    denied = detail.partition('not of ')[2]
    need((DRIVER in denied and 'can be written' in denied) == IS_WRITTEN, detail)


def test_sync():
    """no holder of a guard takes back by DMA_BUF_IOCTL_SYNC what the owner has written"""
    row = audit()['guard', 'udmabuf']['DMA_BUF_IOCTL_SYNC, several at once: take back what the owner wrote']
    # A holder that may write can, where there are bounce buffers: that is part of the row
    need(row['result'] == ('refused' if HAS_BOUNCE_BUFFERS else 'not applicable'), f'{row}')


def make_group():
    bed = f'{DEVICE} with bounce buffers' if HAS_BOUNCE_BUFFERS else DEVICE
    return Group([(f'{bed}: {name}', test) for name, test in collect(globals())[0]])


if __name__ == '__main__':
    require(**{'device with a driver of its own': DEVICE})
    run_groups(make_group())
