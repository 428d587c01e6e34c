"""The data bridge gets another name on a running host: the texts, and what must not change."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from solostack.engine.operations import File, Step, Unit
from solostack.host import rename
from solostack.host.network import network_operations
from solostack.machines.operations import machine_bundle
from tests.unit.test_host_bundle import SITE, make_plan

CONTAINERS = SITE + "nodes: {controller: {runtime: container}, network: {runtime: vm}}\n"
RENAMED = CONTAINERS + "data: {bridge: eth1}\n"


def data_step(text: str) -> Step:
    plan = make_plan(text=text)
    return next(
        one
        for one in network_operations(plan, plan.hosts[0])
        if isinstance(one, Step) and one.name == "libvirt network data"
    )


def pick(xml: str, mac: str, wanted: str) -> str:
    """Run the program that goes to the host as it is, in this process: no process is allowed."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["-c", mac, wanted])
        patch.setattr(sys, "stdin", io.StringIO(xml))
        exec(compile(rename._CARD, "card", "exec"), {})
    return said.getvalue()


def test_the_list_of_ports_is_written_before_the_bridge_goes() -> None:
    text = rename.network_text("data", "eth1", "/etc/solostack/networks/data.xml")
    main = text[text.index("boot=") :]
    order = [main.index(word) for word in ('keep "$now"', "net-define", "net-destroy", "join")]
    assert order == sorted(order)
    assert main.index("/sys/class/net/$wanted") < main.index("net-define")
    keep = text[text.index("keep() {") : text.index("join() {")]
    assert 'mv "$kept/ports.new" "$kept/ports"' in keep


def test_a_rename_that_was_killed_is_not_done() -> None:
    step = data_step(RENAMED)
    assert "test ! -e /var/lib/solostack/rename-data\n" in step.unless
    assert "test -e /sys/class/net/eth1/bridge\n" in step.unless
    assert step.undo.endswith("rm -rf /var/lib/solostack/rename-data\n")
    assert step.when_changed == ("/etc/solostack/networks/data.xml",)


def test_a_new_name_restarts_no_node() -> None:
    before, after = make_plan(text=CONTAINERS), make_plan(text=RENAMED)
    assert after.nodes[0].interfaces[0].bridge == "eth1"
    for old, new in zip(before.nodes, after.nodes, strict=True):
        first = machine_bundle(before, old).operations()
        second = machine_bundle(after, new).operations()
        watched = {
            path
            for one in second
            if isinstance(one, Unit | Step)
            for path in (one.restart_on if isinstance(one, Unit) else one.when_changed)
        }
        changed = {
            one.path
            for one, other in zip(second, first, strict=True)
            if isinstance(one, File) and one != other
        }
        assert changed == {f"/etc/solostack/nodes/{new.name}.json"}
        assert not changed & watched
        assert [one for one in second if not isinstance(one, File)] == [
            one for one in first if not isinstance(one, File)
        ]


def test_the_picked_card_is_what_update_device_takes() -> None:
    live = """<domain><devices>
      <interface type='network'><mac address='52:54:00:00:00:01'/>
        <source network='data' portid='1-2' bridge='br-data'/><target dev='vnet0'/></interface>
      <interface type='network'><mac address='52:54:00:00:00:02'/>
        <source network='external' portid='3-4' bridge='br-external'/></interface>
    </devices></domain>"""
    picked = pick(live, "52:54:00:00:00:01", "eth1")
    assert '<source network="data" />' in picked
    assert '<target dev="vnet0" />' in picked
    assert "external" not in picked
    assert pick(live, "52:54:00:00:00:01", "br-data").strip() == ""
