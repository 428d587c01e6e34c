"""Volumes of verify are removed, also those that were left on the way to another state."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from solostack.cloud.agent import closing, report, volumes
from solostack.cloud.agent.ensure import MARK
from solostack.cloud.agent.report import AgentError
from solostack.cloud.agent.rest import ApiError
from solostack.cloud.agent.volumes import STUCK_S, remove_volumes

UP = {"binary": "cinder-volume", "host": "storage@lvm", "state": "up", "status": "enabled"}


class Cinder:
    """Block storage as the agent sees it: deletes what is in a state that can be deleted."""

    def __init__(self, *rows: dict[str, Any], snapshots: tuple[dict[str, Any], ...] = ()) -> None:
        self.rows = [dict(row) for row in rows]
        self.snapshots = [dict(one) for one in snapshots]
        self.services = [UP]
        self.asked: list[str] = []

    def list(self, _: str, path: str, **query: str) -> list[dict[str, Any]]:
        if path == "os-services":
            return self.services
        if path == "snapshots/detail":
            return [one for one in self.snapshots if one["volume_id"] == query["volume_id"]]
        return [dict(row) for row in self.rows]

    def request(self, method: str, _: str, path: str, body: Any = None, **__: Any) -> None:
        kind, ident = path.strip("/").split("/")[:2]
        self.asked.append(
            f"{method} {kind} {ident} {body['os-reset_status']['status'] if body else ''}".strip()
        )
        there = self.snapshots if kind == "snapshots" else self.rows
        for one in there:
            if one["id"] == ident and body:
                one["status"] = body["os-reset_status"]["status"]
        if method == "DELETE":
            self.rows = [row for row in self.rows if row["id"] != ident]


def row(ident: str, status: str, age_s: float) -> dict[str, Any]:
    then = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(seconds=age_s)
    written = then.replace(tzinfo=None).isoformat()
    return {
        "id": ident,
        "name": ident,
        "status": status,
        "updated_at": written,
        "created_at": written,
    }


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.time, "sleep", lambda _: None)
    monkeypatch.setattr(volumes, "Wait", lambda limit_s: report.Wait(min(limit_s, 0.2)))


@pytest.mark.parametrize("status", ["deleting", "creating", "downloading", "detaching"])
def test_what_was_left_on_the_way_is_declared_broken_and_deleted(status: str) -> None:
    snapshots = ({"id": "s1", "volume_id": "v1", "status": "deleting"},)
    cinder = Cinder(row("v1", status, STUCK_S + 60), snapshots=snapshots)
    remove_volumes(cinder, "p", 420)  # type: ignore[arg-type]
    assert cinder.asked[:2] == ["POST snapshots s1 error", "POST volumes v1 error"]
    assert cinder.asked[-1] == "DELETE volumes v1"
    assert cinder.rows == []


def test_what_is_being_deleted_is_waited_for() -> None:
    cinder = Cinder(row("v1", "deleting", STUCK_S / 2))
    with pytest.raises(AgentError, match=r"not gone within .* v1 \(deleting\)"):
        remove_volumes(cinder, "p", 420)  # type: ignore[arg-type]
    assert cinder.asked == []


def test_without_its_service_nothing_is_waited_for() -> None:
    cinder = Cinder(row("v1", "deleting", 10))
    cinder.services = [{**UP, "state": "down"}]
    with pytest.raises(
        AgentError, match="cannot be deleted while cinder-volume on storage@lvm is down"
    ):
        remove_volumes(cinder, "p", 420)  # type: ignore[arg-type]


class Tidy:
    """A cloud with verify's project, in which there is nothing but perhaps volumes."""

    def __init__(self, volumes: list[dict[str, Any]] | None) -> None:
        self.volumes = volumes
        self.deleted: list[str] = []

    def has(self, _: str) -> bool:
        return True

    def list(self, service: str, path: str, **_: str) -> list[dict[str, Any]]:
        if path == "projects":
            return [{"id": "p", "name": "verify", "domain_id": "default", "description": MARK}]
        if service != volumes.SERVICE:
            return []
        if self.volumes is None:
            raise ApiError("no answer", status=503)
        return self.volumes

    def delete(self, _: str, path: str) -> None:
        self.deleted.append(path)


@pytest.mark.parametrize(
    ("there", "stays"), [([], False), ([row("a", "deleting", 1)], True), (None, True)]
)
def test_a_project_whose_volumes_are_kept_goes_only_without_any(
    there: list[dict[str, Any]] | None, *, stays: bool
) -> None:
    cloud = Tidy(there)
    closing.clean_project(cloud, "verify", 1, report.Changes(), keep_volumes=True)  # type: ignore[arg-type]
    assert (cloud.deleted == []) is stays


class Scheduler:
    """What Cinder's scheduler has heard of room, look by look; the last answer stays."""

    def __init__(self, *answers: float | None) -> None:
        self.answers = list(answers)

    def get(self, *_: str, **__: str) -> dict[str, Any]:
        free = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        room = {"total_capacity_gb": 4.0, "free_capacity_gb": free, "provisioned_capacity_gb": 0}
        return {"pools": [] if free is None else [{"name": "lvm", "capabilities": room}]}


@pytest.mark.parametrize(
    ("answers", "ok", "told"),
    [
        ((None, None, 4.0), True, "lvm: 4.0 of 4.0 GiB free"),
        ((0.5, 4.0), False, "lvm: 0.5 of 4.0 GiB free"),
        ((None,), False, "knows of no place"),
    ],
)
def test_room_is_waited_for_until_the_scheduler_has_heard_of_any(
    answers: tuple[float | None, ...], *, ok: bool, told: str
) -> None:
    one = report.Finding("room for volumes")
    volumes._check_room(Scheduler(*answers), one, 1)  # type: ignore[arg-type]
    assert one.ok is ok
    assert told in one.detail
