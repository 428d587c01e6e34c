"""The state directory: what a deployment remembers on the machine solostack runs on.

Everything that cannot be derived again lives here: secrets, keys, the hosts' facts, the plan that
was last applied, and whether that finished. All files are 0600 in a folder of 0700.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

from solostack.doors.process import Executor, LocalExecutor
from solostack.errors import StateError

OWNER = "owner"
OWNER_BYTES = 16


def state_home() -> Path:
    """Return the folder of all deployments' state (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "solostack"


class State:
    """One deployment's state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._keys = threading.Lock()

    def create(self) -> None:
        """Make the directory, 0700, if it is not there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the deployment's lock; raises StateError at once when somebody else does."""
        self.create()
        with (self.directory / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateError(
                    f"another solostack works on this deployment ({self.directory})",
                    hint="wait for it to end, or end it with Ctrl-C, then run this again",
                ) from error
            yield

    def read_json(self, name: str) -> object | None:
        """Return the value kept as ``name``, None when there is none."""
        path = self.directory / name
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        try:
            value: object = json.loads(text)
        except ValueError as error:
            raise StateError(
                f"{path} is not JSON: {error}", hint=f"move it away and run again: mv {path} /tmp/"
            ) from error
        return value

    def write_json(self, name: str, value: object) -> None:
        """Keep a value as ``name``."""
        self.write_text(name, json.dumps(value, indent=1, sort_keys=True) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Keep a text as ``name`` (0600), whole or not at all; return its path."""
        path = self.directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.touch(mode=0o600)
        temporary.chmod(0o600)
        with temporary.open("w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(path)
        return path

    def owner(self) -> str:
        """Return the random id that marks hosts as made with this state, made once.

        It goes wherever the directory is copied to: whoever has the state is the owner.
        """
        path = self.directory / OWNER
        if not path.exists():
            self.write_text(OWNER, secrets.token_hex(OWNER_BYTES) + "\n")
        return path.read_text().strip()

    def forget(self) -> None:
        """Remove what belongs to a cloud that is gone; the facts of its hosts go too."""
        for path in sorted(self.directory.rglob("*"), reverse=True):
            if path.name == "lock":
                continue
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()

    def key_pair(self, name: str, local: Executor | None = None) -> tuple[Path, str, str]:
        """Return (private key's path, private text, public text) of an ed25519 key, made once."""
        path = self.directory / "ssh" / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        public = path.with_name(path.name + ".pub")
        with self._keys:
            if not (path.exists() and public.exists()):
                for stale in (path, public):
                    stale.unlink(missing_ok=True)
                command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"solostack-{name}")
                (local or LocalExecutor()).run((*command, "-f", str(path)))
        return path, path.read_text(), public.read_text()
