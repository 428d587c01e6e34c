"""The tables of ours as a host has them now: the question, and its answer to values. Pure."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any

from solostack.errors import HostError
from solostack.host.firewall_model import Rule, Way
from solostack.host.firewall_text import FAMILIES, TABLE

# One line per family; a table that is not there is an empty object. Run as root by sh.
QUESTION = (
    "command -v nft >/dev/null || { echo 'no nft on this host' >&2; exit 127; }\n"
    "nft list tables >/dev/null\n"
    f"for family in {' '.join(FAMILIES)}; do\n"
    f"    nft -j list table $family {TABLE} 2>/dev/null || echo '{{}}'\n"
    "done\n"
)


class Meaning(enum.StrEnum):
    """What a rule does with a packet that it matches."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    REWRITTEN = "rewritten"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """A rule as people are told of it. packets and bytes since it was loaded; None: not loaded."""

    family: str
    chain: str
    way: Way
    meaning: Meaning
    words: str
    packets: int | None = None
    bytes: int | None = None

    @property
    def identity(self) -> tuple[str, str, str, str, str]:
        """What is the same in the plan and on the host."""
        return (self.family, self.chain, self.way, self.meaning, self.words)


def planned_rule(rule: Rule) -> ShownRule:
    """Return a rule of the plan as it is shown."""
    return ShownRule(
        family=rule.chain.family,
        chain=rule.chain.name,
        way=rule.way,
        meaning=_meaning(rule.verdict.split()[0]),
        words=rule.words,
    )


def in_order(rules: tuple[ShownRule, ...]) -> tuple[ShownRule, ...]:
    """Order rules by the way of a packet, within one as the host tries them."""
    ways = list(Way)
    return tuple(sorted(rules, key=lambda rule: ways.index(rule.way)))


def parse_tables(text: str) -> Mapping[str, tuple[ShownRule, ...]]:
    """Read the answer: the rules of every table of ours that is there, by family.

    Raises:
        HostError: this is no answer to QUESTION.
    """
    lines = text.splitlines()
    if len(lines) != len(FAMILIES):
        raise HostError("nft did not answer as expected", details=lines[:5])
    try:
        values = [json.loads(line).get("nftables", []) for line in lines]
    except ValueError as error:
        raise HostError("nft did not answer in JSON", details=lines[:5]) from error
    return {
        family: tuple(_rules(entries))
        for family, entries in zip(FAMILIES, values, strict=True)
        if any("table" in entry for entry in entries)
    }


def _rules(entries: list[dict[str, Any]]) -> Iterator[ShownRule]:
    for entry in entries:
        rule = entry.get("rule")
        if rule is None:
            continue
        way, _, words = rule.get("comment", "").partition(": ")
        if way not in set(Way):
            continue
        statements = {key: value for each in rule["expr"] for key, value in each.items()}
        counter = statements.get("counter") or {}
        yield ShownRule(
            family=rule["family"],
            chain=rule["chain"],
            way=Way(way),
            meaning=_meaning(rule["expr"][-1].popitem()[0]),
            words=words,
            packets=counter.get("packets", 0),
            bytes=counter.get("bytes", 0),
        )


def _meaning(verdict: str) -> Meaning:
    match verdict:
        case "accept" | "notrack":
            return Meaning.ALLOWED
        case "drop":
            return Meaning.REFUSED
        case _:
            return Meaning.REWRITTEN
