"""Which parts of a host's ledger `down` undoes before the rest, by a real host's bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from solostack.engine.agent.part import chosen, label
from solostack.engine.bundle import labels
from solostack.engine.operations import Bundle, Packages, Phase
from solostack.flows import guarded
from solostack.host import guard, uplink
from solostack.host.bundle import base_bundle
from solostack.openstack import roles
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site

FACTS = HostFacts(
    name="phys1", cores=8, memory_mib=32000, disk_gib=400, kvm=True, openvswitch_module=True
)
METHODS = {
    "routed": "block: 198.51.100.0/28",
    "proxy": "method: proxy, block: 203.0.113.16/29",
    "bridge": "method: bridge, block: 203.0.113.16/29",
    "private": "method: private, block: 192.168.100.0/28",
}


def phases(method: str) -> tuple[tuple[Phase, ...], tuple[Phase, ...]]:
    """The base's phases, and the compute host's."""
    site = parse_site(
        "name: demo\nhosts: [{name: phys1, address: 203.0.113.2, nic: eno1}]\n"
        f"external: {{{METHODS[method]}}}\n",
        Path("site.yaml"),
    ).site
    plan = build_plan(site, {"phys1": FACTS})
    (host,) = plan.hosts
    base = base_bundle(plan, host, roles.COMPUTE_PACKAGES)
    return base.phases, roles.compute_operations(plan, host)


def recorded(*made: tuple[Phase, ...]) -> list[dict[str, Any]]:
    """What the ledger holds after these were applied: the first record of each thing."""
    found: dict[str, dict[str, Any]] = {}
    for one in [each for every in made for each in every]:
        if any(isinstance(each, Packages) for lane in one.lanes for each in lane.operations):
            found.setdefault(f"packages {one.name}", {"kind": "packages", "names": [one.name]})
        for text in labels([one]):
            kind, _, name = text.partition(" ")
            found.setdefault(text, {"kind": kind, "path" if kind == "path" else "name": name})
    return [{"id": number, **entry} for number, entry in enumerate(found.values(), 1)]


def taken(entries: list[dict[str, Any]], base: tuple[Phase, ...]) -> list[list[str]]:
    """The labels that each of the three runs takes back, in its order."""
    bundle = Bundle(target="phys1", phases=base)
    left = list(entries)
    found = []
    for part in (*guarded.parts(bundle), None):
        now = chosen(left, None if part is None else part.request())
        left = [entry for entry in left if entry not in now]
        found.append([label(entry) for entry in reversed(now)])
    return found


@pytest.mark.parametrize("method", METHODS)
def test_made_in_one_go_it_is_the_order_reversed(method: str) -> None:
    base, compute = phases(method)
    entries = recorded(base, compute)
    later, way, rest = taken(entries, base)
    assert [*later, *way, *rest] == [label(entry) for entry in reversed(entries)]
    assert later
    assert way[0] == f"unit {uplink.WATCH_UNIT}"
    assert set(way) == set(labels(base[-2:]))
    assert f"path {guard.SCRIPT_PATH}" in rest


def test_what_a_later_up_added_goes_with_its_own() -> None:
    """A guard's file, the firewall and a compute host's file are new since; so is a package."""
    base, compute = phases("routed")
    new = {
        f"path {guard.AGENT_FOLDER}/look.py",
        "path /etc/solostack/firewall.nft",
        label(recorded(compute)[-1]),
    }
    first = [entry for entry in recorded(base, compute) if label(entry) not in new]
    late = [entry for entry in recorded(base, compute) if label(entry) in new]
    late.append({"kind": "packages", "names": ["new"]})
    entries = [{**entry, "id": number} for number, entry in enumerate([*first, *late], 1)]

    later, way, rest = taken(entries, base)

    assert set(way) == set(labels(base[-2:]))
    assert way[0] == "path /etc/solostack/firewall.nft"
    assert rest[:2] == ["packages ", f"path {guard.AGENT_FOLDER}/look.py"]
    assert set(later) == {label(entry) for entry in recorded(compute)} - set(labels(base))


def test_where_the_way_in_was_never_touched_all_is_one_part() -> None:
    base, _ = phases("routed")
    entries = recorded(base[:3])
    later, way, rest = taken(entries, base)
    assert later == way == []
    assert len(rest) == len(entries)
