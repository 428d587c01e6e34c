"""How addresses look: their use, who holds them, what was proven. Must not know how it was found.

The JSON is described in docs/addresses.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from solostack.cli import render
from solostack.plan.addresses import usable_text

if TYPE_CHECKING:
    from solostack.cloud.address_proof import Proof
    from solostack.flows.addresses import Known
    from solostack.site.model import ExternalMethod


def show_addresses(known: Sequence[Known], method: ExternalMethod, *, json: bool) -> None:
    """Show addresses by network, and how many of them a floating IP can have and were proven."""
    if json:
        render.print_json(addresses_value(known))
        return
    live = any(one.held_by is not None for one in known)
    for network, group in itertools.groupby(known, key=lambda one: one.row.network):
        render.show(f"\n{network}")
        members = tuple(group)
        tried = any(one.proof for one in members)
        columns = ("address", "use", *(["held by"] * live), *(["tried"] * tried), "why")
        render.print_table(columns, [_cells(one, live=live, tried=tried) for one in members])
    render.show(f"\n{_summary(known, method)}")


def addresses_value(known: Sequence[Known]) -> dict[str, object]:
    """Return addresses as their JSON value."""
    return {
        "addresses": [_value(one) for one in known],
        "usable": sum(one.row.usable for one in known),
        "proven": sum(one.proof is not None and one.proof.ok for one in known),
    }


def _value(one: Known) -> dict[str, object]:
    row = one.row
    return {
        "address": row.address,
        "network": row.network,
        "use": row.use,
        "usable": row.usable,
        "why": row.why,
        "held_by": one.held_by,
        "proof": None if one.proof is None else _proof_value(one.proof),
    }


def _proof_value(proof: Proof) -> dict[str, object]:
    return {
        "by": proof.by,
        "when": proof.when,
        "ok": proof.ok,
        "inside": proof.inside,
        "outside": proof.outside,
    }


def _cells(one: Known, *, live: bool, tried: bool) -> tuple[object, ...]:
    held = (one.held_by,) if live else ()
    proof = (one.proof.text if one.proof else None,) if tried else ()
    return (one.row.address, one.row.use, *held, *proof, one.row.why)


def _summary(known: Sequence[Known], method: ExternalMethod) -> str:
    usable = [one for one in known if one.row.usable]
    text = usable_text([one.row for one in known], method)
    proofs = [one.proof for one in usable if one.proof is not None]
    if not proofs:
        return text
    both = sum(one.inside.outcome == "proven" == one.outside.outcome for one in proofs)
    one_side = sum(one.ok for one in proofs) - both
    text += f"; proven from inside and outside: {both}"
    return text + (f", from one side only: {one_side}" if one_side else "")
