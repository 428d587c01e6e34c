"""A plan fits a terminal of 80 columns, with its titles whole."""

import io

import pytest
from rich.console import Console

from solostack.cli import plan_view, render
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.model import Site


def shown(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    site = Site.model_validate(
        {
            "hosts": [{"name": "phys1", "address": "203.0.113.2", "nic": "enp1s0"}],
            "external": {"block": "198.51.100.0/28"},
        }
    )
    facts = HostFacts(
        name="phys1", cores=64, memory_mib=515000, disk_gib=900, kvm=True, openvswitch_module=False
    )
    stream = io.StringIO()
    monkeypatch.setattr(
        render, "console", lambda: Console(file=stream, width=width, highlight=False, markup=False)
    )
    plan_view.show_plan(build_plan(site, {"phys1": facts}))
    return stream.getvalue().splitlines()


def test_eighty_columns_break_no_title_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(80, monkeypatch)
    title, _, row = lines[1:4]
    assert title.split() == [
        "host", "address", "nic", "data", "KVM", "OVS", "MiB", "nodes", "MiB", "instances",
    ]  # fmt: skip
    assert row.split()[:6] == ["phys1", "203.0.113.2", "enp1s0", "172.16.0.1", "yes", "userspace"]
    assert lines[4].split()[:3] == ["node", "on", "runs"]
