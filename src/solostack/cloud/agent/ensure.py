"""Bring one object to its wanted values: found by its key, created, changed, or left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .report import AgentError, Changes
from .rest import ApiError, Body, Cloud, collection

MARK = "made by solostack"
"""The description of everything we make; also how `close` knows what is ours."""


def is_ours(row: Mapping[str, object]) -> bool:
    """Return whether an object carries our mark."""
    return row.get("description") == MARK


def differing(row: Mapping[str, object], wanted: Mapping[str, object]) -> Body:
    """Return the wanted values that a row does not have; the order inside lists does not count."""
    return {key: value for key, value in wanted.items() if _norm(row.get(key)) != _norm(value)}


def _norm(value: object) -> object:
    if isinstance(value, list):
        return sorted((_norm(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {key: _norm(item) for key, item in value.items()}
    return value


def ensure(
    cloud: Cloud,
    service: str,
    kind: str,
    *,
    key: Mapping[str, object],
    fixed: Mapping[str, object],
    free: Mapping[str, object],
    changes: Changes,
) -> Body:
    """Make an object of Neutron or Keystone be there with the wanted values; return it.

    key finds it and is set at creation; fixed values cannot be changed later, free ones can.
    Raises AgentError when an object with the key has other fixed values, or is not ours and would
    have to be changed.
    """
    single = kind.removesuffix("s")
    name = str(key.get("name") or free.get("name", ""))
    row = find_one(cloud, service, kind, key)
    if row is None:
        wanted = {**key, **fixed, **free, "description": MARK}
        answer = cloud.request("POST", service, collection(kind), {single: wanted})
        changes.add(single, name, "created")
        return dict(answer[single])
    wrong = differing(row, fixed)
    if wrong:
        raise conflict(single, name, row, wrong)
    wrong = differing(row, free)
    if wrong and not is_ours(row):
        raise conflict(single, name, row, wrong)
    if wrong:
        method = "PATCH" if service == "identity" else "PUT"
        answer = cloud.request(method, service, collection(kind, row["id"]), {single: wrong})
        row = dict(answer[single])
    changes.add(single, name, "changed" if wrong else "unchanged")
    return row


def find_one(cloud: Cloud, service: str, kind: str, key: Mapping[str, object]) -> Body | None:
    """Return the one object with these values, None without; AgentError when several have them."""
    rows = cloud.list(service, kind, **key)
    if len(rows) > 1:
        described = ", ".join(f"{name} {value}" for name, value in key.items())
        raise AgentError(
            f"there are {len(rows)} {kind} with {described}, so it is not clear which one is meant",
            hint="delete or rename all but one: " + ", ".join(str(row["id"]) for row in rows),
        )
    return rows[0] if rows else None


def conflict(
    single: str, name: str, row: Mapping[str, object], wrong: Mapping[str, object]
) -> AgentError:
    """Build the error for an object that is in the way."""
    values = ", ".join(f"{key} is {row.get(key)} instead of {wrong[key]}" for key in sorted(wrong))
    whose = "" if is_ours(row) else " that solostack did not make"
    return AgentError(
        f"there is a {single.replace('_', ' ')} {name}{whose}: {values}",
        hint=f"rename or delete it ({row['id']}), then run solostack up again",
    )


def delete_each(
    cloud: Cloud, service: str, kind: str, rows: Sequence[Body], changes: Changes
) -> None:
    """Delete objects; those already gone do not count, those still in use are an AgentError."""
    for row in rows:
        name = str(row.get("name") or row.get("floating_ip_address") or row["id"])
        try:
            gone = cloud.delete(service, collection(kind, row["id"]))
        except ApiError as error:
            raise AgentError(
                f"cannot delete {kind.removesuffix('s')} {name}: {error.message}",
                hint="delete what uses it, then run the same command again",
            ) from error
        changes.add(kind.removesuffix("s"), name, "deleted" if gone else "gone")
