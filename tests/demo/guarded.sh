#!/bin/bash
# SPDX-License-Identifier: MIT
#
# guarded.sh DIRECTORY: looks at a compositor through a guarded dma-buf and attacks
# it. Leaves watch.json, audit.json and kernel in DIRECTORY. Runs where dma-bufs
# are: on the host or, called by demo.sh, in the virtual machine.
set -euo pipefail

out=$1
runtime=$(mktemp -d)
compositor=
cleanup() {
	[[ -z $compositor ]] || kill "$compositor" 2>/dev/null || true
	wait
	rm -rf "$runtime"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

export XDG_RUNTIME_DIR=$runtime WLR_RENDERER=pixman
uname -r >"$out/kernel"
mkfifo "$runtime/ready"
exec 3<>"$runtime/ready"
vitrine-compositor --backend headless --output 320x240@60 -s weston-simple-shm \
	>"$runtime/ready" 2>"$out/compositor.log" 3>&- &
compositor=$!
read -r -t 60 -u 3 line
export WAYLAND_DISPLAY=${line#WAYLAND_DISPLAY=}
timeout 60 vitrine watch --guarantee guarded --frames 15 --json >"$out/watch.json"
timeout 60 vitrine audit --no-machine --guarantee guarded --json >"$out/audit.json"
