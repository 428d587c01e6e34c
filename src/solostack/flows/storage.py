"""`storage list` and `storage grow`: the storage node's disks, on their host and in the guest."""

from __future__ import annotations

import dataclasses
import functools
import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solostack.doors.process import Executor
from solostack.doors.progress import Progress, Step
from solostack.engine.apply import apply_bundle
from solostack.errors import ConfigureError, HostError, SiteError, SolostackError, UsageError
from solostack.flows import stages
from solostack.flows.deployment import Deployment, host_executors, make_deployment, site_state
from solostack.flows.facts import known_facts
from solostack.flows.parallel import run_together
from solostack.flows.up import open_up
from solostack.machines.domain import disk_source
from solostack.openstack import roles, storage_disks
from solostack.plan.model import DiskPlan, NodePlan
from solostack.site.edit import with_number
from solostack.site.loader import LoadedSite, parse_site
from solostack.site.model import Role

GIB = 2**30
REPORT_TIMEOUT_S = 120.0
# Prints for each path its size in bytes, and what it takes on the host; a line "-" for none.
_SIZES = """
for path in "$@"; do
    if [ -b "$path" ]; then size=$(blockdev --getsize64 "$path"); echo "$size $size"
    elif [ -e "$path" ]; then stat -c '%s %b %B' "$path" | while read -r size blocks unit; do
        echo "$size $((blocks * unit))"; done
    else echo -; fi
done
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DiskStatus:
    """A disk of the storage node.

    size_gib is the site's; on_host_bytes what the disk takes of its host (a file may be sparse);
    the guest's figures are of the thin pool or the file system. None: unknown, error says why.
    """

    name: str
    node: str
    host: str
    path: str
    kind: str
    size_gib: int
    actual_bytes: int | None
    on_host_bytes: int | None
    guest_total_bytes: int | None
    guest_used_bytes: int | None
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What `storage grow` did; applied False: only the site file changed, as nothing runs yet.

    Swift's disks are all of one size, so disks may be several.
    """

    disks: tuple[str, ...]
    old_gib: int
    new_gib: int
    file: str
    applied: bool


def list_disks(loaded: LoadedSite, progress: Progress) -> tuple[DiskStatus, ...]:
    """Ask the host and the guest about every disk; what does not answer is said in error."""
    state = site_state(loaded)
    state.create()
    facts = known_facts(state, loaded, host_executors(loaded))
    with progress.step("ask host and storage node"):
        return read_disks(make_deployment(loaded, state, facts))


def read_disks(deployment: Deployment) -> tuple[DiskStatus, ...]:
    """Return the disks of a deployment's storage node; none where it has none."""
    if not deployment.plan.has(Role.STORAGE):
        return ()
    node = deployment.plan.node(Role.STORAGE)
    paths = [disk_source(deployment.plan.site, node, disk) for disk in node.disks]
    sizes, rows = run_together(
        [
            functools.partial(_host_sizes, deployment, node, paths),
            functools.partial(_guest_rows, deployment.node(node)),
        ]
    )
    return tuple(
        _status(node, disk, path, sizes, rows) for disk, path in zip(node.disks, paths, strict=True)
    )


def _host_sizes(deployment: Deployment, node: NodePlan, paths: list[str]) -> Mapping[str, Any]:
    executor = deployment.host(node.host)
    try:
        done = executor.run(("sh", "-s", "--", *paths), stdin=_SIZES.encode())
    except SolostackError as error:
        return {"error": error.message}
    found = {}
    for path, line in zip(paths, done.text.splitlines(), strict=False):
        numbers = line.split()
        if len(numbers) == 2:
            found[path] = (int(numbers[0]), int(numbers[1]))
    return found


def _guest_rows(node: Executor) -> Mapping[str, Any]:
    try:
        done = node.run(storage_disks.REPORT, timeout_s=REPORT_TIMEOUT_S)
        return {row["name"]: row for row in json.loads(done.text)}
    except SolostackError as error:
        return {"error": f"{node.name} does not answer: {error.message}"}
    except ValueError:
        return {"error": f"{node.name} does not know its disks yet: solostack up"}


def _status(
    node: NodePlan, disk: DiskPlan, path: str, sizes: Mapping[str, Any], rows: Mapping[str, Any]
) -> DiskStatus:
    actual, on_host = sizes.get(path, (None, None))
    guest = rows.get(disk.name, {})
    missing = "" if actual is not None else f"{path} is not there"
    return DiskStatus(
        name=disk.name,
        node=node.name,
        host=node.host,
        path=path,
        kind="file" if disk.volume_group is None else "LVM volume",
        size_gib=disk.size_gib,
        actual_bytes=actual,
        on_host_bytes=on_host,
        guest_total_bytes=guest.get("total_bytes"),
        guest_used_bytes=guest.get("used_bytes"),
        error=str(sizes.get("error") or missing or guest.get("error") or rows.get("error") or ""),
    )


def grow(loaded: LoadedSite, name: str, size_gib: int, progress: Progress) -> Growth:
    """Make a disk larger: in the site file, on the host, and in the guest that uses it.

    A run that was stopped goes on when it is made again: what the file says already is not
    written again, only brought about. Raises UsageError for a disk that is not there, or a smaller
    size; HostError when the host has no room; SiteError when the file cannot be changed;
    ConfigureError when the guest does not grow into what the host gave it.
    """
    state = site_state(loaded)
    state.create()
    facts = known_facts(state, loaded, host_executors(loaded))
    before = make_deployment(loaded, state, facts)
    disk = _find(before, name)
    _require_larger(disk, size_gib)
    grown = _grown(loaded, disk, size_gib)
    after = make_deployment(grown, state, facts)
    _require_room(before, after)
    if grown.text != loaded.text:
        _replace_file(loaded.path, grown.text)
    names = tuple(
        sorted(each.name for each in _disks(after) if _service(each.name) == _service(name))
    )
    return Growth(
        disks=names,
        old_gib=disk.size_gib,
        new_gib=size_gib,
        file=str(loaded.path),
        applied=_apply(grown, names, progress),
    )


def _disks(deployment: Deployment) -> tuple[DiskPlan, ...]:
    plan = deployment.plan
    return plan.node(Role.STORAGE).disks if plan.has(Role.STORAGE) else ()


def _find(deployment: Deployment, name: str) -> DiskPlan:
    disks = {disk.name: disk for disk in _disks(deployment)}
    if name not in disks:
        known = ", ".join(disks) or "none: the site has no storage"
        raise UsageError(
            f"there is no disk {name}; there are: {known}", hint="solostack storage list"
        )
    return disks[name]


def _service(name: str) -> str:
    return name.rstrip("0123456789")


def _require_larger(disk: DiskPlan, size_gib: int) -> None:
    if size_gib < disk.size_gib:
        raise UsageError(
            f"disk {disk.name} has {disk.size_gib} GiB and cannot shrink to {size_gib}",
            details=("what is on it may lie beyond the new end",),
            hint=f"give a size above {disk.size_gib}",
        )


def _grown(loaded: LoadedSite, disk: DiskPlan, size_gib: int) -> LoadedSite:
    """Return the site with the new size; Swift's disks are all of one size."""
    if size_gib == disk.size_gib:
        return loaded
    service = _service(disk.name)
    try:
        text = with_number(loaded.text, ("storage", service, "size_gib"), size_gib)
    except KeyError as error:
        raise SiteError(
            f"{loaded.path}: the size of storage.{service} cannot be set there",
            hint=f"write storage: {{{service}: {{size_gib: {size_gib}}}}} yourself, then: "
            "solostack up",
        ) from error
    return parse_site(text, loaded.path)


def _require_room(before: Deployment, after: Deployment) -> None:
    """Raise HostError where a volume group of the host has not enough left for what is new.

    For files the plan itself has the rule.
    """
    old = {disk.name: disk.size_gib for disk in _disks(before)}
    more: dict[str, int] = {}
    for disk in _disks(after):
        if disk.volume_group is not None:
            added = disk.size_gib - old.get(disk.name, 0)
            more[disk.volume_group] = more.get(disk.volume_group, 0) + added
    for group, needed_gib in more.items():
        host = after.host(after.plan.node(Role.STORAGE).host)
        command = ("vgs", "--noheadings", "--nosuffix", "--units", "b", "-o", "vg_free", group)
        free = int(host.run(command).text.strip()) if needed_gib else 0
        if free < needed_gib * GIB:
            raise HostError(
                f"{host.name}: volume group {group} has {free / GIB:.1f} GiB left, "
                f"{needed_gib} GiB are needed",
                hint=f"on the host: vgextend {group} DEVICE",
            )


def _replace_file(path: Path, text: str) -> None:
    """Write the site file whole or not at all, with the mode it has."""
    real = path.resolve()
    beside = real.with_name(f".{real.name}.new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.chmod(stat.S_IMODE(real.stat().st_mode))
        beside.replace(real)
    except OSError as error:
        raise SiteError(
            f"cannot write the site file {path}: {error.strerror}",
            hint="make it and its folder writable, then run the same command again",
        ) from error


def _tell_node(deployment: Deployment, node: NodePlan, step: Step) -> None:
    """Apply what of the node's desired state is about its disks; the rest is for `up`."""
    bundle = deployment.node_bundle(node)
    phases = tuple(phase for phase in bundle.phases if phase.name == roles.DISKS_PHASE)
    about_disks = dataclasses.replace(bundle, phases=phases)
    apply_bundle(deployment.node(node), about_disks, deployment.secrets(), step=step)


def require_grown(node: Executor, names: Sequence[str]) -> None:
    """Have a storage node grow into its disks, and see that it did; ConfigureError if not.

    Its unit does not fail for a disk that is too small, and does not run again after it gave up
    waiting: at a boot that would keep the other disks' services waiting. So it is asked here.
    """
    timeout_s = float(storage_disks.START_TIMEOUT_S)
    done = node.run(storage_disks.ENSURE, timeout_s=timeout_s, check=False)
    rows = _guest_rows(node)
    unknown = {"error": rows.get("error") or "the node does not know it yet"}
    errors = {name: rows.get(name, unknown)["error"] for name in names}
    wrong = [f"{name}: {error}" for name, error in errors.items() if error]
    if done.status == 0 and not wrong:
        return
    said = done.stderr.decode("utf-8", "replace").splitlines()
    raise ConfigureError(
        f"{node.name}: not grown inside the node: {', '.join(names)}; on the host it is done",
        details=(*wrong, *said),
        hint="run the same command again, it goes on. If the node sees the old size even then, on "
        f"its host: virsh shutdown {node.name}; once it is off, the same command starts it",
    )


def _apply(grown: LoadedSite, names: Sequence[str], progress: Progress) -> bool:
    """Bring the disks to their size on host and guest; False where no storage node was made yet."""
    with open_up(grown) as run:
        deployment = run.deployment
        node = deployment.plan.node(Role.STORAGE)
        with progress.step("grow") as step:
            run.require_ours()
            if not stages.is_seeded(deployment, node):
                return False
            with step.step("disks on the host") as part:
                stages.start(deployment, node, part)
                stages.wait(deployment, node, roles.node_ports(deployment.plan, node.role), part)
            with step.step("inside the storage node") as part:
                _tell_node(deployment, node, part)
            # What disks take is not for instances; nova-compute is told.
            with step.step("compute hosts") as part:
                for host in deployment.plan.hosts:
                    stages.apply_compute(deployment, host, part)
        run.keep_growth()
        # Last: what the host gave is given, so everybody else has been told of it before.
        with progress.step("look inside the storage node"):
            require_grown(deployment.node(node), names)
    return True
