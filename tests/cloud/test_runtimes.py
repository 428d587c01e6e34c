"""The same trees the other way round: the controller as a VM, the network node as a container."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.lab.lab import Lab
from tests.cloud.conftest import Operator, make_operator

pytestmark = pytest.mark.cloud

SWAPPED = """nodes:
  controller: {runtime: vm}
  network: {runtime: container}
"""
PROGRAM = Path(__file__).with_name("bring_up_nodes.py")
BOOT_TIMEOUT_S = 1200


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    lab = Lab(f"rt{os.getpid()}")
    try:
        yield make_operator(lab, tmp_path_factory.mktemp("swapped"), SWAPPED)
    finally:
        lab.down()


def test_a_vm_controller_and_a_container_network_node_come_up(swapped: Operator) -> None:
    done = swapped.run(sys.executable, str(PROGRAM), str(swapped.site), timeout_s=BOOT_TIMEOUT_S)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    controller, network = seen["controller"], seen["network"]
    assert controller["state"] == "running"
    assert controller["greetings"]["22"].startswith("SSH-2.0-OpenSSH")
    assert "MariaDB" in controller["greetings"]["3306"]
    assert network["virtualization"] == "systemd-nspawn"
    assert network["hostname"] == "network"
    assert {"ovs-vswitchd.service", "ovn-controller.service"} <= set(network["active"])
    assert "br-ex" in network["bridges"]
