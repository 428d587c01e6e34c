"""One lab with one whole cloud for all tests of this folder, used as an operator would."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.doors.progress import Progress
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe, node_recipes
from solostack.lab.lab import Lab, Wanted
from solostack.lab.spec import Provider

UP_TIMEOUT_S = 1500
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
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return json.loads(done.stdout)


def make_operator(
    lab: Lab, folder: Path, runtimes: str, *, provider: Provider | None = None
) -> Operator:
    """Bring a lab up and write its site with these runtimes."""
    trees = bake_trees((*node_recipes(), lab_host_recipe()), Progress())
    lab.up(Wanted(host_tree=Path(trees["host"]), cache=cache_home(), provider=provider))
    site = folder / "site.yaml"
    site.write_text(lab.state.site_file.read_text() + runtimes)
    return Operator(lab=lab, site=site, state_home=folder / "state")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    lab = Lab(f"ci{os.getpid()}")
    try:
        yield make_operator(lab, tmp_path_factory.mktemp("cloud"), RUNTIMES)
    finally:
        lab.down()
