#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The real compositor, the real client and a real application, end to end.

e2e_test.py PLACE [machine], with the built commands on PATH. PLACE is where this
runs, and says what there is to test: "host" (no device needed), "uml" (patched
kernel, vgem, vkms) or "vm" (stock kernel). With "machine", only what needs no
compositor. Prints TAP.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

PLACE = sys.argv[1] if len(sys.argv) > 1 else "host"
# Guests count the seconds of an emulated or shared processor
SLOW = {"host": 1, "uml": 2, "vm": 6}[PLACE] * int(os.environ.get("HARNESS_SLOWDOWN", 1))
ALL = {"sealed", "guarded", "fd_read_only", "snapshot"}
BACKENDS = {
    "host": {"sealed", "snapshot"},
    "uml": {"sealed", "ioctl", "guard", "prime", "snapshot"},
    "vm": {"sealed", "guard", "prime", "snapshot"},
}

# What is run: the compositor's options and environment, and what it can give
CONFIGURATIONS = {
    "headless pixman": {
        "options": ["--backend", "headless"],
        "environment": {"WLR_RENDERER": "pixman"},
        "gives": {
            "host": {"sealed", "snapshot"},
            "uml": ALL,
            "vm": {"sealed", "guarded", "snapshot"},
        },
    },
    "headless gles2": {
        "options": ["--backend", "headless"],
        "environment": {"WLR_RENDERER": "gles2"},
        "gives": {"uml": ALL},
    },
    "drm pixman": {
        "options": ["--backend", "drm"],
        "environment": {"WLR_RENDERER": "pixman"},
        "gives": {"uml": ALL},
    },
    "headless pixman dumb, prime": {
        "options": ["--backend", "headless"],
        "environment": {
            "WLR_RENDERER": "pixman",
            "VITRINE_ALLOCATOR": "dumb:@card@",
            "VITRINE_BACKENDS": "prime,sealed,snapshot",
        },
        "gives": {"uml": {"fd_read_only", "snapshot"}},
    },
    "drm pixman dumb": {
        "options": ["--backend", "drm"],
        "environment": {"WLR_RENDERER": "pixman", "VITRINE_ALLOCATOR": "dumb"},
        "gives": {"uml": {"guarded", "fd_read_only", "snapshot"}},
    },
    # What a holder of an owner's own dma-buf does to its fences stops page flips
    "drm pixman dumb, prime": {
        "options": ["--backend", "drm"],
        "environment": {
            "WLR_RENDERER": "pixman",
            "VITRINE_ALLOCATOR": "dumb",
            "VITRINE_BACKENDS": "prime,sealed,snapshot",
        },
        "gives": {"uml": {"snapshot"}},
    },
    "drm pixman, guard module": {
        "options": ["--backend", "drm"],
        "environment": {"WLR_RENDERER": "pixman", "VITRINE_BACKENDS": "guard,sealed,snapshot"},
        "gives": {"uml": {"guarded", "sealed", "snapshot"}},
    },
    "drm gles2": {
        "options": ["--backend", "drm"],
        "environment": {"WLR_RENDERER": "gles2"},
        "gives": {"uml": ALL},
    },
}

DRM_ENVIRONMENT = {
    "LIBSEAT_BACKEND": "builtin",
    "SEATD_VTBOUND": "0",
    "WLR_LIBINPUT_NO_DEVICES": "1",
    # Several raster threads, or what is only flushed would be finished by chance
    "LP_NUM_THREADS": "4",
}


class Failure(Exception):
    """A check that did not hold."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def find_drm_devices():
    """The nodes to show and to render on, by what they can do."""
    environment = {}
    if os.path.exists("/dev/dri/renderD128"):
        environment["WLR_RENDER_DRM_DEVICE"] = "/dev/dri/renderD128"
    for name in sorted(os.listdir("/sys/class/drm") if os.path.isdir("/sys/class/drm") else []):
        card = name.split("-")[0]
        if "-" in name and card.startswith("card"):
            environment["WLR_DRM_DEVICES"] = "/dev/dri/" + card
    return environment


class Compositor:
    """vitrine-compositor with an application that draws at full rate."""

    def __init__(self, configuration):
        self.directory = tempfile.TemporaryDirectory()
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=self.directory.name, HOME="/tmp")
        self.environment.update(DRM_ENVIRONMENT)
        self.environment.update(find_drm_devices())
        for name, value in configuration["environment"].items():
            card = self.environment.get("WLR_DRM_DEVICES", "")
            self.environment[name] = value.replace("@card@", card)
        self.log = open(os.path.join(self.directory.name, "log"), "w+b")
        command = ["vitrine-compositor", *configuration["options"], "-s", "weston-simple-shm"]
        self.process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline().decode()
        if not line.startswith("WAYLAND_DISPLAY="):
            self.stop()
            raise Failure("the compositor did not start:\n" + self.read_log())
        self.environment["WAYLAND_DISPLAY"] = line.strip().split("=", 1)[1]
        # The guarantee is for this process to restrict, and not for clients
        self.environment.pop("VITRINE_BACKENDS", None)

    def read_log(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = "none, it had to be killed"
        self.process.stdout.close()
        return status

    def run(self, *command, timeout=30):
        """Exit status, standard output and standard error."""
        result = subprocess.run(
            command, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=timeout * SLOW, check=False)
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    def watch(self, guarantee, frames):
        status, out, err = self.run(
            "vitrine", "watch", "--json", "--guarantee", guarantee, "--frames", str(frames))
        check(status == 0, f"watch {guarantee}: {err}")
        return json.loads(out)

    def start_attacker(self, guarantee):
        attacker = subprocess.Popen(
            ["fence_attacker", guarantee, "30"], env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        line = attacker.stdout.readline().decode()
        if "fences taken" not in line:
            attacker.kill()
            attacker.wait()
            raise Failure("the attacker did not get that far: " + line)
        return attacker


def test_frames(compositor, guarantee):
    frames = 600 if PLACE == "host" else 45
    report = compositor.watch(guarantee, frames)
    check(report["frames"] == frames, f"frames: {report}")
    check(report["guarantee"] == guarantee, f"guarantee: {report}")
    expected = "memfd" if guarantee in ("sealed", "snapshot") else "dmabuf"
    check(report["storage"] == expected, f"storage: {report}")
    # One file descriptor a plane and buffer, and none in a frame
    check(report["fds_received"] == report["distinct_buffers"] <= 8, f"fds: {report}")
    check(report["revoked"] == 0, f"revoked: {report}")
    return report


def test_audit(compositor, guarantee):
    status, out, err = compositor.run(
        "vitrine", "audit", "--no-machine", "--json", "--guarantee", guarantee, timeout=60)
    check(status == 0, f"status {status}: {err}{out}")
    broken = [row for row in json.loads(out)["audit"]
              if row["expected"] == "refused" and row["result"] == "allowed"]
    check(not broken, f"broken: {broken}")


def test_two_sessions(compositor, guarantee):
    """Both get each frame, while the output keeps its rate."""
    alone = compositor.watch(guarantee, 45)
    other = subprocess.Popen(
        ["vitrine", "watch", "--json", "--guarantee", guarantee, "--frames", "10000"],
        env=compositor.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        both = compositor.watch(guarantee, 60)
    finally:
        other.kill()
        other.wait()
    check(both["skipped"] <= 6, f"skipped: {both}")
    check(both["fps"] >= 0.5 * alone["fps"], f"alone {alone}, with another {both}")


def test_fence_attack(compositor, guarantee):
    """Row 14: neither the output nor an honest client waits for a holder's fence."""
    before = compositor.watch(guarantee, 45)
    attacker = compositor.start_attacker(guarantee)
    try:
        during = compositor.watch(guarantee, 60)
    finally:
        attacker.kill()
        attacker.wait()
        attacker.stdout.close()
    check(during["skipped"] <= 12, f"skipped: {during}")
    check(during["fps"] >= 0.4 * before["fps"], f"before {before}, during {during}")


def test_unsupported(compositor, guarantee):
    """What cannot be given is refused, and never given as something else."""
    status, out, err = compositor.run(
        "vitrine", "watch", "--json", "--guarantee", guarantee, "--frames", "1")
    check(status == 1, f"status {status}: {out}{err}")
    check("guarantee" in err, f"message: {err}")


def test_machine_audit():
    """Every backend on every exporter keeps its promises."""
    result = subprocess.run(
        ["vitrine", "audit", "--no-session", "--json"], stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60 * SLOW, check=False)
    check(result.returncode == 0, f"status {result.returncode}: {result.stderr.decode()}")
    report = json.loads(result.stdout)
    exercised = {entry["name"] for entry in report["backends"] if entry["exercised"]}
    check(exercised == BACKENDS[PLACE], f"exercised: {sorted(exercised)}")
    broken = [row for row in report["audit"]
              if row["expected"] == "refused" and row["result"] == "allowed"]
    check(not broken, f"broken: {broken}")


def list_tests(configuration):
    gives = configuration["gives"][PLACE]
    for guarantee in sorted(gives):
        yield f"{guarantee}: frames", test_frames, guarantee
        yield f"{guarantee}: audit", test_audit, guarantee
    for guarantee in sorted(gives - {"sealed", "snapshot"}):
        if PLACE == "uml":
            yield f"{guarantee}: fence attack", test_fence_attack, guarantee
    if PLACE != "vm":
        best = sorted(gives)[0]
        yield f"{best}: two sessions", test_two_sessions, best
    for guarantee in sorted(ALL - gives):
        yield f"{guarantee}: unsupported", test_unsupported, guarantee


class Tap:
    """Counts and prints results."""

    def __init__(self, total):
        self.number = 0
        self.failed = 0
        print(f"TAP version 13\n1..{total}", flush=True)

    def result(self, name, problem):
        self.number += 1
        print(f"{'not ok' if problem else 'ok'} {self.number} - {name}", flush=True)
        if problem:
            self.failed += 1
            for line in problem.splitlines():
                print("# " + line, flush=True)


def run_configuration(tap, name, configuration):
    tests = list(list_tests(configuration))
    try:
        compositor = Compositor(configuration)
    except Failure as failure:
        for test_name, _, _ in tests:
            tap.result(f"{name}, {test_name}", str(failure))
        tap.result(f"{name}, clean exit", str(failure))
        return
    for test_name, function, guarantee in tests:
        problem = None
        try:
            function(compositor, guarantee)
        except (Failure, subprocess.TimeoutExpired) as failure:
            problem = str(failure)
        tap.result(f"{name}, {test_name}", problem)
    status = compositor.stop()
    tap.result(f"{name}, clean exit",
               None if status == 0 else f"status {status}\n{compositor.read_log()}")


def main():
    here = {name: configuration for name, configuration in CONFIGURATIONS.items()
            if PLACE in configuration["gives"] and sys.argv[2:] != ["machine"]}
    total = sum(len(list(list_tests(configuration))) + 1 for configuration in here.values())
    tap = Tap(total + 1)
    problem = None
    try:
        test_machine_audit()
    except (Failure, subprocess.TimeoutExpired) as failure:
        problem = str(failure)
    tap.result("machine audit", problem)
    for name, configuration in here.items():
        run_configuration(tap, name, configuration)
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
