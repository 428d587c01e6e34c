"""Roles that groups of the directory have in projects: the site decides about those it names."""

from __future__ import annotations

from .ensure import ensure, find_one
from .report import AgentError, Changes
from .rest import ApiError, Body, Cloud, collection

DOWN_HINT = "see whether the directory answers: solostack verify; solostack check if it is external"


def ensure_grants(cloud: Cloud, wanted: Body, changes: Changes) -> None:
    """Give the site's groups their roles in projects, and take from them those it does not name."""
    domain = domain_id(cloud, wanted["domain"])
    roles = {row["name"]: row["id"] for row in cloud.list("identity", "roles")}
    for group in wanted["groups"]:
        row = _group(cloud, domain, wanted["domain"], group["name"])
        want: set[tuple[str, str]] = set()
        if group["project"] is not None:
            if group["role"] not in roles:
                raise AgentError(
                    f"Keystone has no role {group['role']}, which group {group['name']} should "
                    "have",
                    hint="one of: " + ", ".join(sorted(roles)),
                )
            project = _project(cloud, group["project"], changes)
            want.add((project["id"], roles[group["role"]]))
        _assign(cloud, row, want, changes)


def _assign(cloud: Cloud, group: Body, want: set[tuple[str, str]], changes: Changes) -> None:
    query = {"group.id": group["id"]}
    rows = cloud.get("identity", "/role_assignments", **query)["role_assignments"]
    there = {
        (row["scope"]["project"]["id"], row["role"]["id"])
        for row in rows
        if "project" in row["scope"]
    }
    for method, pairs in (("PUT", want - there), ("DELETE", there - want)):
        for project, role in sorted(pairs):
            path = collection("projects", project, "groups", group["id"], "roles", role)
            cloud.request(method, "identity", path)
    changes.add("roles of group", group["name"], "unchanged" if want == there else "changed")


def _group(cloud: Cloud, domain: str, domain_name: str, name: str) -> Body:
    try:
        row = find_one(cloud, "identity", "groups", {"name": name, "domain_id": domain})
    except ApiError as error:
        raise AgentError(
            f"Keystone cannot read the groups of domain {domain_name}: {error.message}",
            hint=DOWN_HINT,
        ) from error
    if row is None:
        raise AgentError(
            f"there is no group {name} in domain {domain_name}",
            hint="correct directory.groups in the site file, or make the group in the directory",
        )
    return row


def domain_id(cloud: Cloud, name: str) -> str:
    """Return the id of a domain."""
    row = find_one(cloud, "identity", "domains", {"name": name})
    if row is None:
        raise AgentError(f"Keystone has no domain {name}", hint="run solostack up")
    return str(row["id"])


def _project(cloud: Cloud, name: str, changes: Changes) -> Body:
    key = {"name": name, "domain_id": "default"}
    free = {"enabled": True}
    return ensure(cloud, "identity", "projects", key=key, fixed={}, free=free, changes=changes)
