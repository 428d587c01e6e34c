"""Switching simulated hosts on and off, entering them, and pulling their cables."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from solostack.doors.clock import Clock, Deadline
from solostack.doors.process import Executor, start_daemon
from solostack.errors import LabError
from solostack.lab.processes import (
    Process,
    container_leader,
    control_group,
    own_line,
    processes_in_group,
    processes_in_namespace,
    processes_with_argument,
)
from solostack.lab.spec import host_namespace, upstream_namespace
from solostack.lab.state import HostState

POWER_OFF_S = 30.0
_POLL_S = 0.05
_GROUPS = Path("/sys/fs/cgroup")
# What a login shell of root starts with on Debian (login.defs, ENV_SUPATH).
_HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A command that only entered the namespaces would stay outside of the host's control groups, and
# libvirt or systemd-nspawn started by it would look for theirs in the wrong place.
_JOIN = 'echo $$ 2>/dev/null >"$1/cgroup.procs" || :; shift; exec "$@"'


def supply_processes(state: HostState) -> tuple[Process, ...]:
    """Return the host's power supply: its boot script and the systemd-nspawn that it runs."""
    return (
        *processes_with_argument(str(state.boot_script)),
        *processes_with_argument(f"--directory={state.root}"),
    )


def switch_on(state: HostState) -> bool:
    """Start the host's power supply unless it runs; return whether that was needed."""
    if supply_processes(state):
        return False
    start_daemon(("sh", str(state.boot_script)), log=state.console, environment={})
    return True


def cut_power(lab: str, host: str, state: HostState, local: Executor, clock: Clock) -> int:
    """End everything of a host at once, its network included; return how many processes that were.

    Raises LabError when something of it does not end.
    """
    namespace = host_namespace(lab, host)
    deadline = Deadline.after(clock, POWER_OFF_S)
    ended: set[int] = set()
    while victims := _host_processes(namespace, state):
        if deadline.passed():
            raise LabError(
                f"{host} of lab {lab} cannot be switched off",
                details=[f"process {victim.pid}: {' '.join(victim.argv)}" for victim in victims],
                hint="see why these processes do not end",
            )
        for victim in victims:
            victim.send(signal.SIGKILL)
        ended |= {victim.pid for victim in victims}
        clock.sleep(_POLL_S)
    local.run(("ip", "-n", upstream_namespace(lab), "link", "delete", host), check=False)
    local.run(("ip", "netns", "delete", namespace), check=False)
    _remove_groups(namespace, clock)
    return len(ended)


def control_groups(namespace: str) -> tuple[Path, ...]:
    """Return the control group directories that there are of a host."""
    candidates = (
        _GROUPS / namespace,
        _GROUPS / "unified" / namespace,
        _GROUPS / "systemd" / namespace,
        _GROUPS / "machine.slice" / f"{namespace}.scope",
    )
    return tuple(path for path in candidates if path.is_dir())


def enter_host(lab: str, host: str) -> tuple[str, ...]:
    """Return the command prefix that runs the rest as root inside a running host.

    This is the host's console, so it works with the cable pulled. Raises LabError when it is off.
    """
    leader = container_leader(host_namespace(lab, host))
    if leader is None:
        hint = f"switch it on: solostack lab start {host} --name {lab}"
        raise LabError(f"{host} of lab {lab} is off", hint=hint)
    unified = _GROUPS / "unified" if (_GROUPS / "unified").is_dir() else _GROUPS
    group = unified / control_group(leader.pid).lstrip("/")
    inside = {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "LANG": "C.UTF-8",
        "PATH": _HOST_PATH,
        "TERM": os.environ.get("TERM", "dumb"),
    }
    return (
        *("sh", "-c", _JOIN, "sh", str(group)),
        *("nsenter", f"--target={leader.pid}", "--all", "--"),
        *("env", "--ignore-environment", "--chdir=/root"),
        *(f"{key}={value}" for key, value in inside.items()),
    )


def _host_processes(namespace: str, state: HostState) -> list[Process]:
    """Everything of a host, the supply first so that nothing is started again."""
    found = [
        *supply_processes(state),
        # An `ip netns add` of the boot script may have outlived it for a moment.
        *processes_with_argument(namespace),
        *processes_in_namespace(namespace),
        *(process for group in control_groups(namespace) for process in processes_in_group(group)),
    ]
    spared = own_line()
    unique = {process.pid: process for process in found if process.pid not in spared}
    return list(unique.values())


def _remove_groups(namespace: str, clock: Clock) -> None:
    deadline = Deadline.after(clock, POWER_OFF_S)
    while groups := control_groups(namespace):
        for group in groups:
            _remove_group(group)
        if deadline.passed():
            details = [str(group) for group in groups]
            raise LabError(f"the control groups of {namespace} stay busy", details=details)
        if control_groups(namespace):
            clock.sleep(_POLL_S)


def _remove_group(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            Path(directory).rmdir()
        except OSError:
            # Its last process is not quite gone; the caller tries again.
            return
