"""Where a lab is written down: its directory, the files in it, and the lock on it.

The spec is written before anything is made, so that whatever a crash leaves can be found again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from solostack.doors.clock import Clock, Deadline
from solostack.errors import LabError
from solostack.lab.spec import LabSpec, check_name, dump, load

LOCK_WAIT_S = 60.0
_LOCK_POLL_S = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class LabState:
    """The paths of one lab. Making the object touches nothing."""

    name: str
    directory: Path

    @property
    def spec_file(self) -> Path:
        """The lab's spec; exists from before the first namespace until after the last."""
        return self.directory / "lab.json"

    @property
    def key(self) -> Path:
        """The private key that opens every host of the lab."""
        return self.directory / "key"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys, in OpenSSH's known_hosts format."""
        return self.directory / "known_hosts"

    @property
    def site_file(self) -> Path:
        """A site file for this lab."""
        return self.directory / "site.yaml"

    def host(self, name: str) -> HostState:
        """Return the paths of one host."""
        return HostState(self.directory / "hosts" / name)

    def read(self) -> LabSpec | None:
        """Return the spec, or None when there is no such lab."""
        try:
            return load(self.spec_file.read_text())
        except FileNotFoundError:
            return None

    def write(self, spec: LabSpec) -> None:
        """Write the spec so that a crash leaves the old text or the new one, never half."""
        write_atomically(self.spec_file, dump(spec))


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """The paths of one simulated host."""

    directory: Path

    @property
    def root(self) -> Path:
        """Where the host's root is mounted, in a mount namespace of its own only."""
        return self.directory / "root"

    @property
    def upper(self) -> Path:
        """Everything of the host's root that differs from its tree."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        """What overlayfs needs beside upper."""
        return self.directory / "work"

    @property
    def var(self) -> Path:
        """The host's /var: a real directory, because overlays in the host cannot lie on one."""
        return self.directory / "var"

    @property
    def nodes(self) -> Path:
        """Where copies of device nodes are mounted, in the host's mount namespace only."""
        return self.directory / "dev"

    @property
    def host_key(self) -> Path:
        """The private key of the host's sshd, made by us so that it is known beforehand."""
        return self.directory / "ssh_host_ed25519_key"

    @property
    def boot_script(self) -> Path:
        """The script that is the host's power supply."""
        return self.directory / "boot.sh"

    @property
    def console(self) -> Path:
        """What the host prints while it boots."""
        return self.directory / "console.log"

    @property
    def unplugged(self) -> Path:
        """Exists while the host's cable is pulled."""
        return self.directory / "unplugged"

    @property
    def prepared(self) -> Path:
        """Exists once the host's directories are complete."""
        return self.directory / "prepared"


def labs_home() -> Path:
    """Return the directory of all labs: $SOLOSTACK_LAB_HOME, or below ~/.local/state."""
    override = os.environ.get("SOLOSTACK_LAB_HOME")
    return Path(override) if override else Path.home() / ".local/state/solostack/labs"


def lab_state(name: str, home: Path | None = None) -> LabState:
    """Return the paths of the lab called name; raises LabError for an impossible name."""
    directory = (home or labs_home()).absolute() / check_name(name)
    # mount(8) separates overlay options by commas and lower directories by colons.
    if any(character in str(directory) for character in ",:\\ \n'\""):
        raise LabError(
            f"labs cannot live in {directory}: overlay mounts forbid some of its characters",
            hint="set SOLOSTACK_LAB_HOME to a plainer path",
        )
    return LabState(name, directory)


def list_labs(home: Path | None = None) -> tuple[str, ...]:
    """Return the names of the labs that are there, sorted."""
    return tuple(sorted(path.parent.name for path in (home or labs_home()).glob("*/lab.json")))


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file by a new one with that text and mode."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w") as file:  # noqa: PTH123 (a descriptor, for the mode)
        file.write(text)
    temporary.chmod(mode)
    temporary.replace(path)


@contextlib.contextmanager
def locked(state: LabState, clock: Clock) -> Iterator[None]:
    """Hold the lab against other processes; makes its directory.

    Raises LabError when somebody else keeps it for LOCK_WAIT_S.
    """
    deadline = Deadline.after(clock, LOCK_WAIT_S)
    while True:
        state.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(state.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _try_lock(descriptor, state.directory):
                yield
                return
        finally:
            os.close(descriptor)
        if deadline.passed():
            raise LabError(
                f"another solostack is working on lab {state.name}",
                hint="wait for it to end, or stop it, then try again",
            )
        clock.sleep(_LOCK_POLL_S)


def _try_lock(descriptor: int, directory: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # `lab down` removes the directory while it holds the lock: ours may be of a dead one.
        return os.path.samestat(os.fstat(descriptor), directory.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
