# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Shared by the scripts of this directory: where things are cached, how a
# command is run inside the private Debian root, how packages are fetched
# without installing anything.
#
# VITRINE_CACHE  where everything built or fetched is kept
# VITRINE_ROOT   the private Debian root that ./run makes; empty: this system
# VITRINE_BUILD  the meson build directory, visible and writable in the guests
# VITRINE_JOBS   parallel compile jobs, default: one per processor

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
checkout=$(cd "$vm_dir/../../.." && pwd -P)
cache=${VITRINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitrine}
root=${VITRINE_ROOT:-}
build=${VITRINE_BUILD:-}
export VITRINE_JOBS=${VITRINE_JOBS:-$(nproc)}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd -P)
[ -z "$build" ] || build=$(realpath -m "$build")

note() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die() {
	note "$@"
	exit "${die_status:-1}"
}

# in_root [--rw DIR]... -- CMD...: runs CMD in the private root, with the
# checkout, the cache, the build directory and each DIR at the paths they have
# here. The root itself is not written to: mount points are made in a tmpfs
# into which the root's top-level directories are bound. Every process started
# dies with CMD, by way of a PID namespace.
in_root() {
	local dirs=("$checkout" "$cache")
	[ -z "$build" ] || dirs+=("$build")
	while [ "$1" != -- ]; do
		dirs+=("$2")
		shift 2
	done
	shift
	if [ -z "$root" ]; then
		"$@"
		return
	fi
	local unshare=(unshare --mount --pid --fork --kill-child)
	if [ "$(id -u)" != 0 ]; then
		unshare+=(--user --map-root-user --map-auto)
	fi
	# shellcheck disable=SC2016 # expanded by the inner shell
	"${unshare[@]}" bash -euc '
		root=$1 cwd=$2 new=$3/mnt count=$4
		shift 4
		mkdir -p "$new"
		mount --make-rprivate /
		mount -t tmpfs -o mode=755 vitrine-root "$new"
		for path in "$root"/*; do
			name=${path##*/}
			if [ -L "$path" ]; then
				cp -P "$path" "$new/"
				continue
			fi
			mkdir "$new/$name"
			case $name in
			bin|boot|etc|lib*|opt|sbin|usr|var)
				mount --bind "$path" "$new/$name" ;;
			esac
		done
		mkdir -p "$new"/{dev,proc,run,sys,tmp,root}
		chmod 1777 "$new/tmp"
		mount --rbind /dev "$new/dev"
		mount --rbind /sys "$new/sys"
		mount -t proc proc "$new/proc"
		for ((; count > 0; count--)); do
			mkdir -p "$1" "$new/$1"
			mount --bind "$1" "$new/$1"
			shift
		done
		mkdir -p "$new/$cwd" 2>/dev/null || cwd=/
		# No exec: the shell stays PID 1, which timeout(1) must not be.
		status=0
		chroot "$new" /bin/sh -c '\''cd "$1"; shift; exec "$@"'\'' \
			sh "$cwd" "$@" || status=$?
		exit $status
	' bash "$root" "$PWD" "$cache" ${#dirs[@]} "${dirs[@]}" "$@"
}

# vm_apt SUITE ARG...: apt-get against SUITE with lists and settings of its own,
# from the mirror that the private root (else this system) uses.
vm_apt() {
	local suite=$1 dir=$cache/apt/$1
	shift
	mkdir -p "$dir"/{lists/partial,cache/archives/partial,state}
	touch "$dir/state/status"
	if [ ! -s "$dir/sources.list" ]; then
		local mirror keyring
		# shellcheck disable=SC2016 # for apt
		mirror=$(apt-get ${root:+-o "Dir=$root"} indextargets \
			--no-release-info --format '$(REPO_URI)' \
			'Created-By: Packages' |
			grep -v security | head -n 1) || true
		[ -n "$mirror" ] || die "no Debian mirror in ${root:-/}/etc/apt"
		for keyring in "$root"/usr/share/keyrings/debian-archive-keyring.{pgp,gpg} \
			/usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
			[ ! -s "$keyring" ] || break
		done
		echo "deb [signed-by=$keyring] $mirror $suite main" \
			>"$dir/sources.list.tmp"
		mv "$dir/sources.list.tmp" "$dir/sources.list"
	fi
	local options=(
		-o "Dir::Etc::SourceList=$dir/sources.list"
		-o Dir::Etc::SourceParts=/dev/null
		-o Dir::Etc::Preferences=/dev/null
		-o Dir::Etc::PreferencesParts=/dev/null
		-o "Dir::State=$dir/state"
		-o "Dir::State::Lists=$dir/lists"
		-o "Dir::State::Status=$dir/state/status"
		-o "Dir::Cache=$dir/cache"
		-o "Dir::Cache::Archives=$dir/cache/archives"
		-o APT::Architecture=amd64
		-o APT::Architectures::=amd64
		-o APT::Sandbox::User=root
		-o Acquire::Languages=none
		-o Acquire::Retries=3
	)
	# Debian testing's Release file can be past its Valid-Until.
	[ "$suite" != testing ] || options+=(-o Acquire::Check-Valid-Until=false)
	timeout 900 "$@" "${options[@]}"
}

# vm_apt_update SUITE: refreshes the lists, at most once a day.
vm_apt_update() {
	local stamp=$cache/apt/$1/updated
	if [ -z "$(find "$stamp" -mmin -1440 2>/dev/null)" ]; then
		note "reading the package lists of Debian $1"
		vm_apt "$1" apt-get -qq update >&2
		touch "$stamp"
	fi
}

# vm_download SUITE DIR PACKAGE...: puts the .deb files into DIR.
vm_download() {
	local suite=$1 dir=$2
	shift 2
	mkdir -p "$dir"
	(cd "$dir" && vm_apt "$suite" apt-get -qq download "$@" >&2)
}

# locked NAME: holds the lock NAME of the cache until the script ends, so that
# two runs do not build or fetch the same thing.
locked() {
	mkdir -p "$cache/lock"
	exec {vm_lock}>"$cache/lock/$1"
	flock -w 3600 "$vm_lock" || die "the lock $1 was held for an hour"
}

unlocked() {
	exec {vm_lock}>&-
}

# A report of the kernel's own checks. The log is only right without one.
kernel_report='BUG:|WARNING:|KASAN:|UBSAN:|Oops|general protection|refcount_t:|INFO: (possible|suspicious|inconsistent|task|rcu)|possible (circular|recursive)|Kernel panic|Bad page|DMA-API: (debugging out of|[^ ]+ [^ ]+: )|kmemleak:|Unable to handle|scheduling while atomic|invalid context|list_(add|del) corruption|Segfault with no mm'

# check_kernel_log FILE: 1 and the lines around when FILE holds a report.
check_kernel_log() {
	if grep -qE "$kernel_report" "$1"; then
		note "the kernel reported a fault, in $1:"
		grep -E -m 3 -A 25 "$kernel_report" "$1" | head -n 80 >&2
		return 1
	fi
}

# keep_log NAME FILE: keeps FILE as the newest log of NAME, and 20 older ones.
keep_log() {
	local dir=$cache/log
	mkdir -p "$dir"
	saved_log=$dir/$1-$(date +%Y%m%d-%H%M%S)-$$.log
	tr -d '\r' <"$2" >"$saved_log"
	# Guests end at the same time: find(1) fails for a file that another one removes.
	locked log
	find "$dir" -name "$1-*.log" -printf '%T@ %p\n' | sort -rn |
		tail -n +21 | cut -d' ' -f2- | xargs -r rm -f
	unlocked
}

# write_job RUN TYPE GUEST CMD...: what `init` does in a guest. Takes the arrays
# `shares` and `modules` of its caller too, and `drivers`: those of the kernel's own,
# with their options, below `driver_tree`.
write_job() {
	local run=$1 share_type=$2 guest=$3 directory=$PWD
	local -a command
	shift 3
	command=("$@")
	# shellcheck disable=SC2154 # shares: the caller's
	: "${driver_tree:=}"
	[ -n "${drivers+set}" ] || declare -a drivers=()
	declare -p share_type guest directory shares modules drivers driver_tree command |
		sed 's/^declare -- /declare /' >"$run/job"
	# Which lines run in there is counted apart: no locks of files go through
	[ -z "${VITRINE_COVERAGE:-}" ] || export GCOV_PREFIX=$VITRINE_COVERAGE/${run##*/}
	declare -px >"$run/environment"
	touch "$run/stdout" "$run/stderr" "$run/init.log"
}

# end_guest: on exit, also by a signal: the guest ends with its runner.
end_guest() {
	[ -z "${guest_pid:-}" ] || kill -TERM -- "-$guest_pid" 2>/dev/null || true
	rm -rf "$run"
}

# follow RUN COMMAND...: runs the guest, copies its output as it comes, and
# leaves its own exit status in guest_status.
follow() {
	local run=$1
	shift
	trap end_guest EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# A process group of its own, for end_guest.
	set -m
	"$@" &
	guest_pid=$!
	set +m
	tail -q -s 0.05 --pid="$guest_pid" -f -c +1 "$run/stdout" &
	tail -q -s 0.05 --pid="$guest_pid" -f -c +1 "$run/stderr" >&2 &
	guest_status=0
	wait "$guest_pid" || guest_status=$?
	guest_pid=
	wait
}

# build_modules TREE NAME...: fills the array `modules`.
build_modules() {
	local tree=$1 name
	shift
	modules=()
	for name; do
		modules+=("$("$vm_dir/build-module" "$name" "$tree")")
	done
}

# finish NAME RUN LOG: the exit status of the job, after a look at the log.
finish() {
	local status
	keep_log "$1" "$3"
	if [ -s "$2/init.log" ]; then
		note "in the guest: $(<"$2/init.log")"
	fi
	if [ -s "$2/status" ]; then
		status=$(<"$2/status")
	elif [ "$guest_status" = 124 ] || [ "$guest_status" = 137 ]; then
		note "the time limit was reached; the kernel's log is $saved_log"
		status=124
	else
		note "the guest ended ($guest_status) before the command did:"
		tail -n 20 "$saved_log" >&2
		status=125
	fi
	# 70, EX_SOFTWARE: the command may be right, the kernel is not.
	check_kernel_log "$saved_log" || status=70
	return "$status"
}
