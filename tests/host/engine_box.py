"""A throwaway root to apply bundles to: this machine's own file system under an overlay.

It lives in mount and PID namespaces of its own: nothing in it reaches this machine, and all of it
is gone when its first process ends, whatever happened before.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from solostack.doors.process import LocalExecutor, PrefixExecutor, clean_environment
from solostack.doors.progress import Progress
from solostack.engine.apply import BOOT, Report, apply_bundle, undo_ledger
from solostack.engine.bundle import pack
from solostack.engine.operations import Bundle
from tests.ties import TIED

START = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
mount -t tmpfs tmpfs "$1/root/srv"
mount --bind /dev "$1/root/dev"
rm -rf "$1/root/var/lib/solostack"
touch "$1/root/run/ready"
exec chroot "$1/root" sleep infinity
"""
STARTUP_S = 20.0


class Box:
    """One throwaway root. path() reaches its files from the outside."""

    def __init__(self, pid: int, *more_namespaces: str) -> None:
        self.pid = pid
        enter = ("nsenter", "-t", str(pid), "-m", "-p", "-r", "-w", *more_namespaces)
        self.executor = PrefixExecutor(LocalExecutor(), enter, "box")
        self.prefix = enter

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.pid}/root{path}")

    def shell(self, script: str) -> str:
        return self.executor.run(("sh", "-eu", "-c", script)).text

    def apply(
        self,
        bundle: Bundle,
        secrets: dict[str, str] | None = None,
        *,
        dry_run: bool = False,
        ledger: bool = False,
    ) -> Report:
        with Progress().step("apply") as step:
            return apply_bundle(
                self.executor, bundle, secrets or {}, step=step, dry_run=dry_run, ledger=ledger
            )

    def undo(self, *, dry_run: bool = False, packages: str = "keep") -> Report:
        with Progress().step("undo") as step:
            return undo_ledger(self.executor, step=step, dry_run=dry_run, packages=packages)

    def clear(self) -> None:
        """Forget all that the agent keeps, and empty /srv."""
        self.shell("rm -rf /var/lib/solostack; find /srv -mindepth 1 -delete")

    def fingerprint(self, folder: str) -> dict[str, tuple[object, ...]]:
        """Return everything about every path below folder but for times of directories."""
        base = self.path(folder)
        found = {}
        for path in sorted(base.rglob("*")):
            info = path.lstat()
            content: object = ""
            modified = 0
            if stat.S_ISLNK(info.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                modified = info.st_mtime_ns
            name = str(path.relative_to(base))
            found[name] = (info.st_mode, info.st_uid, info.st_gid, content, modified)
        return found


@contextlib.contextmanager
def open_box(folder: Path) -> Iterator[Box]:
    """Start a box whose changes are kept in memory; folder is an empty one to mount on."""
    argv = (
        *TIED,
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        START,
        "sh",
        folder,
    )
    holder = subprocess.Popen(argv)
    try:
        yield Box(_inner_pid(holder))
    finally:
        holder.kill()
        holder.wait()


@contextlib.contextmanager
def start_agent(
    box: Box, wanted: Bundle, *, ledger: bool = False, mode: tuple[str, ...] = ("apply",)
) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent that the test can kill."""
    with tempfile.TemporaryFile() as archive:
        archive.write(pack(wanted, {}, ledger=ledger))
        archive.seek(0)
        argv = (*box.prefix, "python3", "-I", "-S", "-c", BOOT, *mode)
        process = subprocess.Popen(
            argv, stdin=archive, stdout=subprocess.PIPE, env=clean_environment()
        )
    with process:
        yield process


def agent_pid(process: subprocess.Popen[bytes]) -> int:
    """Return the agent's own PID: nsenter forks to enter a PID namespace."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


def _inner_pid(holder: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + STARTUP_S
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    while time.monotonic() < deadline and holder.poll() is None:
        inner = children.read_text().split()
        if inner and Path(f"/proc/{inner[0]}/root/run/ready").exists():
            comm = Path(f"/proc/{inner[0]}/comm").read_text().strip()
            if comm == "sleep":
                return int(inner[0])
        time.sleep(0.02)
    raise RuntimeError("the box did not start")
