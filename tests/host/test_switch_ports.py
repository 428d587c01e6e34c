"""The script that keeps instances' ports up on a userspace switch, with real taps."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.host.switch_ports import SCRIPT_PATH, switch_ports_operations
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site
from tests.ties import TIED, network_spaces

pytestmark = pytest.mark.host

SITE = """hosts:
  - {name: phys1, address: 203.0.113.2, nic: nic0}
external: {block: 198.51.100.0/28}
"""
SOON_S = 5.0
# A port is left to libvirt for a second. Events come at once: well under the 10 s after which the
# script looks by itself.
QUIET_S = 3.5


class Space:
    """A network namespace with the script at work."""

    def __init__(self, name: str, journal: Path) -> None:
        self.name = name
        self._journal = journal

    def told(self) -> list[str]:
        """Return the names of which the script said that it set them up."""
        return [line.split()[0] for line in self._journal.read_text().splitlines()]

    def ip(self, *words: str) -> str:
        argv = ("ip", "-n", self.name, *words)
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def add_tap(self, name: str, *, taken: bool) -> None:
        """Make a tap as libvirt does; taken: the switch has it, and has overwritten "up"."""
        self.ip("tuntap", "add", name, "mode", "tap")
        if taken:
            self.ip("link", "set", name, "promisc", "on")

    def is_up(self, name: str) -> bool:
        return bool(self.ip("link", "show", name, "up"))

    def wait_until_up(self, name: str) -> None:
        end_s = time.monotonic() + SOON_S
        while not self.is_up(name):
            assert time.monotonic() < end_s, self.ip("link", "show", name)
            time.sleep(0.05)


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Space]:
    facts = HostFacts(
        name="phys1",
        cores=8,
        memory_mib=32768,
        disk_gib=500,
        kvm=False,
        openvswitch_module=False,
    )
    plan = build_plan(parse_site(SITE, Path("site.yaml")).site, {"phys1": facts})
    script, *_ = switch_ports_operations(plan.hosts[0])
    assert script.path == SCRIPT_PATH
    program = tmp_path / "switch-ports"
    program.write_text(script.content)
    name = f"solo-ports-{os.getpid()}"
    with network_spaces(name):
        journal = tmp_path / "journal"
        made = Space(name, journal)
        made.add_tap("tap-before", taken=True)
        # `ip netns exec` shows the namespace's own devices in /sys.
        argv = (*TIED, "ip", "netns", "exec", name, "bash", str(program))
        with journal.open("w") as output, subprocess.Popen(argv, stdout=output) as process:
            try:
                made.wait_until_up("tap-before")
                yield made
            finally:
                process.kill()


def test_a_port_that_the_switch_left_down_is_set_up(space: Space) -> None:
    space.add_tap("tap-new", taken=True)
    space.wait_until_up("tap-new")
    space.ip("link", "set", "tap-new", "down")
    space.wait_until_up("tap-new")
    assert space.told() == ["tap-before", "tap-new", "tap-new"]


def test_a_port_that_the_switch_takes_first_is_libvirts_to_set_up(space: Space) -> None:
    space.add_tap("tap-new", taken=True)
    time.sleep(0.5)
    assert not space.is_up("tap-new")
    space.ip("link", "set", "tap-new", "up")
    time.sleep(QUIET_S)
    assert space.told() == ["tap-before"]


def test_what_the_switch_has_not_taken_is_left_alone(space: Space) -> None:
    space.add_tap("tap-other", taken=False)
    space.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    space.ip("link", "set", "other0", "promisc", "on")
    time.sleep(QUIET_S)
    assert not space.is_up("tap-other")
    assert not space.is_up("other0")
    space.ip("link", "delete", "tap-other")
    # It goes on after a tap is gone.
    space.add_tap("tap-last", taken=True)
    space.wait_until_up("tap-last")
