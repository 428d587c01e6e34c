"""The plan that nodes were made from, kept in the state to compare the next one with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from solostack.errors import SiteError
from solostack.flows.state import State
from solostack.plan.diff import Change, ChangeKind, diff
from solostack.plan.model import Plan
from solostack.plan.serial import from_json, to_data
from solostack.site.model import Role

APPLIED_PLAN = "plan.json"

# What is part of disks, of the database or of addresses that all machines were told.
_FIXED = re.compile(
    r"site|release|region"
    r"|nodes|nodes\[[^]]*\](\.(runtime|uuid|disk_gib|host|address)\b.*)?"
    r"|nodes\[[^]]*\]\.interfaces\b(?!\[[^]]*\]\.bridge$).*"
    r"|hosts|hosts\[[^]]*\]\.name"
    r"|data\.network"
    r"|external\.(method|bridge|transit)"
    r"|nodes\[[^]]*\]\.disks\[[^]]*\]\.volume_group"
    r"|storage\.cinder\.backend"
    r"|directory\.(provider|domain|suffix)"
)
_DISK = re.compile(r"nodes\[[^]]*\]\.disks\[[^]]*\]")
_DISK_SIZE = re.compile(rf"{_DISK.pattern}\.size_gib")
# What a larger disk changes: itself, the site's word for it, and what is not for instances.
_GROWTH = re.compile(
    rf"{_DISK_SIZE.pattern}|storage\.[a-z]+\.size_gib|hosts\[[^]]*\]\.reserved_disk_mib"
)
_HOST = re.compile(r"hosts\[[^]]*\]")
_LATER_NODE = re.compile(rf"nodes\[({Role.STORAGE}|{Role.DIRECTORY})\]")


def keep_applied_plan(state: State, plan: Plan) -> None:
    """Remember that plan is what is there now."""
    state.write_json(APPLIED_PLAN, to_data(plan))


def applied_plan(state: State) -> Plan | None:
    """Return the plan kept last, None where there is none. StateError when it cannot be read."""
    value = state.read_json(APPLIED_PLAN)
    return None if value is None else from_json(Plan, json.dumps(value))


def changes_since_applied(state: State, plan: Plan) -> tuple[Change, ...] | None:
    """Return what plan would change; None where nothing was ever applied."""
    applied = state.read_json(APPLIED_PLAN)
    wanted = to_data(plan)
    if not isinstance(applied, dict) or not isinstance(wanted, dict):
        return None
    return diff(applied, wanted)


def impossible_changes(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return those of the changes that cannot be made to a cloud that is there.

    A host may be added, and a storage or directory node. A host that is taken out would keep its
    instances and all that was changed on it. A disk may be added and grow; what is on it would not
    outlive less.
    """
    return tuple(
        change
        for change in changes
        if (_FIXED.fullmatch(change.path) and not _is_later_node(change))
        or (_HOST.fullmatch(change.path) and change.kind is ChangeKind.REMOVED)
        or (_DISK.fullmatch(change.path) and change.kind is ChangeKind.REMOVED)
        or (_DISK_SIZE.fullmatch(change.path) and not _is_growth(change))
    )


def only_growth(changes: Iterable[Change]) -> bool:
    """Return whether changes are nothing but disks that get larger."""
    return all(_GROWTH.fullmatch(change.path) and _is_growth(change) for change in changes)


def _is_growth(change: Change) -> bool:
    old, new = change.old, change.new
    return isinstance(old, int) and isinstance(new, int) and new > old


def _is_later_node(change: Change) -> bool:
    return change.kind is ChangeKind.ADDED and bool(_LATER_NODE.fullmatch(change.path))


def require_possible(state: State, plan: Plan) -> None:
    """Raise SiteError when plan differs from the one applied in what cannot change any more."""
    wrong = impossible_changes(changes_since_applied(state, plan) or ())
    if not wrong:
        return
    raise SiteError(
        f"{plan.site}: {len(wrong)} change(s) of the site cannot be made to a running cloud",
        details=[f"{_shown(change)}: cannot change on a running cloud" for change in wrong],
        hint="solostack down first, or put the old value back",
    )


def _shown(change: Change) -> str:
    match change.kind:
        case ChangeKind.ADDED:
            return f"{change.path} is new"
        case ChangeKind.REMOVED:
            return f"{change.path} is gone"
        case ChangeKind.CHANGED:
            return change.line().removeprefix("~ ")
