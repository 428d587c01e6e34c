"""Which domains and disks are wanted, and in which order: pure.

Unknown values never match a filter and come last in every order, also in a descending one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from solostack.errors import UsageError
from solostack.inventory.model import DiskInfo, Machine, OwnerKind
from solostack.inventory.states import STATES, parse_state

T = TypeVar("T")
ACTIVITIES = ("active", "inactive")
_INACTIVE = frozenset(("shut off", "crashed"))

DOMAIN_KEYS: dict[str, Callable[[Machine], Any]] = {
    "name": lambda machine: machine.name,
    "id": lambda machine: getattr(machine, "id", None),
    "state": lambda machine: machine.state,
    "vcpus": lambda machine: machine.vcpus,
    "memory": lambda machine: machine.memory_kib,
    "cpu-time": lambda machine: machine.cpu_time_ns,
    "owner": lambda machine: str(machine.owner),
    "uuid": lambda machine: machine.uuid,
}
DISK_KEYS: dict[str, Callable[[DiskInfo], Any]] = {
    "domain": lambda disk: disk.domain,
    "device": lambda disk: disk.device,
    "source": lambda disk: disk.source,
    "format": lambda disk: disk.format,
    "bus": lambda disk: disk.bus,
    "kind": lambda disk: disk.kind,
    "type": lambda disk: disk.source_type,
    "capacity": lambda disk: disk.capacity_bytes,
    "allocation": lambda disk: disk.allocation_bytes,
    "physical": lambda disk: disk.physical_bytes,
}


def sort_by(items: Iterable[T], keys: dict[str, Callable[[T], Any]], order: str) -> list[T]:
    """Return items sorted by the key that order names; a leading - means descending.

    Raises UsageError for an order that is not among keys.
    """
    check_order(order, keys)
    descending = order.startswith("-")
    key = keys[order.removeprefix("-")]
    everything = list(items)
    known = [item for item in everything if key(item) is not None]
    rest = [item for item in everything if key(item) is None]
    return sorted(known, key=key, reverse=descending) + rest


def check_order(order: str, keys: Collection[str]) -> None:
    """Raise UsageError unless sort_by can use order: before anything is read from a host."""
    if order.removeprefix("-") not in keys:
        raise _unknown("--sort", order, tuple(keys))


def parse_states(texts: Iterable[str]) -> frozenset[str]:
    """Return the states that a user's words mean; raises UsageError for other words."""
    wanted: set[str] = set()
    for text in _split(texts):
        state = text if text in ACTIVITIES else parse_state(text)
        if state is None:
            raise _unknown("--state", text, (*STATES, *ACTIVITIES))
        wanted.add(state)
    return frozenset(wanted)


def parse_owners(texts: Iterable[str]) -> tuple[str, ...]:
    """Return owners, each KIND or KIND/NAME; raises UsageError for an unknown kind."""
    kinds = tuple(str(kind) for kind in OwnerKind)
    wanted = tuple(_split(texts))
    for text in wanted:
        if text.partition("/")[0] not in kinds:
            raise _unknown("--owner", text, kinds)
    return wanted


def select_machines(
    machines: Iterable[T], states: frozenset[str], owners: Sequence[str]
) -> list[T]:
    """Return the machines in one of states and of one of owners; empty means all.

    solostack/SITE means every control node of that site, solostack/SITE/NAME or nova/NAME one.
    """
    return [
        machine
        for machine in machines
        if (not states or _in_state(machine, states)) and (not owners or _owned(machine, owners))
    ]


def _in_state(machine: Any, states: frozenset[str]) -> bool:  # noqa: ANN401 (domain or node)
    if machine.state in states:
        return True
    activity = getattr(machine, "is_active", None)
    if activity is None and machine.state is not None:
        activity = machine.state not in _INACTIVE
    return activity is not None and ("active" if activity else "inactive") in states


def _owned(machine: Any, owners: Sequence[str]) -> bool:  # noqa: ANN401 (domain or node)
    name = str(machine.owner)
    return any(name == owner or name.startswith(f"{owner}/") for owner in owners)


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _unknown(option: str, text: str, choices: Sequence[str]) -> UsageError:
    nearest = difflib.get_close_matches(text, choices, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else ""
    return UsageError(
        f"{option}: {text} is none of {', '.join(choices)}",
        hint=hint or f"use one of {', '.join(choices)}",
    )
