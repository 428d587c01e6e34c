"""The checks of `verify` for the storage node: its disks, objects, the shared folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from solostack.cloud.probes import Check, CheckResult
from solostack.doors.clock import Clock
from solostack.doors.process import Executor
from solostack.errors import CommandError
from solostack.plan.model import Plan
from solostack.site.model import Role

NFS_PORT = 2049
REPORT_TIMEOUT_S = 120.0
FULL_PERCENT = 95
"""Where Swift and LVM still work; Swift refuses new objects from 98 % on."""

DISKS = Check(
    name="disks of the storage node",
    hint="on node storage: systemctl restart solostack-disks; journalctl -u solostack-disks -e",
)
FULL_HINT = "delete what is not needed, or make the disk larger: solostack storage grow"
OBJECT_CHECKS = ("objects: put, get, delete", "objects: a bad token is refused")
FOLDER_CHECKS = ("shared folder answers",)


def expected_checks(plan: Plan) -> tuple[Check, ...]:
    """Return the checks that the agent makes of a site's storage; their hints come from it."""
    names: tuple[str, ...] = ()
    if plan.storage is not None and plan.storage.swift is not None:
        names += OBJECT_CHECKS
    if plan.storage is not None and plan.storage.nfs is not None:
        names += FOLDER_CHECKS
    return tuple(Check(name=name, hint="") for name in names)


def storage_request(plan: Plan) -> dict[str, Any]:
    """Build the request of `verify_storage`."""
    folder = plan.storage is not None and plan.storage.nfs is not None
    return {
        "objects": plan.storage is not None and plan.storage.swift is not None,
        "folder": {"address": str(plan.node(Role.STORAGE).data_address), "port": NFS_PORT}
        if folder
        else None,
    }


def probe_disks(executor: Executor, clock: Clock, report: Sequence[str]) -> CheckResult:
    """Ask a node how its disks are: each must be there, usable and not full.

    report is the command that prints them (openstack.storage_disks).
    """
    start_s = clock.monotonic_s()
    done = executor.run(report, timeout_s=REPORT_TIMEOUT_S, check=False)
    try:
        rows: list[Mapping[str, Any]] = json.loads(done.text)
    except ValueError as error:
        raise CommandError(
            f"{executor.name}: no report of its disks (status {done.status})",
            details=done.stderr.decode("utf-8", "replace").splitlines()[-5:],
            hint="solostack up",
            status=done.status,
        ) from error
    broken = [f"{row['name']} {row['error']}" for row in rows if row["error"]]
    full = [disk_text(row) for row in rows if not row["error"] and percent(row) >= FULL_PERCENT]
    ok = not broken and not full
    hint = DISKS.hint if broken else FULL_HINT
    return CheckResult(
        name=DISKS.name,
        ok=ok,
        seconds=clock.monotonic_s() - start_s,
        detail=", ".join((*broken, *full)) or ", ".join(disk_text(row) for row in rows),
        hint="" if ok else hint,
    )


def percent(row: Mapping[str, Any]) -> int:
    """Return how much of a disk is in use, in percent."""
    return round(100 * int(row["used_bytes"]) / max(1, int(row["total_bytes"])))


def disk_text(row: Mapping[str, Any]) -> str:
    """Return a disk in words: "swift1 4 % of 10.0 GiB"."""
    return f"{row['name']} {percent(row)} % of {int(row['total_bytes']) / 2**30:.1f} GiB"
