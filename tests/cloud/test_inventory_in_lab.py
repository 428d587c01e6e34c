"""The inventory's tests with a real libvirt and QEMU, and over SSH: on a host of a lab.

The host has Debian's libvirt and its own Python (3.13), which the build machine may not have.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.doors.process import Executor
from solostack.doors.progress import Progress
from solostack.flows.bake import bake_trees, cache_home, lab_host_recipe
from solostack.lab.lab import Lab, Wanted
from tests.cloud.on_host import install_on_host

pytestmark = pytest.mark.cloud

PROJECT = Path(__file__).parents[2]
SUITES = (
    "tests/host/test_halted_guests.py",
    "tests/host/test_inventory_qemu.py",
    "tests/host/test_inventory_ssh.py",
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    lab = Lab(f"inv{os.getpid()}")
    try:
        recipe = lab_host_recipe()
        tree = Path(bake_trees((recipe,), Progress())[recipe.name])
        lab.up(Wanted(host_tree=tree, cache=cache_home()))
        folder = tmp_path_factory.mktemp("inventory")
        console = lab.host_executor("phys1")
        install_on_host(console, folder)
        archive = folder / "tests.tar"
        subprocess.run(
            ["tar", "-C", PROJECT, "--exclude=__pycache__", "-cf", archive,
             "tests", "docs", "bench", "examples", "pyproject.toml"],
            check=True,
        )  # fmt: skip
        unpack = "mkdir -p /var/lib/project && tar -x -C /var/lib/project -f -"
        console.run(("sh", "-c", unpack), stdin=archive)
        yield console
    finally:
        lab.down()


@pytest.mark.parametrize("suite", SUITES)
def test_the_suite_passes_on_a_real_host(console: Executor, suite: str) -> None:
    command = (
        f"cd /var/lib/project && HOME=/root /opt/solostack/bin/python -m pytest -q -rs {suite}"
    )
    done = console.run(("sh", "-c", command), timeout_s=600, check=False)
    assert done.status == 0, done.text[-4000:]
    assert " passed" in done.text
    assert " skipped" not in done.text, done.text[-2000:]
