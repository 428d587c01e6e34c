"""Action `verify_volumes`: volumes proved from making to deletion, and on an instance.

Everything is in verify's project, where verify_start left its instances.
"""

from __future__ import annotations

import dataclasses
import datetime
from concurrent.futures import ThreadPoolExecutor

from .ensure import MARK
from .opening import admin
from .report import AgentError, Finding, Wait, emit, finding
from .rest import ApiError, Body, Cloud, collection
from .servers import find_server, login_to, need, read_console

SERVICE = "block-storage"
NOT_THERE = 404
LEAST_FREE_GIB = 2.0
CONSOLE_PAUSE_S = 1.0
LOOKS_BEFORE_SERVICES = 20
STUCK_S = 180.0
ON_INSTANCE = "volume on an instance"
POOL_HINT = "make the disk larger: solostack storage grow cinder SIZE; or delete volumes"
VOLUME_HINT = "on the storage node: journalctl -u cinder-volume -e"


def verify_volumes(request: Body) -> Body:
    """Check the services, then make, change, copy, attach and delete volumes.

    attach_hosts are the compute hosts that can attach volumes; the user data of the instance called
    server waits for one. Each check is emitted as a finding; with a service down none is made that
    would only wait for it.
    """
    boss, limit_s = admin(request), request["timeout_s"]
    if not _check_services(boss, request["settle_s"]):
        return {}
    project = _Project(login_to(request, request["project"]), boss, limit_s)
    _, project_id = project.cloud.ids()
    with finding("room for volumes") as one:
        # What an earlier run left would take the room.
        remove_volumes(boss, project_id, limit_s)
        _check_room(boss, one, request["settle_s"])
    with ThreadPoolExecutor(max_workers=1) as pool:
        imaging = pool.submit(project.from_image, request["image"])
        volume = project.make_and_extend()
        if volume is not None:
            project.copy(volume)
        imaging.result()
    if volume is not None:
        project.on_instance(request, volume)
    with finding("volumes deleted"):
        remove_volumes(boss, project_id, limit_s)
    return {}


def volume_services(cloud: Cloud) -> list[Body]:
    """Return Cinder's services: binary, host, state (up or down), status (enabled or disabled)."""
    return [
        {key: row[key] for key in ("binary", "host", "state", "status")}
        for row in cloud.list(SERVICE, "os-services")
    ]


def pools(cloud: Cloud) -> list[Body]:
    """Return where volumes can be: name, total_gib, free_gib, promised_gib."""
    rows = cloud.get(SERVICE, "/scheduler-stats/get_pools", detail="true")["pools"]
    return [
        {
            "name": row["name"],
            "total_gib": _number(row["capabilities"].get("total_capacity_gb")),
            "free_gib": _number(row["capabilities"].get("free_capacity_gb")),
            "promised_gib": _number(row["capabilities"].get("provisioned_capacity_gb")),
        }
        for row in rows
    ]


def remove_volumes(cloud: Cloud, project_id: str, limit_s: float) -> None:
    """Delete a project's volumes with their snapshots, and wait until they are gone.

    What was asked of a broker or a service that ended before it did it stays in a state on the way
    for ever; so such volumes are declared broken, and then deleted. Raises AgentError at once when
    the service that would delete them is down.
    """
    query = {"all_tenants": "1", "project_id": project_id}
    wait = Wait(limit_s)
    while True:
        rows = cloud.list(SERVICE, "volumes/detail", **query)
        for row in rows:
            if _is_stuck(row, datetime.datetime.now(tz=datetime.UTC)):
                _declare_broken(cloud, row)
            if row["status"] not in {"deleting", "detaching"}:
                _delete(cloud, row)
        names = ", ".join(f"{row['name'] or row['id']} ({row['status']})" for row in rows)
        if not rows:
            return
        down = _down(cloud)
        if down:
            raise AgentError(
                f"cannot be deleted while {', '.join(down)} is down: volume {names}",
                hint=VOLUME_HINT,
            )
        if not wait.left(f"waiting until gone: volume {names}"):
            raise AgentError(f"not gone within {limit_s:.0f} s: volume {names}", hint=VOLUME_HINT)


def _is_stuck(row: Body, now: datetime.datetime) -> bool:
    """Return whether a volume has been on the way to another state for longer than any work."""
    changed = datetime.datetime.fromisoformat(row["updated_at"] or row["created_at"])
    age_s = (now - changed.replace(tzinfo=datetime.UTC)).total_seconds()
    return row["status"].endswith("ing") and age_s > STUCK_S


def _declare_broken(cloud: Cloud, row: Body) -> None:
    """Put a volume and its snapshots into state error, from which they can be deleted.

    What is gone by now is as good.
    """
    query = {"all_tenants": "1", "volume_id": row["id"]}
    snapshots = cloud.list(SERVICE, "snapshots/detail", **query)
    broken = [(collection("snapshots", one["id"], "action"), {"status": "error"})
              for one in snapshots if one["status"] != "available"]  # fmt: skip
    broken.append((_action(row), {"status": "error", "attach_status": "detached"}))
    for path, status in broken:
        try:
            cloud.request("POST", SERVICE, path, {"os-reset_status": status})
        except ApiError as error:
            if error.status != NOT_THERE:
                raise


def _delete(cloud: Cloud, row: Body) -> None:
    # A volume whose making was cut short is in no state that can be deleted: 400 until it is.
    try:
        cloud.request("DELETE", SERVICE, collection("volumes", row["id"]), params={"cascade": True})
    except ApiError as error:
        if error.status not in {400, NOT_THERE}:
            raise


def _check_services(cloud: Cloud, limit_s: float) -> bool:
    with finding("volume services up") as one:
        wait = Wait(limit_s)
        while True:
            rows = volume_services(cloud)
            bad = [f"{row['binary']} on {row['host']}" for row in rows if not _is_up(row)]
            missing = {"cinder-scheduler", "cinder-volume"} - {row["binary"] for row in rows}
            bad += sorted(missing)
            if not bad or not wait.left("waiting for " + ", ".join(bad)):
                break
        one.detail = ", ".join(f"{row['binary']} on {row['host']}" for row in rows)
        if bad:
            one.fail("down, disabled or never seen: " + ", ".join(bad))
    return not bad


def _down(cloud: Cloud) -> list[str]:
    return [f"{row['binary']} on {row['host']}" for row in volume_services(cloud)
            if not _is_up(row)]  # fmt: skip


def _is_up(row: Body) -> bool:
    return bool(row["state"] == "up" and row["status"] == "enabled")


def _check_room(cloud: Cloud, one: Finding, limit_s: float) -> None:
    """Look for room, once the scheduler has heard of any: cinder-volume tells it every 60 s.

    It may be up for that long before (backend_stats_polling_interval in cinder.conf).
    """
    wait = Wait(limit_s)
    while not (rows := pools(cloud)) and wait.left(
        "waiting until Cinder's scheduler hears of room"
    ):
        pass
    one.detail = ", ".join(
        f"{row['name']}: {row['free_gib']:.1f} of {row['total_gib']:.1f} GiB free, "
        f"{row['promised_gib']:.0f} GiB promised"
        for row in rows
    )
    if not any(row["free_gib"] >= LEAST_FREE_GIB for row in rows):
        one.fail(one.detail or "Cinder's scheduler knows of no place for volumes")


def _number(value: object) -> float:
    # "infinite" and "unknown" are what drivers say that cannot tell.
    return float(value) if isinstance(value, int | float) else float("inf")


@dataclasses.dataclass(frozen=True)
class _Project:
    """The project that volumes are made in; boss asks what only the administrator may."""

    cloud: Cloud
    boss: Cloud
    limit_s: float

    def make_and_extend(self) -> Body | None:
        with finding("volume made and extended") as one:
            volume = self._make("verify-volume", size=1)
            self.cloud.request("POST", SERVICE, _action(volume), {"os-extend": {"new_size": 2}})
            volume = self._wait_for("volume", volume, "available")
            one.detail = f"{volume['size']} GiB on {volume.get('os-vol-host-attr:host', 'storage')}"
            if volume["size"] != 2:
                one.fail(f"it has {volume['size']} GiB after it was extended to 2")
            return volume
        return None

    def copy(self, volume: Body) -> None:
        with finding("snapshot and clone") as one:
            body = {"name": "verify-snapshot", "description": MARK, "volume_id": volume["id"]}
            answer = self.cloud.request("POST", SERVICE, "/snapshots", {"snapshot": body})
            self._wait_for("snapshot", answer["snapshot"], "available")
            clone = self._make("verify-clone", size=2, source_volid=volume["id"])
            one.detail = f"a snapshot, and a volume of {clone['size']} GiB from the volume"

    def from_image(self, image: str) -> None:
        with finding("volume from an image") as one:
            ident = need(self.cloud, "image", "images", image)["id"]
            volume = self._make("verify-from-image", size=1, imageRef=ident)
            one.detail = f"bootable: {volume['bootable']}"
            if volume["bootable"] != "true":
                one.fail("the volume made from an image is not bootable")

    def on_instance(self, request: Body, volume: Body) -> None:
        server = find_server(self.boss, request["server"], project_id=self.cloud.ids()[1])
        host = server["OS-EXT-SRV-ATTR:host"] if server is not None else ""
        if server is None or host not in request["attach_hosts"]:
            reason = (
                f"the kernel of {host} has no iSCSI initiator" if host else "there is no instance"
            )
            emit("finding", name=ON_INSTANCE, ok=False, seconds=0.0, detail=reason, skipped=True)
            return
        with finding(ON_INSTANCE) as one:
            path = collection("servers", server["id"], "os-volume_attachments")
            body = {"volumeAttachment": {"volumeId": volume["id"]}}
            self.cloud.request("POST", "compute", path, body)
            self._wait_for("volume", volume, "in-use")
            said = self._read_mark(server)
            self.cloud.delete("compute", f"{path}/{volume['id']}")
            self._wait_for("volume", volume, "available")
            one.detail = "written, read back, detached"
            if said != "yes":
                one.fail(
                    f"the instance read back something else than it wrote ({said or 'silent'})"
                )

    def _read_mark(self, server: Body) -> str:
        wait = Wait(self.limit_s, CONSOLE_PAUSE_S)
        while True:
            for line in read_console(self.cloud, server["id"]).splitlines():
                _, mark, word = line.rpartition("VERIFY volume ")
                if mark:
                    return word.strip()
            if not wait.left("waiting on the console for the volume"):
                return ""

    def _make(self, name: str, **wanted: object) -> Body:
        body = {"name": name, "description": MARK, **wanted}
        volume = self.cloud.request("POST", SERVICE, "/volumes", {"volume": body})["volume"]
        return self._wait_for("volume", volume, "available")

    def _wait_for(self, single: str, row: Body, status: str) -> Body:
        wait = Wait(self.limit_s, pause_s=0.5)
        looks = 0
        while True:
            now: Body = self.cloud.get(SERVICE, collection(f"{single}s", row["id"]))[single]
            if now["status"] == status:
                return now
            name = f"{single} {now['name']}"
            if now["status"].startswith("error"):
                raise AgentError(
                    f"{name} is in {now['status']}: {_reason(self.cloud, row)}", hint=POOL_HINT
                )
            # A service that has just gone is "up" for another minute.
            looks += 1
            if looks % LOOKS_BEFORE_SERVICES == 0:
                self._require_services(f"{name} stays {now['status']}")
            if not wait.left(f"{name} is {now['status']}"):
                raise AgentError(
                    f"{name} is {now['status']}, not {status}, after {self.limit_s:.0f} s",
                    hint=VOLUME_HINT,
                )

    def _require_services(self, problem: str) -> None:
        down = _down(self.boss)
        if down:
            raise AgentError(f"{problem}: {', '.join(down)} is down", hint=VOLUME_HINT)


def _action(volume: Body) -> str:
    return collection("volumes", volume["id"], "action")


def _reason(cloud: Cloud, row: Body) -> str:
    """Return what Cinder tells users about a failure (its messages API)."""
    said = cloud.get(SERVICE, "/messages", resource_uuid=row["id"])["messages"]
    return str(said[0]["user_message"]) if said else "Cinder gives no reason"
