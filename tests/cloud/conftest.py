"""One lab with one whole cloud for all tests of this folder, used as an operator would."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.doors.ssh import SshExecutor
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe, node_recipes
from solostack.flows.deployment import Deployment, make_deployment, site_state
from solostack.flows.facts import load_facts
from solostack.lab.lab import Lab, Wanted
from solostack.lab.spec import Provider
from solostack.site.loader import load_site

UP_TIMEOUT_S = 1500
FULL_UP_TIMEOUT_S = 2400
RUNTIMES = """nodes:
  controller: {runtime: container}
  network: {runtime: vm}
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody outside the host, at the provider's end of the wire."""

    lab: Lab
    site: Path
    state_home: Path

    def argv(self, *arguments: str) -> list[str]:
        return list(self.lab.upstream_argv(arguments))

    def environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_STATE_HOME": str(self.state_home)}

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=self.environment(),
            check=False,
        )

    def command(self, verb: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "solostack", verb, "-f", str(self.site), *arguments)

    def solostack(self, verb: str, *arguments: str, timeout_s: float = UP_TIMEOUT_S) -> Any:
        """Run one of our commands with --json; fails the test when it fails."""
        done = self.run(*self.command(verb, *arguments, "--json"), timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-3000:]
        return json.loads(done.stdout)

    def deployment(self) -> Deployment:
        """Return the site's deployment, to look at; its executors are not for here."""
        loaded = load_site(self.site)
        state = site_state(loaded, self.state_home / "solostack")
        return make_deployment(loaded, state, load_facts(state))

    def node(self, name: str) -> Executor:
        """Return a control node as solostack sees it: over SSH, through its host."""
        deployment = self.deployment()
        (node,) = (one for one in deployment.plan.nodes if one.name == name)
        return SshExecutor(deployment.node_target(node), local=self.lab.upstream_executor())


def make_operator(
    lab: Lab, folder: Path, runtimes: str, *, provider: Provider | None = None
) -> Operator:
    """Bring a lab up and write its site with these runtimes."""
    trees = bake_trees((*node_recipes(), lab_host_recipe()), Progress())
    lab.up(Wanted(host_tree=Path(trees["host"]), cache=cache_home(), provider=provider))
    folder.mkdir(exist_ok=True)
    site = folder / "site.yaml"
    site.write_text(lab.state.site_file.read_text() + runtimes)
    return Operator(lab=lab, site=site, state_home=folder / "state")


EXAMPLE = Path(__file__).parents[2] / "examples/full.yaml"


def full_site(lab: Lab) -> str:
    """Return examples/full.yaml as a site of this lab: its host is the lab's."""
    of_lab = lab.state.site_file.read_text()
    name = re.search(r"^name: .*$", of_lab, re.MULTILINE)
    nic = re.search(r"^    nic: .*\n    ssh: .*$", of_lab, re.MULTILINE)
    assert name is not None
    assert nic is not None
    text = EXAMPLE.read_text().replace("name: full", name[0], 1)
    return text.replace("    nic: enp1s0", nic[0], 1)


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The whole of examples/full.yaml, for all files of the lane `full site`.

    SOLOSTACK_FULL_LAB=NAME keeps it in that lab and takes what is there: to work on one test.
    """
    kept = os.environ.get("SOLOSTACK_FULL_LAB", "")
    lab = Lab(kept or f"full{os.getpid()}")
    try:
        folder = lab.state.directory / "full" if kept else tmp_path_factory.mktemp("full")
        site = folder / "site.yaml"
        there = site.read_text() if site.exists() else ""
        operator = make_operator(lab, folder, "")
        site.write_text(there or full_site(lab))
        value = operator.solostack("up", "--yes", timeout_s=FULL_UP_TIMEOUT_S)
        assert value.get("verify", {"ok": True})["ok"], value["verify"]
        yield operator
    finally:
        if not kept:
            lab.down()


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    lab = Lab(f"ci{os.getpid()}")
    try:
        yield make_operator(lab, tmp_path_factory.mktemp("cloud"), RUNTIMES)
    finally:
        lab.down()
