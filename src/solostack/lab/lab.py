"""One lab: bring it up, look at it, break its hosts, take it down."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from solostack.doors.clock import Clock, Deadline, SystemClock
from solostack.doors.process import Completed, Executor, LocalExecutor, OnLine, PrefixExecutor
from solostack.doors.progress import Progress, Step
from solostack.doors.ssh import SshExecutor, SshTarget
from solostack.errors import CommandError, ConnectError, LabError
from solostack.lab.power import cut_power, enter_host, supply_processes, switch_on
from solostack.lab.prepare import ensure_key, ensure_prepared, write_access
from solostack.lab.processes import container_leader
from solostack.lab.remains import end_interrupted_work, remove_lab
from solostack.lab.spec import (
    LabHost,
    LabSpec,
    Provider,
    host_namespace,
    upstream_namespace,
)
from solostack.lab.state import lab_state, locked
from solostack.lab.upstream import ensure_upstream, enter_upstream, read_violations

DEFAULT_NAME = "demo"
# Measured: 3 s until sshd answers; the rest is for a machine that builds something meanwhile.
BOOT_S = 120.0
# Services that wait for a configuration of theirs keep systemd in "starting" for ever: a boot in
# which no job ends for so long has settled.
SETTLE_S = 3.0
REBOOT_S = 180.0
_POLL_S = 0.2
_TOOLS = (
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("setsid", "util-linux"),
    ("sysctl", "procps"),
)


class HostCondition(enum.StrEnum):
    """What can be told of a host from outside. on: its system runs; booting: not yet reachable."""

    ON = "on"
    BOOTING = "booting"
    OFF = "off"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """One host at a glance. system is what ``systemctl is-system-running`` says in it.

    violations counts the frames with a foreign source that the provider's switch took from it;
    None where the provider does not filter.
    """

    name: str
    address: str
    condition: HostCondition
    system: str
    plugged: bool
    pid: int | None
    violations: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabStatus:
    """A lab at a glance."""

    name: str
    provider: Provider
    directory: Path
    upstream: bool
    hosts: tuple[HostStatus, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `up` is asked for; None keeps what the lab has, or takes the default."""

    host_tree: Path | None = None
    cache: Path | None = None
    hosts: int | None = None
    provider: Provider | None = None


class Lab:
    """A named lab on this machine. Making the object touches nothing."""

    def __init__(
        self,
        name: str = DEFAULT_NAME,
        *,
        home: Path | None = None,
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.state = lab_state(name, home)
        self.name = name
        self._clock = clock or SystemClock()
        self._progress = progress or Progress(self._clock)
        self._local = LocalExecutor()

    def up(self, wanted: Wanted) -> LabStatus:
        """Make the lab, or what is missing of it, and wait until every host can be entered.

        Raises LabError when this machine cannot run a lab or a host does not come up.
        """
        _check_machine()
        with locked(self.state, self._clock):
            with self._progress.step("provider") as step:
                spec = self._settle(wanted)
                self.state.write(spec)
                end_interrupted_work(self.state, self._clock)
                ensure_key(self.state.key, f"solostack-lab-{self.name}", self._local)
                step.say(f"namespace {upstream_namespace(self.name)}")
                ensure_upstream(spec, self._local)
            with self._progress.step("hosts") as step:
                for host in spec.hosts:
                    step.say(f"{host.name}: preparing")
                    ensure_prepared(spec, host, self.state, self._local)
                write_access(spec, self.state)
                for host in spec.hosts:
                    switch_on(self.state.host(host.name))
                for host in spec.hosts:
                    self._wait_ready(host, step)
        return self.status()

    def needs_tree(self, wanted: Wanted) -> bool:
        """Return whether `up` would make a host, and so needs a tree for it."""
        spec = self.state.read()
        return spec is None or (wanted.hosts or 1) > len(spec.hosts)

    def down(self) -> tuple[str, ...]:
        """Remove everything of the lab, also what a crash left; return a line for each thing."""
        with locked(self.state, self._clock), self._progress.step("removing"):
            return remove_lab(self.state, self._local, self._clock)

    def status(self) -> LabStatus:
        """Look at the lab; raises LabError when there is none."""
        spec = self.spec()
        inside = self.upstream_executor().run(("true",), check=False)
        violations = self.violations()
        return LabStatus(
            name=self.name,
            provider=spec.provider,
            directory=self.state.directory,
            upstream=inside.status == 0,
            hosts=tuple(
                dataclasses.replace(self._host_status(host), violations=violations.get(host.name))
                for host in spec.hosts
            ),
        )

    def violations(self) -> Mapping[str, int]:
        """Return how many frames with a foreign source each host has sent; see read_violations."""
        return read_violations(self.upstream_executor())

    def spec(self) -> LabSpec:
        """Return what the lab consists of; raises LabError when there is none."""
        spec = self.state.read()
        if spec is None:
            hint = f"make it: solostack lab up --name {self.name}"
            raise LabError(f"there is no lab called {self.name}", hint=hint)
        return spec

    def host_executor(self, name: str) -> Executor:
        """Return the console of a host: commands as root, also when its network is dead."""
        self.spec().host(name)
        return _Console(self.name, name, self._local)

    def upstream_executor(self) -> Executor:
        """Return an executor at the provider's end of the wire, with this machine's files."""
        return PrefixExecutor(self._local, enter_upstream(self.name), "upstream")

    def ssh_target(self, name: str) -> SshTarget:
        """Return how a host is reached over SSH from the upstream namespace."""
        host = self.spec().host(name)
        return SshTarget(
            name=host.name,
            address=str(host.address),
            key=self.state.key,
            known_hosts=self.state.known_hosts,
        )

    def ssh_executor(self, name: str) -> SshExecutor:
        """Return a host as solostack sees a real one: over SSH, from upstream."""
        return SshExecutor(self.ssh_target(name), local=self.upstream_executor())

    def host_argv(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command line that runs command on a host's console, for a terminal."""
        self.spec().host(name)
        return (*enter_host(self.name, name), *command)

    def upstream_argv(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command line that runs command in the upstream namespace."""
        self.spec()
        return (*enter_upstream(self.name), *command)

    def reboot(self, name: str) -> None:
        """Reboot a host cleanly and wait until it can be entered again."""
        with self._changing(name) as (host, step):
            leader = container_leader(host_namespace(self.name, name))
            if leader is not None:
                # systemd(1), SIGNALS: SIGRTMIN+5 starts reboot.target.
                self.host_executor(name).run(("kill", "-s", "RTMIN+5", "1"))
                self._wait_gone(host, leader.pid, step)
            switch_on(self.state.host(name))
            self._wait_ready(host, step)

    def kill(self, name: str) -> None:
        """Cut a host's power: all of its processes end at once, nothing is shut down."""
        with self._changing(name):
            cut_power(self.name, name, self.state.host(name), self._local, self._clock)

    def start(self, name: str) -> None:
        """Switch a host on, if it is off, and wait until it can be entered."""
        with self._changing(name) as (host, step):
            ensure_upstream(self.spec(), self._local)
            switch_on(self.state.host(name))
            self._wait_ready(host, step)

    def unplug(self, name: str) -> None:
        """Pull a host's cable; it stays pulled over reboots."""
        self._set_cable(name, "down")

    def plug(self, name: str) -> None:
        """Put a host's cable back."""
        self._set_cable(name, "up")

    def _settle(self, wanted: Wanted) -> LabSpec:
        """Decide what the lab is to be, from what it is and what is asked for."""
        spec = self.state.read()
        afresh = f"take it down (solostack lab down --name {self.name}), or use another --name"
        if spec is None:
            cache = (wanted.cache or Path.home() / ".cache/solostack").absolute()
            provider = wanted.provider or Provider.ROUTED
            spec = LabSpec(name=self.name, provider=provider, cache=cache, hosts=())
        if wanted.provider not in (None, spec.provider):
            raise LabError(f"lab {self.name} has a {spec.provider} provider already", hint=afresh)
        count = wanted.hosts or len(spec.hosts) or 1
        if count < len(spec.hosts):
            raise LabError(f"lab {self.name} has {len(spec.hosts)} hosts already", hint=afresh)
        if count > len(spec.hosts):
            spec = spec.with_hosts(count, _check_tree(wanted.host_tree))
        for host in spec.hosts:
            _check_tree(host.tree)
        spec.cache.mkdir(parents=True, exist_ok=True)
        return spec

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[tuple[LabHost, Step]]:
        host = self.spec().host(name)
        with locked(self.state, self._clock), self._progress.step(name) as step:
            # A shared SSH connection to the host's last life would hang until it times out.
            self.ssh_executor(name).close()
            yield host, step

    def _set_cable(self, name: str, position: str) -> None:
        with self._changing(name):
            mark = self.state.host(name).unplugged
            if position == "down":
                mark.touch()
            else:
                mark.unlink(missing_ok=True)
            # Without power there is no link to set; the boot script looks at the mark.
            argv = ("ip", "link", "set", name, position)
            self.upstream_executor().run(argv, check=False)

    def _wait_gone(self, host: LabHost, pid: int, step: Step) -> None:
        deadline = Deadline.after(self._clock, REBOOT_S)
        step.say(f"{host.name}: shutting down")
        while True:
            leader = container_leader(host_namespace(self.name, host.name))
            if leader is None or leader.pid != pid:
                return
            if deadline.passed():
                raise LabError(
                    f"{host.name} does not shut down within {REBOOT_S:.0f} s",
                    details=self._console_tail(host),
                    hint=f"cut its power: solostack lab kill {host.name} --name {self.name}",
                )
            self._clock.sleep(_POLL_S)

    def _wait_ready(self, host: LabHost, step: Step) -> None:
        """Wait until a host can be entered: over SSH, or on its console when it is unplugged."""
        state = self.state.host(host.name)
        door: Executor = self.ssh_executor(host.name)
        if state.unplugged.exists():
            door = self.host_executor(host.name)
        step.say(f"{host.name}: booting, waiting for {door.name}")
        deadline = Deadline.after(self._clock, BOOT_S)
        starts = 1
        while (reason := self._why_not_ready(host.name, door)) is not None:
            off = not supply_processes(state)
            if deadline.passed() or (off and starts == 0):
                raise LabError(
                    f"{host.name} of lab {self.name} {'went off' if off else 'does not come up'}",
                    details=[reason, *self._console_tail(host)],
                    hint=f"read {state.console}",
                )
            if off:
                # It was on its way down when it was to be switched on.
                switch_on(state)
                starts -= 1
            self._clock.sleep(_POLL_S)
        self._wait_settled(host, step)

    def _wait_settled(self, host: LabHost, step: Step) -> None:
        still = Deadline.after(self._clock, SETTLE_S)
        pending = ""
        while (system := self._system(host.name)) not in ("running", "degraded"):
            jobs = self.host_executor(host.name).run(("systemctl", "list-jobs"), check=False).text
            if jobs != pending:
                pending, still = jobs, Deadline.after(self._clock, SETTLE_S)
            if still.passed():
                break
            step.say(f"{host.name}: systemd is {system}")
            self._clock.sleep(_POLL_S)
        step.note(f"{host.name} ({host.address}): {system}")

    def _why_not_ready(self, name: str, door: Executor) -> str | None:
        try:
            door.run(("true",), timeout_s=15)
        except (ConnectError, CommandError, LabError) as error:
            return " ".join((error.message, *error.details[-1:]))
        return "it is shutting down" if self._system(name) == "stopping" else None

    def _system(self, name: str) -> str:
        try:
            argv = ("systemctl", "is-system-running")
            return self.host_executor(name).run(argv, check=False, timeout_s=20).text.strip()
        except (LabError, CommandError):
            return "unknown"

    def _host_status(self, host: LabHost) -> HostStatus:
        state = self.state.host(host.name)
        leader = container_leader(host_namespace(self.name, host.name))
        system = self._system(host.name) if leader else "off"
        condition = HostCondition.ON if leader else HostCondition.OFF
        if supply_processes(state) and system in ("unknown", "initializing", ""):
            condition = HostCondition.BOOTING
        return HostStatus(
            name=host.name,
            address=str(host.address),
            condition=condition,
            system=system,
            plugged=not state.unplugged.exists(),
            pid=leader.pid if leader else None,
        )

    def _console_tail(self, host: LabHost) -> list[str]:
        console = self.state.host(host.name).console
        return console.read_text(errors="replace").splitlines()[-15:] if console.exists() else []


class _Console:
    """A host as an executor. The way in is looked up for each command: reboots change it."""

    def __init__(self, lab: str, host: str, local: Executor) -> None:
        self._lab = lab
        self._host = host
        self._local = local

    @property
    def name(self) -> str:
        """See Executor."""
        return self._host

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Path = b"",
        timeout_s: float = 60.0,
        check: bool = True,
        on_line: OnLine | None = None,
    ) -> Completed:
        """See Executor; raises LabError when the host is off."""
        inside = PrefixExecutor(self._local, enter_host(self._lab, self._host), self._host)
        return inside.run(argv, stdin=stdin, timeout_s=timeout_s, check=check, on_line=on_line)


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it makes namespaces", hint="run it again with sudo")
    missing = sorted({package for tool, package in _TOOLS if shutil.which(tool) is None})
    if missing:
        raise LabError(
            "programs that a lab needs are missing", hint=f"apt install {' '.join(missing)}"
        )


def _check_tree(tree: Path | None) -> Path:
    if tree is None:
        raise LabError("a new host needs a tree", hint="name one: --host-tree DIRECTORY")
    tree = tree.absolute()
    if not (tree / "usr/lib/systemd/systemd").exists():
        raise LabError(
            f"{tree} is not the root of a Debian system with systemd",
            hint="bake the host tree again, or name another with --host-tree",
        )
    return tree
