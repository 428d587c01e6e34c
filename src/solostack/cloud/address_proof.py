"""What is known of an address: who holds it, and how a try of it from inside and outside is judged.

Pure. Inside is the physical host that carries the block, outside the machine solostack runs on.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from solostack.cloud.reach import Reach
from solostack.errors import VerifyError
from solostack.site.model import ExternalMethod

IPv4Address = ipaddress.IPv4Address
TEST_INSTANCE = "test instance"
_INSIDE_HINT = (
    "follow the packet on the host: tcpdump -ni the external bridge host {address}; ovn-nbctl show "
    "on the controller must list it as dnat_and_snat while it is tried"
)
_OUTSIDE_HINTS = {
    ExternalMethod.ROUTED: "on the host: tcpdump -ni {nic} host {address}, then prove again. No "
    "packet comes in: ask the provider to route it to {host}. One comes in: solostack firewall "
    "shows what drops it",
    ExternalMethod.PROXY: "on the host: ip neigh show proxy must list {address}, and tcpdump -ni "
    "{nic} arp must show an answer to the provider's question for it",
    ExternalMethod.BRIDGE: "on the host: tcpdump -nei {nic} arp must show an answer to the "
    "provider's question for {address}; if it does, the provider filters MAC addresses: use proxy",
    ExternalMethod.PRIVATE: "this machine needs a route to {address} by way of {host}",
}


class Outcome(enum.StrEnum):
    """How a try ended. silent: no answer, and nothing says that there had to be one."""

    PROVEN = "proven"
    FAILED = "failed"
    SILENT = "silent"
    NOT_TRIED = "not tried"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One address tried from one side; detail is what came back, or why it was not tried."""

    outcome: Outcome
    detail: str
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One address tried. by is what answered, or should have; when is ISO 8601 in UTC."""

    address: IPv4Address
    by: str
    when: str
    inside: Try
    outside: Try

    @property
    def tries(self) -> Mapping[str, Try]:
        """Both tries by side."""
        return {"inside": self.inside, "outside": self.outside}

    @property
    def ok(self) -> bool:
        """Whether it answered from at least one side and failed from none."""
        outcomes = {one.outcome for one in self.tries.values()}
        return Outcome.PROVEN in outcomes and Outcome.FAILED not in outcomes

    @property
    def text(self) -> str:
        """The result in a few words: "proven inside+outside 2026-11-24"."""
        parts = []
        for outcome in (Outcome.FAILED, Outcome.SILENT, Outcome.PROVEN):
            sides = [side for side, one in self.tries.items() if one.outcome is outcome]
            if sides:
                parts.append(f"{outcome} {'+'.join(sides)}")
        return f"{', '.join(parts)} {self.when[:10]}" if parts else str(Outcome.NOT_TRIED)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds an address, as the cloud says.

    kind is instance, router, port (of something else) or reserved (of a project, given to
    nothing). status is an instance's; pings says whether its security groups let pings in from
    everywhere.
    """

    address: IPv4Address
    kind: str
    name: str
    project: str
    status: str
    pings: bool

    @property
    def text(self) -> str:
        """Who it is, in words."""
        if self.kind == "reserved":
            return f"nobody; reserved by project {self.project}"
        what = f"{self.kind} {self.name} (project {self.project})"
        return what if self.status in {"", "ACTIVE"} else f"{what}, {self.status}"

    @property
    def must_answer(self) -> bool:
        """Whether a ping must be answered: it runs and is allowed to."""
        return self.kind == "instance" and self.status == "ACTIVE" and self.pings


def build_holder(row: Mapping[str, Any]) -> Holder:
    """Return the holder of a row of the agent's ``address_holders``."""
    return Holder(**{**row, "address": IPv4Address(row["address"])})


def judge(reach: Reach, *, must_answer: bool) -> Try:
    """Judge what came back."""
    unanswered = Outcome.FAILED if must_answer else Outcome.SILENT
    outcome = Outcome.PROVEN if reach.done else unanswered
    return Try(outcome=outcome, detail=reach.text, seconds=reach.seconds)


def settle(inside: Try, outside: Try) -> tuple[Try, Try]:
    """Make one side's silence a failure where the other side got an answer."""
    if inside.outcome is Outcome.PROVEN and outside.outcome is Outcome.SILENT:
        return inside, dataclasses.replace(outside, outcome=Outcome.FAILED)
    if outside.outcome is Outcome.PROVEN and inside.outcome is Outcome.SILENT:
        return dataclasses.replace(inside, outcome=Outcome.FAILED), outside
    return inside, outside


def not_tried(why: str) -> Try:
    """Return a try that was not made."""
    return Try(outcome=Outcome.NOT_TRIED, detail=why)


def merge_proofs(old: Iterable[Proof], new: Iterable[Proof]) -> tuple[Proof, ...]:
    """Return the newest proof of each address; one that was not tried replaces none."""
    kept = {proof.address: proof for proof in old}
    for proof in new:
        tried = any(one.outcome is not Outcome.NOT_TRIED for one in proof.tries.values())
        if tried or proof.address not in kept:
            kept[proof.address] = proof
    return tuple(kept[address] for address in sorted(kept))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """The host that carries the block and how, for hints."""

    method: ExternalMethod
    host: str
    nic: str


def build_failure(proofs: Sequence[Proof], way: Way) -> VerifyError | None:
    """Return the error that names the addresses that should work and do not; None without."""
    bad = [
        (proof, side, one)
        for proof in proofs
        for side, one in proof.tries.items()
        if one.outcome is Outcome.FAILED
    ]
    if not bad:
        return None
    addresses = tuple(dict.fromkeys(str(proof.address) for proof, _, _ in bad))
    first = bad[0][0]
    hint = _OUTSIDE_HINTS[way.method] if bad[0][1] == "outside" else _INSIDE_HINT
    return VerifyError(
        f"{len(addresses)} of {len(proofs)} addresses do not work: {', '.join(addresses)}",
        details=[
            f"{proof.address} from {side} ({proof.by}): {one.detail}" for proof, side, one in bad
        ],
        hint=hint.format(address=first.address, host=way.host, nic=way.nic),
    )
