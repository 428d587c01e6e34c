"""The door to other machines: OpenSSH's client with connection sharing and known host keys."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from solostack.doors.process import Completed, Executor, LocalExecutor, OnLine, printable
from solostack.errors import CommandError, CommandTimeoutError, ConnectError, StateError

SSH_FAILURE_STATUS = 255
CONNECT_TIMEOUT_S = 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """How one machine is reached. Paths are of the machine that solostack runs on.

    known_hosts None and key None leave both to the user's own ssh configuration; with known_hosts
    given, only that file's keys are trusted (StrictHostKeyChecking=yes). jump is the machine in
    between, if any. connect_timeout_s is for the connection and sshd's first line. shared False
    makes a new connection for every command, which proves that one can be made.
    """

    name: str
    address: str
    user: str = "root"
    port: int = 22
    key: Path | None = None
    known_hosts: Path | None = None
    jump: SshTarget | None = None
    connect_timeout_s: int = CONNECT_TIMEOUT_S
    shared: bool = True


class SshExecutor:
    """Commands on another machine, as an Executor. One shared connection per target."""

    def __init__(self, target: SshTarget, *, local: Executor | None = None) -> None:
        self._target = target
        self._local = local or LocalExecutor()

    @property
    def name(self) -> str:
        """See Executor."""
        return self._target.name

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """See Executor; raises ConnectError when the machine itself cannot be reached."""
        command = (*ssh_argv(self._target), shlex.join(argv))
        by_hand = f"{shlex.join(ssh_argv(self._target))} true"
        try:
            done = self._local.run(
                command, stdin=stdin, timeout_s=timeout_s, check=False, on_line=on_line
            )
        except CommandTimeoutError as error:
            # It may be slow; or gone, with the shared connection to it still there.
            raise CommandTimeoutError(
                f"{self.name}: no end within {timeout_s:.0f} s: {printable(argv)}",
                details=error.details,
                hint=f"see whether it answers: {by_hand}",
            ) from None
        stderr = done.stderr.decode("utf-8", "replace")
        if done.status == SSH_FAILURE_STATUS:
            raise ConnectError(
                f"{self.name}: no SSH connection to {self._target.user}@{self._target.address}",
                details=stderr.strip().splitlines()[-5:],
                hint=f"try it by hand: {by_hand}",
            )
        if check and done.status != 0:
            raise CommandError(
                f"{self.name}: status {done.status} from: {shlex.join(argv)[:300]}",
                details=(stderr or done.text).rstrip().splitlines()[-15:],
                status=done.status,
                stderr=stderr,
            )
        return Completed(tuple(argv), done.status, done.stdout, done.stderr)

    def close(self) -> None:
        """End the shared connection, if there is one."""
        argv = (*ssh_argv(self._target)[:-1], "-O", "exit", _destination(self._target))
        self._local.run(argv, check=False)


def ssh_argv(target: SshTarget) -> tuple[str, ...]:
    """Build the ssh command line up to and with the destination."""
    return ("ssh", *_options(target), _destination(target))


def _destination(target: SshTarget) -> str:
    return f"{target.user}@{target.address}"


def _options(target: SshTarget) -> tuple[str, ...]:
    # A Unix socket path is at most 107 bytes (unix(7)), so the name is a hash in a short folder.
    options = [
        "-o", "BatchMode=yes",
        "-o", f"ConnectTimeout={target.connect_timeout_s}",
        "-o", "ServerAliveInterval=5",
        "-o", "ServerAliveCountMax=6",
        *_sharing(target),
        "-p", str(target.port),
    ]  # fmt: skip
    if target.key is not None:
        options += ["-i", str(target.key), "-o", "IdentitiesOnly=yes"]
    if target.known_hosts is not None:
        options += [
            "-o", f"UserKnownHostsFile={target.known_hosts}",
            "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes",
        ]  # fmt: skip
    if target.jump is not None:
        proxy = shlex.join((*ssh_argv(target.jump)[:-1], "-W", "%h:%p", _destination(target.jump)))
        options += ["-o", f"ProxyCommand={proxy}"]
    return tuple(options)


def _sharing(target: SshTarget) -> tuple[str, ...]:
    if not target.shared:
        return ("-o", "ControlMaster=no", "-o", "ControlPath=none")
    path = f"{_socket_directory()}/{_fingerprint(target)}"
    return ("-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={path}")


def _fingerprint(target: SshTarget) -> str:
    return hashlib.sha256(repr(target).encode()).hexdigest()[:16]


def _socket_directory() -> Path:
    # Whoever owns the folder could put a socket of his own there and be given our secrets.
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    directory = base / f"solostack-ssh-{os.geteuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    seen = directory.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
        raise StateError(
            f"{directory} is not a private folder of this user",
            hint=f"look at what it is, then remove it: rm -r {directory}",
        )
    return directory
