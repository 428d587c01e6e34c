"""The door to processes: the only module that imports subprocess.

An Executor runs commands on one machine. LocalExecutor is this machine, PrefixExecutor the same
executor behind a command prefix (``ip netns exec``, ``nsenter``), doors.ssh.SshExecutor another
machine. Code above never knows which it was given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from solostack.errors import CommandError, CommandTimeoutError

ERROR_LINES = 15
KILL_GRACE_S = 5.0
_running: set[subprocess.Popen[bytes]] = set()
_running_lock = threading.Lock()
OnLine = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Completed:
    """A finished command: its argv as typed, exit status and both streams."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")


class Executor(Protocol):
    """Runs commands on one machine. Safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """The machine's name, for messages."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """Run argv to its end and return what it said.

        stdin is closed unless given (bytes, or a file to stream). on_line gets each line of
        standard output as it comes. Raises CommandError when check is set and the status is not 0,
        and always when timeout_s passes (the command and its children are then killed) or the
        command does not exist.
        """


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build an environment from nothing, so that a user's settings never change what we do."""
    keep: tuple[str, ...] = (
        "HOME",
        "USER",
        "LOGNAME",
        "SSH_AUTH_SOCK",
        "TERM",
        "TMPDIR",
        "XDG_RUNTIME_DIR",
    )
    # Proxies and certificate stores are how some machines reach their package mirror at all.
    keep += ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
    environment = {key: os.environ[key] for key in keep if key in os.environ}
    environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment["LC_ALL"] = "C.UTF-8"
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    environment.update(extra or {})
    return environment


class LocalExecutor:
    """This machine."""

    def __init__(self, name: str = "localhost") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """See Executor."""
        return self._name

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """See Executor."""
        with contextlib.ExitStack() as stack:
            source: int | BinaryIO = subprocess.DEVNULL
            if isinstance(stdin, Path):
                source = stack.enter_context(stdin.open("rb"))
            elif stdin:
                source = subprocess.PIPE
            process = _start(argv, source, self._name)
            feed = stdin if isinstance(stdin, bytes) else b""
            completed = _collect(process, argv, feed, timeout_s, on_line, self._name)
        if check and completed.status != 0:
            raise _failure(completed, self._name)
        return completed


def start_daemon(argv: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
    """Start argv in a session of its own that outlives us, its output in log.

    It is no child of ours, so it never becomes a zombie that waits for us. Raises CommandError when
    it cannot be forked; whether argv then runs is for the caller to find out.
    """
    # setsid(1) forks, and its child makes the session and becomes argv.
    command = ("setsid", "--fork", *argv)
    with log.open("ab") as sink:
        try:
            done = subprocess.run(  # noqa: S603 (argv is ours, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=clean_environment(environment),
                cwd="/",
                check=False,
            )
        except OSError as error:
            raise CommandError(f"cannot run setsid: {error.strerror}") from error
    if done.returncode != 0:
        raise CommandError(f"status {done.returncode} from: {printable(command)}")


def interactive(argv: Sequence[str]) -> int:
    """Run argv on the user's own terminal and return its exit status (128 + N for signal N)."""
    try:
        status = subprocess.run(list(argv), check=False).returncode  # noqa: S603
    except OSError as error:
        raise CommandError(f"cannot run {argv[0]}: {error.strerror}") from error
    return status if status >= 0 else 128 - status


class PrefixExecutor:
    """Another executor with a fixed prefix before every command."""

    def __init__(self, inner: Executor, prefix: Sequence[str], name: str) -> None:
        self._inner = inner
        self._prefix = tuple(prefix)
        self._name = name

    @property
    def name(self) -> str:
        """See Executor."""
        return self._name

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """See Executor."""
        return self._inner.run(
            (*self._prefix, *argv), stdin=stdin, timeout_s=timeout_s, check=check, on_line=on_line
        )


def _start(argv: Sequence[str], source: int | BinaryIO, name: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 (argv is ours, no shell)
            list(argv),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        message = f"{name}: command not found: {argv[0]}"
        raise CommandError(message, hint=f"install the package that provides {argv[0]}") from error
    except OSError as error:
        raise CommandError(f"{name}: cannot run {argv[0]}: {error.strerror}") from error


def _collect(
    process: subprocess.Popen[bytes],
    argv: Sequence[str],
    feed: bytes,
    timeout_s: float,
    on_line: OnLine | None,
    name: str,
) -> Completed:
    out: list[bytes] = []
    err: list[bytes] = []
    with _running_lock:
        _running.add(process)
    threads = [
        threading.Thread(target=_drain, args=(process.stdout, out, on_line), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, err, None), daemon=True),
    ]
    if feed:
        threads.append(threading.Thread(target=_feed, args=(process.stdin, feed), daemon=True))
    for thread in threads:
        thread.start()
    try:
        status = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise CommandTimeoutError(
            f"{name}: no end within {timeout_s:.0f} s: {printable(argv)}",
            details=_tail(b"".join(err) or b"".join(out)),
        ) from None
    except BaseException:
        _kill(process)
        raise
    finally:
        with _running_lock:
            _running.discard(process)
    # A daemon the command left behind may hold the pipes open; do not wait for that one.
    for thread in threads:
        thread.join(timeout=KILL_GRACE_S)
    return Completed(tuple(argv), status, b"".join(out), b"".join(err))


def stop_all() -> None:
    """End every command that runs now, from whatever thread it was started (for Ctrl-C)."""
    with _running_lock:
        processes = tuple(_running)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _drain(stream: BinaryIO | None, sink: list[bytes], on_line: OnLine | None) -> None:
    if stream is None:
        return
    with stream:
        for line in stream:
            sink.append(line)
            if on_line is not None:
                on_line(line.decode("utf-8", "replace").rstrip("\n"))


def _feed(stream: BinaryIO | None, feed: bytes) -> None:
    if stream is None:
        return
    with contextlib.suppress(BrokenPipeError), stream:
        stream.write(feed)


def _kill(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=KILL_GRACE_S)
            return


def printable(argv: Sequence[str]) -> str:
    """Return argv as a line that can be pasted into a shell, cut to a readable length."""
    line = shlex.join(argv)
    return line if len(line) <= 300 else line[:297] + "..."


def _tail(text: bytes) -> list[str]:
    return text.decode("utf-8", "replace").rstrip().splitlines()[-ERROR_LINES:]


def _failure(completed: Completed, name: str) -> CommandError:
    return CommandError(
        f"{name}: status {completed.status} from: {printable(completed.argv)}",
        details=_tail(completed.stderr or completed.stdout),
        status=completed.status,
        stderr=completed.stderr.decode("utf-8", "replace"),
    )
