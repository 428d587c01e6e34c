"""Debian packages: installed without recommends and without starting their services."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from .report import UNCHANGED, Failure, Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from .commands import Commands, Result
    from .ledger import Ledger
    from .report import Reporter

POLICY = "/usr/sbin/policy-rc.d"
POLICY_SAVED = "/usr/sbin/policy-rc.d.solostack-saved"
POLICY_MARK = "# solostack: only while packages are installed"
LISTS = "/var/lib/apt/lists"
LOCK_LIMIT_S = 300
INSTALL_LIMIT_S = 1500.0
OPTIONS = (
    "-y", "-q", "--no-install-recommends",
    "-o", f"DPkg::Lock::Timeout={LOCK_LIMIT_S}",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


class Packages:
    """Runs Packages operations, one at a time (dpkg has one lock)."""

    def __init__(
        self, commands: Commands, reporter: Reporter, *, dry_run: bool, ledger: Ledger | None
    ) -> None:
        self._commands = commands
        self._reporter = reporter
        self._dry_run = dry_run
        self._ledger = ledger
        self._lock = threading.Lock()
        self._updated = False

    def install(self, operation: dict[str, Any]) -> Outcome:
        """Run a Packages operation."""
        missing = self._missing(operation["names"])
        if not missing:
            return UNCHANGED
        outcome = Outcome(changed=True, details=(f"install {' '.join(missing)}",))
        if self._dry_run:
            return outcome
        with self._lock:
            if not _has_lists():
                self._update()
            if self._ledger is not None:
                self._ledger.record_packages(self._simulate(missing))
            with quiet_services():
                self._install(missing)
        return outcome

    def remove(self, names: Sequence[str]) -> Outcome:
        """Purge those of names that are installed, unless others would have to go with them."""
        installed = sorted(set(names) - set(self._missing(names)))
        if not installed:
            return UNCHANGED
        result = self._apt("-s", "purge", *installed)
        gone = {
            line.split()[1] for line in result.output.splitlines() if line[:5] in {"Remv ", "Purg "}
        }
        others = sorted(gone - set(installed))
        if result.status != 0 or others:
            raise Failure(
                "packages installed later need them; not removed",
                others or result.tail(),
            )
        if not self._dry_run:
            self._checked(self._apt("purge", *installed), "cannot remove packages")
        return Outcome(changed=True, details=(f"remove {' '.join(installed)}",))

    def of_unit(self, unit: str) -> set[str]:
        """Return the names of the packages that a systemd unit's file came with."""
        result = self._commands.run(("dpkg-query", "-S", f"*/systemd/system/{unit}"))
        owners = [line.rpartition(": ")[0] for line in result.output.splitlines()]
        return {name.partition(":")[0] for owner in owners for name in owner.split(", ")}

    def _missing(self, names: Sequence[str]) -> list[str]:
        result = self._commands.run(
            (
                "dpkg-query",
                "-W",
                "-f",
                "${Package} ${binary:Package} ${db:Status-Status}\\n",
                *names,
            )
        )
        installed: set[str] = set()
        for line in result.output.splitlines():
            if line.endswith(" installed"):
                installed.update(line.split()[:2])
        return [name for name in names if name not in installed]

    def _simulate(self, names: Sequence[str]) -> list[str]:
        """Return every package that installing names would newly bring."""
        result = self._apt("-s", "install", *names)
        if result.status != 0 and not self._updated:
            self._update()
            result = self._apt("-s", "install", *names)
        self._checked(result, f"cannot install {' '.join(names)}")
        # A line is "Inst NAME (NEW ...)", with "[OLD]" after NAME when it is there already.
        fields = (line.split() for line in result.output.splitlines() if line.startswith("Inst "))
        return [field[1] for field in fields if not field[2].startswith("[")]

    def _install(self, names: Sequence[str]) -> None:
        result = self._apt("install", *names)
        if result.status != 0 and "dpkg --configure -a" in result.output:
            self._run("dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
            result = self._apt("install", *names)
        if result.status != 0 and not self._updated:
            self._update()
            result = self._apt("install", *names)
        self._checked(result, f"cannot install {' '.join(names)}")

    def _update(self) -> None:
        deadline = time.monotonic() + LOCK_LIMIT_S
        result = self._apt("update")
        # apt waits for dpkg's lock by itself, but not for the one of its lists.
        while "Could not get lock" in result.output and time.monotonic() < deadline:
            time.sleep(2)
            result = self._apt("update")
        self._checked(result, "cannot read the package lists (apt-get update)")
        self._updated = True

    def _apt(self, *arguments: str) -> Result:
        return self._run("apt-get", *OPTIONS, *arguments)

    def _run(self, *argv: str) -> Result:
        def tell(line: str) -> None:
            if line:
                self._reporter.emit("say", op="packages", text=line[:100])

        return self._commands.run(argv, timeout_s=INSTALL_LIMIT_S, keep=True, follow=tell)

    @staticmethod
    def _checked(result: Result, reason: str) -> None:
        if result.status != 0:
            raise Failure(reason, result.tail())


@contextlib.contextmanager
def quiet_services() -> Iterator[None]:
    """Keep packages from starting services (policy-rc.d, invoke-rc.d(8)); put back what was."""
    if os.path.lexists(POLICY):
        os.rename(POLICY, POLICY_SAVED)
    try:
        with open(POLICY, "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\n{POLICY_MARK}\nexit 101\n")
            os.fchmod(file.fileno(), 0o755)
        yield
    finally:
        restore_policy()


def restore_policy() -> None:
    """Take back what quiet_services of a killed agent left."""
    with contextlib.suppress(FileNotFoundError):
        with open(POLICY, encoding="utf-8", errors="replace") as file:
            ours = POLICY_MARK in file.read()
        if ours:
            os.unlink(POLICY)
    if os.path.lexists(POLICY_SAVED) and not os.path.lexists(POLICY):
        os.rename(POLICY_SAVED, POLICY)


def _has_lists() -> bool:
    try:
        return any(name.endswith("_Packages") or "_Packages." in name for name in os.listdir(LISTS))
    except FileNotFoundError:
        return False
