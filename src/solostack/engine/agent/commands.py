"""The agent's door to processes.

Every child runs in a session of its own, so that it can be ended with all it started, and is noted
under /run: the next agent deals with what a killed one left running.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

from .report import Failure, Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RUNNING = "/run/solostack/running"
KILL_GRACE_S = 5.0
FOLLOW_S = 1.0
OUTPUT_BYTES = 65536
ERROR_LINES = 30
KEPT = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")


class Result:
    """How a command ended: its exit status (-N for signal N) and the end of its output."""

    __slots__ = ("output", "status")

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output

    def tail(self) -> tuple[str, ...]:
        """Return the last lines of the output."""
        return tuple(self.output.rstrip().splitlines()[-ERROR_LINES:])


class Commands:
    """Runs commands and can end all that run.

    noted says that what runs is noted for the next agent; a dry run, which runs beside others and
    only looks, does not.
    """

    def __init__(self, *, noted: bool) -> None:
        self._noted = noted
        self._groups: set[int] = set()
        self.stopped = False

    def run(
        self,
        argv: Sequence[str],
        *,
        script: str = "",
        timeout_s: float = 60.0,
        keep: bool = False,
        follow: Callable[[str], None] | None = None,
    ) -> Result:
        """Run argv to its end; raise Failure when it does not end in time or is not there.

        script goes to its standard input. keep says that it must not be ended half-way (dpkg).
        follow gets the last line of output now and then.
        """
        if self.stopped and not keep:
            raise Interrupted
        with _output() as sink:
            process = _start(argv, sink, script)
            if not keep:
                self._groups.add(process.pid)
            try:
                with _note(process.pid, keep=keep) if self._noted else contextlib.nullcontext():
                    _feed(process, script)
                    if follow is not None:
                        _follow(process, timeout_s, lambda: follow(_last_line(sink)))
                    status = _wait(process, timeout_s, argv[0])
            except Failure as failure:
                failure.details = Result(0, _read(sink)).tail()
                raise
            finally:
                self._groups.discard(process.pid)
            if self.stopped and not keep:
                raise Interrupted
            return Result(status, _read(sink))

    def shell(self, script: str, timeout_s: float) -> Result:
        """Run an sh script (set -eu) that shows in no process list."""
        # Braces make sh read all of the script before it starts, so that a command in it that reads
        # standard input cannot swallow the rest of the script.
        wrapped = f"{{\n:\n{script}\n}} </dev/null\n"
        return self.run(("/bin/sh", "-eu"), script=wrapped, timeout_s=timeout_s)

    def stop(self) -> None:
        """End what may be ended, now (called from signal handlers)."""
        self.stopped = True
        for group in tuple(self._groups):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


def environment() -> dict[str, str]:
    """Build the environment of every command from nothing but proxies."""
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    return {
        **kept,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "APT_LISTCHANGES_FRONTEND": "none",
        "NEEDRESTART_SUSPEND": "1",
    }


def settle_leftovers(limit_s: float) -> None:
    """Deal with children of an agent that was killed: wait for package work, end the rest."""
    if not os.path.isdir(RUNNING):
        return
    for name in sorted(os.listdir(RUNNING)):
        path = f"{RUNNING}/{name}"
        with open(path, encoding="ascii") as note:
            started, keep = [*note.read().split(), "", ""][:2]
        if keep == "keep":
            _await_end(int(name), started, limit_s)
        else:
            _end(int(name), started)
        os.unlink(path)


@contextlib.contextmanager
def _output() -> Iterator[int]:
    # A file, not a pipe: a daemon that a command leaves behind would keep a pipe open.
    descriptor = os.memfd_create("output")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    start = max(0, size - OUTPUT_BYTES)
    return os.pread(descriptor, OUTPUT_BYTES, start).decode("utf-8", "replace")


def _start(argv: Sequence[str], sink: int, script: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (argv is ours, no shell)
            list(argv),
            stdin=subprocess.PIPE if script else subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise Failure(f"cannot run {argv[0]}: {error.strerror}") from error


def _feed(process: subprocess.Popen[bytes], script: str) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(script.encode("utf-8", "surrogateescape"))


def _follow(process: subprocess.Popen[bytes], timeout_s: float, tell: Callable[[], None]) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            process.wait(timeout=FOLLOW_S)
        except subprocess.TimeoutExpired:
            tell()
        else:
            return


def _last_line(sink: int) -> str:
    return (_read(sink).rstrip().splitlines() or [""])[-1]


def _wait(process: subprocess.Popen[bytes], timeout_s: float, what: str) -> int:
    try:
        return process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=KILL_GRACE_S)
            break
    raise Failure(f"no end within {timeout_s:.0f} s: {what}")


@contextlib.contextmanager
def _note(pid: int, *, keep: bool) -> Iterator[None]:
    os.makedirs(RUNNING, mode=0o700, exist_ok=True)
    path = f"{RUNNING}/{pid}"
    with open(path, "w", encoding="ascii") as note:
        note.write(f"{_start_time(pid)} {'keep' if keep else 'end'}")
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _start_time(pid: int) -> str:
    """Return the process's start time (proc_pid_stat(5), field 22), "" when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _await_end(pid: int, started: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while started and _start_time(pid) == started:
        if time.monotonic() > deadline:
            raise Failure(f"package work of an earlier run (PID {pid}) does not end")
        time.sleep(0.2)


def _end(pid: int, started: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + KILL_GRACE_S
        while started and _start_time(pid) == started and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)
            time.sleep(0.1)
