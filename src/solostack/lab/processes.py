"""Which processes belong to a lab, read from /proc: by network namespace, command line or role.

Nothing relies on a recorded process id: ids are reused, and a crash may come before the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
NAMESPACES = Path("/run/netns")


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when it was looked at."""

    pid: int
    argv: tuple[str, ...]

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone or its id is another one's now."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if read_argv(self.pid) == self.argv:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def read_argv(pid: int) -> tuple[str, ...]:
    """Return a process's command line; empty for a zombie or one that is gone."""
    try:
        text = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(text.rstrip("\0").split("\0")) if text else ()


def all_processes() -> Iterator[Process]:
    """Yield every living process that this process namespace shows."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            argv = read_argv(int(entry.name))
            if argv:
                yield Process(int(entry.name), argv)


def processes_with_argument(argument: str) -> tuple[Process, ...]:
    """Return the processes outside of any container that have argument in their command line."""
    return tuple(
        process
        for process in all_processes()
        if argument in process.argv[1:] and len(nested_ids(process.pid)) == 1
    )


def processes_in_namespace(name: str) -> tuple[Process, ...]:
    """Return the processes in the network namespace called name, containers' included."""
    try:
        wanted = (NAMESPACES / name).stat()
    except FileNotFoundError:
        return ()
    return tuple(process for process in all_processes() if _is_in(process.pid, wanted))


def processes_in_group(directory: Path) -> tuple[Process, ...]:
    """Return the processes of a control group and of the groups below it."""
    found = []
    # Not glob(): it fails when a group goes away meanwhile, as they do when a host ends.
    for group, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            pids = [int(text) for text in (Path(group) / "cgroup.procs").read_text().split()]
            found += [Process(pid, argv) for pid in pids if (argv := read_argv(pid))]
    return tuple(found)


def own_line() -> frozenset[int]:
    """Return the ids of this process and of its ancestors, which must never be ended."""
    line = set()
    pid = os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        pid = _parent(pid)
    return frozenset(line)


def container_leader(namespace: str) -> Process | None:
    """Return the container in a network namespace: process 1 of a process namespace below ours.

    NSpid (proc_pid_status(5)) lists a process's ids from this namespace inward, so the leader has
    two, the second being 1; whatever containers the host runs itself are deeper.
    """
    for process in processes_in_namespace(namespace):
        ids = nested_ids(process.pid)
        if len(ids) == 2 and ids[1] == 1:
            return process
    return None


def nested_ids(pid: int) -> tuple[int, ...]:
    """Return a process's ids in each process namespace from ours inward; empty when it is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return ()
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return tuple(int(number) for number in line.split()[1:])
    return ()


def control_group(pid: int) -> str:
    """Return a process's path in the unified control group hierarchy, ``/`` at the top."""
    try:
        text = (PROC / str(pid) / "cgroup").read_text()
    except OSError:
        return "/"
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def mount_points_below(directory: Path) -> tuple[Path, ...]:
    """Return what is mounted at or below a directory, the deepest first."""
    lines = (PROC / "self/mountinfo").read_text().splitlines()
    points = (Path(_unescape(line.split()[4])) for line in lines)
    below = [point for point in points if point == directory or directory in point.parents]
    return tuple(sorted(below, key=lambda point: len(point.parts), reverse=True))


def _parent(pid: int) -> int:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    # The name in parentheses may hold spaces and parentheses itself (proc_pid_stat(5)).
    return int(text.rpartition(")")[2].split()[1])


def _is_in(pid: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat((PROC / str(pid) / "ns/net").stat(), wanted)
    except OSError:
        return False


def _unescape(text: str) -> str:
    # The kernel writes space, tab, newline and backslash as octal (proc_pid_mounts(5)).
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
