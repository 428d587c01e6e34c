"""The script that boots the tiny guest on a host. Shipped as text, standard library only.

host.kvm sends this file over standard input of ``python3 -I -`` with a call of ``main`` behind it.
It leaves nothing on the host: the guest's disk is a memory file, QEMU ends by the deadline.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import zlib
from typing import IO, Any

BROKEN = ("KVM internal error", "KVM: entry failed", "emulation failure")
PR_SET_PDEATHSIG = 1


def main(request_text: str) -> None:
    """Boot the guest as the request says and write the verdict as one line of JSON."""
    request = json.loads(request_text)
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    started = time.monotonic()
    verdict, reason = decide(request)
    duration_s = round(time.monotonic() - started, 3)
    answer = {"verdict": verdict, "reason": reason, "duration_s": duration_s}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    # A thread may still wait for a QEMU that the kernel does not let go of.
    os._exit(0)


def decide(request: dict[str, Any]) -> tuple[str, str]:
    """Return (yes, no or unknown, why)."""
    if platform.machine() != "x86_64":
        return "no", f"the machine is {platform.machine()}, the guest is x86-64"
    if request["accelerator"] == "kvm":
        obstacle = device_obstacle()
        if obstacle:
            return "no", obstacle
    if shutil.which(request["qemu"]) is None:
        return "unknown", f"{request['qemu']} is not installed"
    return boot(request)


def device_obstacle() -> str:
    """Return why /dev/kvm cannot be used, or an empty string."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return "there is no /dev/kvm"
    except OSError as error:
        return f"/dev/kvm cannot be opened: {error.strerror}"
    return ""


def boot(request: dict[str, Any]) -> tuple[str, str]:
    """Run QEMU until the word is said, it ends, it reports itself broken, or time is up."""
    disk = os.memfd_create("solostack-probe", 0)
    os.write(disk, zlib.decompress(base64.b64decode(request["disk"])))
    argv = [part.replace("@disk@", f"/proc/self/fd/{disk}") for part in request["argv"]]
    process = subprocess.Popen(  # noqa: S603 (argv is ours, no shell)
        [request["qemu"], *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(disk,),
        preexec_fn=die_with_parent,
    )
    watch = Watch(process)
    try:
        watch.ended.wait(request["timeout_s"])
    finally:
        if process.poll() is None:
            process.kill()
        watch.join()
    return judge(request, watch)


def die_with_parent() -> None:
    """Have the kernel kill QEMU when this script is killed, see prctl(2)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Watch:
    """QEMU's two streams as they come, and the moment when there is nothing left to wait for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self.broken = False
        self.ended = threading.Event()
        self.threads = [
            threading.Thread(target=self.read, args=(process.stdout, self.out), daemon=True),
            threading.Thread(target=self.read, args=(process.stderr, self.err), daemon=True),
            threading.Thread(target=self.reap, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def read(self, stream: IO[bytes], lines: list[str]) -> None:
        """Collect the stream's lines; a guest that KVM gave up on is stopped, QEMU stays."""
        for raw in stream:
            line = raw.decode("utf-8", "replace").strip()
            lines.append(line)
            if any(mark in line for mark in BROKEN):
                self.broken = True
                self.ended.set()

    def reap(self) -> None:
        """Note that QEMU ended."""
        self.process.wait()
        self.ended.set()

    def join(self) -> None:
        """Give the streams a moment; a process the kernel holds must not hold us."""
        for thread in self.threads:
            thread.join(2)


def judge(request: dict[str, Any], watch: Watch) -> tuple[str, str]:
    """Return the verdict on what was seen."""
    status = watch.process.returncode
    if status == request["good_status"] and any(request["word"] in line for line in watch.out):
        return "yes", "a 64-bit guest ran"
    if watch.broken:
        return "no", "KVM gave up on the guest" + tail(watch.err[:3])
    if status == request["bad_status"]:
        return "no", "the guest's own test of the processor failed"
    if status is None or status == -signal.SIGKILL:
        return "no", f"the guest said nothing within {request['timeout_s']:g} s" + tail(watch.err)
    if status < 0:
        return "no", f"QEMU was ended by signal {-status}" + tail(watch.err)
    return "no", f"QEMU ended with status {status}, the guest did not finish" + tail(watch.err)


def tail(lines: list[str]) -> str:
    """Return the last lines for a message."""
    return ": " + "; ".join(lines[-3:]) if lines else ""
