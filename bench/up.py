"""Measure the main job in a lab: stages of `up`, a second `up`, the control plane's memory.

Needs root and about 10 minutes with warm caches. The second `up` is paired with the naive way to
find out that nothing has to be done: asking for the same facts one command at a time over SSH.
Ends with status 1 when the control plane takes more than 2.5 GiB or a second `up` more than 5 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from solostack.doors.progress import Progress
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe, node_recipes
from solostack.lab.lab import Lab, Wanted

RUNTIMES = "nodes:\n  controller: {runtime: container}\n  network: {runtime: vm}\n"
ROUNDS = 5
MEMORY_LIMIT_MIB = 2560
SECOND_UP_LIMIT_S = 5.0
PSS = Path(__file__).with_name("on_host") / "pss.py"
NAIVE_QUESTIONS = ("cat /etc/nova/nova.conf", "systemctl is-active nova-compute", "ovs-vsctl show")


class Bench:
    """A lab of its own, and solostack run from the provider's end of its wire."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.site = folder / "site.yaml"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}

    def solostack(self, verb: str, *arguments: str) -> tuple[Any, float]:
        """Run a command with --json; return its value and how long it took."""
        command = (sys.executable, "-m", "solostack", verb, "-f", str(self.site), "--json")
        start_s = time.monotonic()
        done = subprocess.run(
            self.lab.upstream_argv((*command, *arguments)),
            stdout=subprocess.PIPE,
            env=self.environment,
            check=True,
        )
        return json.loads(done.stdout), time.monotonic() - start_s

    def pss_mib(self, wanted: str) -> int:
        """Return the memory of a control group or a VM on the host."""
        console = self.lab.host_executor("phys1")
        return int(console.run(("python3", "-I", "-", wanted), stdin=PSS).text)

    def naive_s(self, files: int) -> float:
        """Return how long asking one thing at a time takes, for as many things as there are."""
        host = self.lab.ssh_executor("phys1")
        start_s = time.monotonic()
        for question in NAIVE_QUESTIONS:
            host.run(("sh", "-c", question), check=False)
        return (time.monotonic() - start_s) / len(NAIVE_QUESTIONS) * files


def measure(bench: Bench) -> bool:
    """Print every figure; return whether the goals are met."""
    value, whole_s = bench.solostack("up", "--yes")
    print(f"\nup, from nothing (trees cached): {whole_s:.0f} s; verified: {value['verify']['ok']}")
    for timing in value["timings"]:
        if len(timing["path"]) <= 2:
            print(f"  {' > '.join(timing['path']):40} {timing['duration_s']:7.1f} s")
    again = sorted(bench.solostack("up", "--yes")[1] for _ in range(ROUNDS))
    median_s = again[ROUNDS // 2]
    print(f"\nup again: median {median_s:.2f} s of {ROUNDS} ({again[0]:.2f} to {again[-1]:.2f})")
    operations = 150
    naive_s = bench.naive_s(operations)
    print(f"one SSH command per operation, {operations} of them, scaled: {naive_s:.1f} s")
    print(f"ratio: {naive_s / median_s:.1f}")
    controller = bench.pss_mib("solostack-node@controller.service")
    network = bench.pss_mib("guest=network")
    print(f"\ncontroller {controller} MiB, network VM {network} MiB (with QEMU), PSS")
    print(f"control plane {controller + network} MiB, limit {MEMORY_LIMIT_MIB} MiB")
    return controller + network <= MEMORY_LIMIT_MIB and median_s <= SECOND_UP_LIMIT_S


def main() -> int:
    """Make a lab, measure, and remove the lab."""
    trees = bake_trees((*node_recipes(), lab_host_recipe()), Progress())
    lab = Lab(f"bench{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(lab, Path(folder))
        try:
            lab.up(Wanted(host_tree=Path(trees["host"]), cache=cache_home()))
            bench.site.write_text(lab.state.site_file.read_text() + RUNTIMES)
            good = measure(bench)
        finally:
            lab.down()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
