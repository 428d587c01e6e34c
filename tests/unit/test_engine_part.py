"""Which records of a ledger a partial undo takes back."""

from __future__ import annotations

from typing import Any

from solostack.engine.agent.part import chosen, label
from solostack.engine.bundle import Part, labels
from solostack.engine.operations import (
    Absent,
    Directory,
    File,
    Line,
    Packages,
    Step,
    Unit,
    phase,
)

WAY = ("path /lib/uplink", "step uplink", "unit uplink.service")


def ledger(*lines: str) -> list[dict[str, Any]]:
    """Records by their labels, the oldest first; ``line`` is one of a file."""
    found: list[dict[str, Any]] = []
    for number, text in enumerate(lines, 1):
        kind, _, name = text.partition(" ")
        entry: dict[str, Any] = {"id": number, "kind": kind}
        if kind == "packages":
            entry["names"] = [name]
        else:
            entry["path" if kind in {"path", "line"} else "name"] = name
        found.append(entry)
    return found


def taken(entries: list[dict[str, Any]], part: Part) -> list[int]:
    return [entry["id"] for entry in chosen(entries, part.request())]


def test_without_a_part_it_is_everything() -> None:
    entries = ledger("packages nft", *WAY)
    assert chosen(entries, None) == entries


def test_only_takes_all_records_of_its_things_wherever_they_are() -> None:
    entries = ledger("path /a", *WAY, "step compute", "line /lib/uplink", "unit uplink.service")
    assert taken(entries, Part(only=WAY)) == [2, 3, 4, 6, 7]
    # The same name of another kind is another thing.
    assert taken(ledger("unit uplink", "step uplink.service"), Part(only=WAY)) == []


def test_newer_is_what_came_after_the_oldest_but_for_the_base_and_packages() -> None:
    entries = ledger(
        "packages nft", "path /lib/guard", WAY[0], "path /etc/nova", "packages nova", WAY[1],
        "path /lib/guard.new", "step compute",
    )  # fmt: skip
    but = (*WAY, "path /lib/guard", "path /lib/guard.new")
    assert taken(entries, Part(newer_than=WAY, but=but)) == [4, 8]
    assert taken(ledger("path /a", "step b"), Part(newer_than=WAY, but=but)) == []


def test_a_directory_stays_with_what_is_in_it() -> None:
    entries = ledger(WAY[0], "path /etc/x", "path /etc/x/y", "path /etc/x/ours", "path /etc/xx")
    but = (*WAY, "path /etc/x/ours")
    assert taken(entries, Part(newer_than=WAY, but=but)) == [3, 5]
    # Not for what is undone with it.
    assert taken(entries, Part(newer_than=WAY, but=WAY)) == [2, 3, 4, 5]


def test_what_operations_are_called_is_what_the_ledger_calls_them() -> None:
    one = phase(
        "all",
        Packages(names=("nft",)),
        Directory(path="/d"),
        File(path="/d/f", content=""),
        Line(path="/d/l", line="a", match="a"),
        Absent(path="/gone"),
        Step(name="two words", run="true"),
        Unit(name="u.service"),
    )
    wanted = ["path /d", "path /d/f", "line /d/l", "path /gone", "step two words", "unit u.service"]
    assert labels([one]) == tuple(label(entry) for entry in ledger(*wanted))
