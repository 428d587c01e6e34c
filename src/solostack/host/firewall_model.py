"""What a host's firewall is made of: ways, chains and rules, as values. Pure."""

from __future__ import annotations

import dataclasses
import enum


class Way(enum.StrEnum):
    """Which packets a rule is about, in the order in which they are shown."""

    OUTSIDE = "outside"
    WIRE = "wire"
    INSTANCES = "instances"
    DATA = "data"
    OUTWARD = "outward"
    ARP = "arp"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A base chain of a table of ours; its policy is to accept."""

    family: str
    name: str
    hook: str


PREROUTING = Chain(
    family="inet", name="prerouting", hook="type filter hook prerouting priority raw"
)
PUBLISH = Chain(family="inet", name="publish", hook="type nat hook prerouting priority dstnat")
PUBLISH_LOCAL = Chain(
    family="inet", name="publish_local", hook="type nat hook output priority -100"
)
INPUT = Chain(family="inet", name="input", hook="type filter hook input priority filter")
FORWARD = Chain(family="inet", name="forward", hook="type filter hook forward priority filter")
POSTROUTING = Chain(
    family="inet", name="postrouting", hook="type nat hook postrouting priority srcnat"
)
LEAVING = Chain(family="inet", name="leaving", hook="type filter hook postrouting priority 110")
"""After srcnat (100): what is not rewritten by then leaves as it is."""
ARP_INPUT = Chain(family="arp", name="input", hook="type filter hook input priority filter")
ARP_OUTPUT = Chain(family="arp", name="output", hook="type filter hook output priority filter")
BRIDGE_FORWARD = Chain(
    family="bridge", name="forward", hook="type filter hook forward priority filter"
)
BRIDGE_INPUT = Chain(family="bridge", name="input", hook="type filter hook input priority filter")
BRIDGE_OUTPUT = Chain(
    family="bridge", name="output", hook="type filter hook output priority filter"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: nftables' match and verdict, and in words what it is about (not the verdict)."""

    chain: Chain
    way: Way
    match: str
    verdict: str
    words: str

    @property
    def comment(self) -> str:
        """What nftables keeps with the rule (at most 128 bytes), so that the host can tell."""
        return f"{self.way}: {self.words}"
