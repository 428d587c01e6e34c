"""Takes snapshots of a host: that of before, kept on the host, and that of after `down`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from solostack.doors.clock import Clock
from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError
from solostack.host import snapshot_owners_script, snapshot_script
from solostack.host.snapshot import (
    compare,
    count_compared,
    owners_request,
    parse_owners,
    parse_snapshot,
)
from solostack.host.snapshot_model import Comparison, Difference, Kind, Snapshot

TIMEOUT_S = 120.0
# What was just stopped may still be on its way out.
SETTLE_S = 3.0
NOT_KEPT = "no snapshot from before was kept (the cloud was made by an older solostack)"


def keep_before(executor: Executor, *, name: str) -> bool:
    """Keep the host's state as that of before, once; before anything but the mark is changed.

    Returns whether there is one now; False where changes were made without one.

    Raises:
        ConnectError: the host cannot be reached.
        HostError: it was reached and could not be looked at.
    """
    return bool(_run(executor, name, snapshot_script, "keep")["kept"] != "late")


def compare_with_before(executor: Executor, *, name: str, clock: Clock) -> Comparison:
    """Compare the host as it is now with its state of before.

    Raises:
        ConnectError: the host cannot be reached.
        HostError: it was reached and could not be looked at.
    """
    comparison = _compare(executor, name)
    if comparison.differences:
        clock.sleep(SETTLE_S)
        comparison = _compare(executor, name)
    return comparison


def take_snapshot(executor: Executor, *, name: str) -> Snapshot:
    """Return the host's state of now; errors as above."""
    return parse_snapshot(_run(executor, name, snapshot_script, "now"))


def _compare(executor: Executor, name: str) -> Comparison:
    raw = _run(executor, name, snapshot_script, "after")
    if raw["before"] is None:
        return Comparison(problem=NOT_KEPT)
    try:
        before, after = parse_snapshot(raw["before"]), parse_snapshot(raw["after"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Comparison(problem=f"the snapshot from before cannot be used: {error}")
    kept, made = frozenset(raw["installed"]), frozenset(raw["made"])
    found = compare(before, after)
    if _may_follow_from_packages(found):
        request = json.dumps(owners_request(found))
        owners = parse_owners(_run(executor, name, snapshot_owners_script, request))
        found = compare(before, after, kept_packages=kept, made=made, owners=owners)
    return Comparison(
        differences=tuple(one for one in found if not one.because),
        kept_with_packages=tuple(one for one in found if one.because),
        compared=count_compared(before, after),
    )


def _may_follow_from_packages(found: tuple[Difference, ...]) -> bool:
    return any(one.section == "packages" and one.kind is Kind.ADDED for one in found)


def _run(executor: Executor, name: str, script: ModuleType, argument: str) -> Mapping[str, Any]:
    source = Path(str(script.__file__)).read_text(encoding="utf-8")
    text = f"{source}\nmain({argument!r})\n".encode()
    try:
        done = executor.run(("python3", "-I", "-"), stdin=text, timeout_s=TIMEOUT_S)
        answer: Mapping[str, Any] = json.loads(done.text)
    except CommandError as error:
        raise HostError(
            f"{name}: the host's state could not be written down: {error.message}",
            details=error.details,
            hint=f"see that python3 works and /var/lib has room on {name}; then run it again",
        ) from error
    except ValueError as error:
        raise HostError(
            f"{name}: the answer about the host's state is not JSON: {error}",
            hint=f"log in to {name} and see what python3 -I prints besides",
        ) from error
    return answer
