"""The whole of examples/full.yaml: every service comes up, is proven, and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cloud.conftest import Operator

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

PSS = Path(__file__).parents[2] / "bench/on_host/pss.py"
MEMORY_LIMIT_MIB = 4096
NODES = {"controller", "network", "storage", "directory"}
CONTAINERS = ("controller", "network", "directory")


def test_every_node_runs(full: Operator) -> None:
    nodes = full.solostack("status")["nodes"]
    assert {(node["name"], node["system"]) for node in nodes} == {
        (name, "running") for name in NODES
    }


def test_a_second_up_has_nothing_to_do(full: Operator) -> None:
    assert full.solostack("up", "--yes") == {"pending": []}


def test_the_control_plane_stays_small(full: Operator) -> None:
    console = full.lab.host_executor("phys1")
    wanted = [f"solostack-node@{name}.service" for name in CONTAINERS] + ["guest=storage"]
    mib = {one: int(console.run(("python3", "-I", "-", one), stdin=PSS).text) for one in wanted}
    assert all(one > 50 for one in mib.values()), mib
    assert sum(mib.values()) < MEMORY_LIMIT_MIB, mib
