#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs real applications in vitrine-compositor, and looks at them through
# read-only views; on a real dma-buf too, in a virtual machine where this kernel has
# none. Leaves shot.png, demo.y4m and report.json in VITRINE_DEMO_OUT. Called by
# `./run demo`, with the built commands on PATH.
set -euo pipefail

out=${VITRINE_DEMO_OUT:-demo-out}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=
guest=
guarded=
guarded_pid=
pids=()

fail() {
	echo "demo: $*" >&2
	[[ -z $dir ]] || for log in "$dir"/*.log; do
		[[ ! -s $log ]] || sed "s|^|${log##*/}: |" "$log" | tail -n 15 >&2
	done
	exit 1
}

cleanup() {
	trap - EXIT
	((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true
	wait
	[[ -z $dir ]] || rm -rf "$dir"
	[[ -z $guest ]] || rm -rf "$guest"
}

# Starts a program in the background, with its output in a log.
start() {
	"$@" >"$dir/$1.log" 2>&1 &
	pids+=($!)
}

# In the foreground, or Ctrl-C would not reach it.
limited() {
	timeout --foreground 20 "$@"
}

# A pipe that can be opened by one side first, so that waiting has a limit.
open_pipe() { # FD NAME
	mkfifo "$dir/$2"
	eval "exec $1<>\"\$dir/$2\""
}

start_compositor() {
	local line
	open_pipe 3 ready
	vitrine-compositor --backend headless --output 960x540@60 \
		>"$dir/ready" 2>"$dir/vitrine-compositor.log" 3>&- &
	pids+=($!)
	read -r -t 10 -u 3 line || fail "vitrine-compositor did not get ready"
	export WAYLAND_DISPLAY=${line#WAYLAND_DISPLAY=}
}

# weston-simple-shm draws each frame anew, foot a text when it is told to.
start_applications() {
	start weston-simple-shm
	limited vitrine watch --frames 2 >/dev/null || fail "weston-simple-shm does not draw"

	open_pipe 4 show
	open_pipe 5 drawn
	start foot --config=/dev/null --override=font=monospace:size=10 --override=pad=12x8 \
		--title=greeting bash "$here/greeting.sh" "$dir"
	read -r -t 10 -u 5 _ || fail "foot did not start"
	limited vitrine watch --frames 10 >/dev/null || fail "no frames"
}

# What foot shows has results in it, so that it is written after the audit.
show_results() {
	python3 "$here/report.py" text "$dir/watch.json" "$dir/audit.json" >"$dir/text"
	echo >&4
	read -r -t 10 -u 5 _ || fail "foot did not show the text"
	# Read is not drawn yet: wait for a colour that is nowhere else on the screen
	local i
	for ((i = 0; i < 100; i++)); do
		limited vitrine record --frames 1 --format raw - 2>/dev/null |
			python3 "$here/report.py" find-marker && return
	done
	fail "foot did not draw the text"
}

# A guarded view needs dma-bufs and a kernel part: here, or in the virtual machine,
# which starts up while the rest goes on.
start_guarded_run() {
	mkdir "$dir/guarded"
	if vitrine probe --json | python3 "$here/report.py" can-guard; then
		guest=
		start bash "$here/guarded.sh" "$dir/guarded"
	elif ! command -v qemu-system-x86_64 >/dev/null; then
		echo "demo: no guarded view: this kernel has no dma-bufs to guard, and there is no" \
			"qemu-system-x86_64 for a virtual machine" >&2
		return
	else
		# What the guest can write to is the checkout and the build directory
		guest=$(mktemp -d "$out/guest.XXXXXX")
		"$here/../harness/guest/fetch-kernel" 7.2 >/dev/null || fail "cannot get a kernel for the virtual machine"
		"$here/../harness/guest/vm" --timeout 240 -- bash "$here/guarded.sh" "$(realpath "$guest")" \
			>"$dir/vm.log" 2>&1 &
		pids+=($!)
	fi
	guarded_pid=${pids[-1]}
}

finish_guarded_run() {
	[[ -n $guarded_pid ]] || return 0
	wait "$guarded_pid" || fail "the run with a guarded dma-buf failed"
	[[ -z $guest ]] || cp "$guest"/{watch.json,audit.json,kernel} "$dir/guarded/"
	guarded=$dir/guarded
}

for tool in vitrine vitrine-compositor foot weston-simple-shm python3; do
	command -v "$tool" >/dev/null || fail "$tool is missing"
done

trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

mkdir -p "$out"
rm -f "$out"/{shot.png,demo.y4m,report.json}
dir=$(mktemp -d)
export XDG_RUNTIME_DIR=$dir/runtime LC_ALL=C.UTF-8
mkdir -m 700 "$XDG_RUNTIME_DIR"

start_guarded_run
start_compositor
start_applications
limited vitrine watch --frames 120 --json >"$dir/watch.json" || fail "vitrine watch failed"
# A broken promise fails the demo, but the report still says which
audit=0
limited vitrine audit --no-machine --json >"$dir/audit.json" 2>"$dir/audit.log" || audit=$?
[[ -s $dir/audit.json ]] || fail "vitrine audit failed"
show_results
limited vitrine shot "$out/shot.png" || fail "vitrine shot failed"
limited vitrine record --frames 60 "$out/demo.y4m" 2>"$dir/record.log" ||
	fail "vitrine record failed"
finish_guarded_run
uname -r >"$dir/kernel"
python3 "$here/report.py" report "$dir" ${guarded:+"$guarded"} >"$dir/report.json"
mv "$dir/report.json" "$out/report.json"
python3 "$here/report.py" table "$out" "$dir" ${guarded:+"$guarded"}
((audit == 0)) || fail "vitrine audit: status $audit"
