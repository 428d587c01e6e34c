"""Finding and removing everything a lab made, whatever state a crash left it in."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from solostack.doors.clock import Clock, Deadline
from solostack.doors.process import Executor
from solostack.errors import LabError
from solostack.lab.power import cut_power
from solostack.lab.processes import (
    NAMESPACES,
    Process,
    all_processes,
    mount_points_below,
    nested_ids,
    own_line,
    processes_in_namespace,
)
from solostack.lab.spec import host_namespace, is_of_lab, upstream_namespace
from solostack.lab.state import LabState

GRACE_S = 2.0
LAST_RESORT_S = 15.0
_POLL_S = 0.05
_GROUPS = Path("/sys/fs/cgroup")
# Programs that `up` starts with paths of the lab in their arguments; they outlive a killed `up`.
# A user's editor or pager on a log of the lab is nobody's business here.
_WORKERS = frozenset(("cp", "rm", "ssh-keygen"))
_TOOLS = _WORKERS | {"ip", "mount", "nft", "nsenter", "sh", "ssh", "unshare"}


def find_hosts(state: LabState) -> tuple[str, ...]:
    """Return the names of all hosts of which anything is left: files, namespaces, groups."""
    prefix = host_namespace(state.name, "")
    resources = [*_entries(NAMESPACES), *_entries(_GROUPS)]
    resources += [*_entries(_GROUPS / "unified"), *_entries(_GROUPS / "systemd")]
    names = {
        resource.removeprefix(prefix)
        for resource in resources
        if is_of_lab(resource, state.name) and resource != upstream_namespace(state.name)
    }
    return tuple(sorted(names | set(_entries(state.directory / "hosts"))))


def remove_lab(state: LabState, local: Executor, clock: Clock) -> tuple[str, ...]:
    """Remove everything of a lab; return a line for each thing that was there.

    Hosts are not shut down but cut off: nothing of them is kept. Raises LabError when something
    resists; running it again goes on from there.
    """
    removed = []
    stopped = end_processes(lambda: _orphans(state, _TOOLS), clock)
    for host in find_hosts(state):
        count = cut_power(state.name, host, state.host(host), local, clock)
        removed.append(f"host {host} ({count} processes)" if count else f"host {host} (was off)")
    namespace = upstream_namespace(state.name)
    stopped += end_processes(lambda: processes_in_namespace(namespace), clock)
    if stopped:
        removed.append(f"{stopped} other processes")
    if (NAMESPACES / namespace).exists():
        local.run(("ip", "netns", "delete", namespace))
        removed.append(f"namespace {namespace}")
    removed += _remove_directory(state, local)
    return tuple(removed)


def end_interrupted_work(state: LabState, clock: Clock) -> None:
    """End what a killed `up` left at work in the lab's directory; running hosts are not touched."""
    end_processes(lambda: _orphans(state, _WORKERS), clock)


def end_processes(find: Callable[[], tuple[Process, ...]], clock: Clock) -> int:
    """End the processes that find returns, politely first; return how many there were."""
    spared = own_line()
    ended: set[int] = set()
    polite = Deadline.after(clock, GRACE_S)
    last = Deadline.after(clock, LAST_RESORT_S)
    while victims := [process for process in find() if process.pid not in spared]:
        if last.passed():
            raise LabError(
                "processes of the lab do not end",
                details=[f"process {victim.pid}: {' '.join(victim.argv)}" for victim in victims],
            )
        for victim in victims:
            if polite.passed() or victim.pid not in ended:
                victim.send(signal.SIGKILL if polite.passed() else signal.SIGTERM)
        ended |= {victim.pid for victim in victims}
        clock.sleep(_POLL_S)
    return len(ended)


def _orphans(state: LabState, tools: frozenset[str]) -> tuple[Process, ...]:
    inside = f"{state.directory}/"
    namespace = upstream_namespace(state.name)
    return tuple(
        process
        for process in all_processes()
        if Path(process.argv[0]).name in tools
        and any(inside in text or text.endswith(namespace) for text in process.argv[1:])
        and len(nested_ids(process.pid)) == 1
    )


def _remove_directory(state: LabState, local: Executor) -> list[str]:
    if not state.spec_file.exists() and not any(state.directory.iterdir()):
        state.directory.rmdir()
        return []
    for point in mount_points_below(state.directory):
        local.run(("umount", "--lazy", str(point)))
    if left := mount_points_below(state.directory):
        # Removing files now would reach through the mount.
        details = [str(point) for point in left]
        raise LabError(f"mounts of lab {state.name} do not go away", details=details)
    # The spec goes last: as long as anything is left, the lab can be found.
    others = [str(path) for path in state.directory.iterdir() if path != state.spec_file]
    local.run(("rm", "-rf", "--one-file-system", "--", *others), timeout_s=600)
    state.spec_file.unlink(missing_ok=True)
    state.directory.rmdir()
    return [f"directory {state.directory}"]


def _entries(directory: Path) -> tuple[str, ...]:
    return tuple(path.name for path in directory.iterdir()) if directory.is_dir() else ()
