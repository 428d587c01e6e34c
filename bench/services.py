"""Measure what each service of examples/full.yaml adds: time in `up` and in `verify`, memory.

Needs root and about 15 minutes with warm caches. Lanes of one step run side by side, so together
they are more than the step. Ends with status 1 when the nodes take more than 4 GiB.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from up import Bench

from solostack.doors.progress import Progress
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe, node_recipes
from solostack.lab.lab import Lab, Wanted

EXAMPLE = Path(__file__).parents[1] / "examples/full.yaml"
MEMORY_LIMIT_MIB = 4096
SHOWN_S = 0.5


def print_times(timings: Sequence[Mapping[str, Any]]) -> None:
    """Print every step and, below "configure", the lane of each service."""
    for timing in timings:
        depth = len(timing["path"]) - 1
        if timing["duration_s"] >= SHOWN_S:
            print(f"{timing['duration_s']:8.1f} s  {'  ' * depth}{timing['path'][-1]}")


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print every check of verify."""
    for check in checks:
        print(f"{check['seconds']:8.1f} s  {check['name']}")


def print_memory(bench: Bench, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Print the PSS of each node, of VMs with QEMU; return the sum in MiB."""
    total = 0
    for node in nodes:
        name = node["name"]
        wanted = f"guest={name}" if node["runtime"] == "vm" else f"solostack-node@{name}.service"
        mib = bench.pss_mib(wanted)
        total += mib
        print(f"{mib:8} MiB  {name} ({node['runtime']})")
    print(f"{total:8} MiB  all, limit {MEMORY_LIMIT_MIB}")
    return total


def measure(bench: Bench) -> bool:
    """Print every figure; return whether the nodes are as small as they should be."""
    value, whole_s = bench.solostack("up", "--yes")
    print(
        f"\nup, from nothing (trees cached): {whole_s:.0f} s; verified: {value['verify']['ok']}\n"
    )
    print_times(value["timings"])
    print("\nchecks of verify")
    print_checks(value["verify"]["checks"])
    print()
    return print_memory(bench, bench.solostack("status")[0]["nodes"]) <= MEMORY_LIMIT_MIB


def main() -> int:
    """Make a lab, measure, and remove the lab."""
    trees = bake_trees((*node_recipes(), lab_host_recipe()), Progress())
    lab = Lab(f"bench{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(lab, Path(folder))
        try:
            lab.up(Wanted(host_tree=Path(trees["host"]), cache=cache_home()))
            example = EXAMPLE.read_text()
            services = example[example.index("\nstorage:") :]
            bench.site.write_text(lab.state.site_file.read_text() + services)
            good = measure(bench)
        finally:
            lab.down()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
