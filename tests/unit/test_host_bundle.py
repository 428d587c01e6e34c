"""The host's desired state, by value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from solostack.engine.operations import File, Line, Packages, Step, Unit
from solostack.host import halted_guests, isolation, network, switch_ports, uplink
from solostack.host.bundle import base_bundle
from solostack.plan.build import build_plan
from solostack.plan.identity import twin_mac
from solostack.plan.model import HostFacts
from solostack.site.loader import parse_site

SITE = """hosts:
  - {name: phys1, address: 203.0.113.2, nic: enp1s0}
  - {name: phys2, address: 203.0.113.3, nic: enp2s0}
external: {block: 198.51.100.0/28}
"""


def make_plan(*, kvm=True, module=True, text=SITE):
    site = parse_site(text, Path("site.yaml")).site
    facts = {
        host.name: HostFacts(
            name=host.name,
            cores=8,
            memory_mib=32768,
            disk_gib=500,
            kvm=kvm,
            openvswitch_module=module,
        )
        for host in site.hosts
    }
    return build_plan(site, facts)


@pytest.fixture
def plan():
    return make_plan()


def files(operations):
    return {one.path: one.content for one in operations if isinstance(one, File)}


def test_networks_have_no_address_and_no_rules_of_libvirt(plan):
    content = files(network.network_operations(plan, plan.hosts[0]))
    for name in ("data", "external"):
        xml = content[f"/etc/solostack/networks/{name}.xml"]
        assert "<forward mode='open'/>" in xml
        assert "<dns enable='no'/>" in xml
        assert "<ip" not in xml


def test_only_the_gateway_host_gets_the_block(plan):
    first, second = (
        files(base_bundle(plan, host, ()).operations())[uplink.SCRIPT_PATH] for host in plan.hosts
    )
    assert "networks=(\n    198.51.100.0/28\n)\n" in first
    assert "networks=()\n" in second
    assert "198.51.100" not in second
    second_files = files(network.network_operations(plan, plan.hosts[1]))
    assert "/etc/solostack/networks/external.xml" not in second_files


def test_no_address_of_the_block_is_on_the_host(plan):
    script = network.script_text(plan, plan.hosts[0])
    addresses = re.findall(r"ip address replace (\S+)", script)
    assert addresses == ['"$address"', "10.99.0.1/24"]
    assert f"address={plan.hosts[0].data_address}" in script


def test_the_member_carries_the_address_with_the_kernel_datapath(plan):
    script = network.script_text(plan, plan.hosts[0])
    assert "member=solo-data " in script
    assert "br-phy" not in script
    assert "ethtool" not in script
    assert "arp off" not in script


def test_a_userspace_switch_carries_the_address_on_its_own_bridge():
    plan = make_plan(module=False)
    script = network.script_text(plan, plan.hosts[0])
    assert "member=br-phy " in script
    assert "datapath_type=netdev" in script
    assert "ethtool -K solo-data tx off" in script
    assert f"ip link set solo-data address {twin_mac(plan.hosts[0].data_mac)} arp off" in script
    assert f"mac={plan.hosts[0].data_mac} " in script
    assert r"hwaddr=\"$mac\"" in script
    steps = [
        one.name
        for one in base_bundle(plan, plan.hosts[0], ()).operations()
        if isinstance(one, Step)
    ]
    assert "userspace segmentation offload" in steps


def test_ports_are_kept_up_on_a_userspace_switch_alone(plan):
    def units(plan):
        operations = base_bundle(plan, plan.hosts[0], ()).operations()
        return [one.name for one in operations if isinstance(one, Unit)]

    assert switch_ports.UNIT in units(make_plan(module=False))
    assert switch_ports.UNIT not in units(plan)


def test_guests_are_watched_where_they_are_emulated_alone():
    def units(plan):
        operations = base_bundle(plan, plan.hosts[0], ()).operations()
        return [one.name for one in operations if isinstance(one, Unit)]

    assert halted_guests.UNIT in units(make_plan(kvm=False))
    assert halted_guests.UNIT not in units(make_plan(kvm=True))


def test_networks_keep_their_uuid_so_that_they_can_be_defined_again(plan):
    first = network.network_xml("cloud", "data", "br-data", 1500)
    changed = network.network_xml("cloud", "data", "br-data", 9000)
    uuid = re.search(r"<uuid>(.*)</uuid>", first)[1]
    assert uuid in changed
    assert uuid not in network.network_xml("other", "data", "br-data", 1500)


def test_a_changed_script_reloads_the_networks_and_stops_no_node(plan):
    unit = next(
        one
        for one in network.network_operations(plan, plan.hosts[0])
        if isinstance(one, Unit) and one.name == network.UNIT
    )
    assert unit.reload


def test_nova_is_kept_from_every_domain_but_instances():
    operations = isolation.isolation_operations()
    rule = files(operations)[isolation.RULE_PATH]
    assert 'name.indexOf("instance-") !== 0' in rule
    line = next(one for one in operations if isinstance(one, Line))
    assert re.search(line.match, '#access_drivers = [ "polkit" ]')
    assert re.search(line.match, "access_drivers=[]")
    assert not re.search(line.match, "# the access_drivers are")
    unit = next(one for one in operations if isinstance(one, Unit))
    assert isolation.LIBVIRTD_CONF in unit.restart_on


def test_every_step_of_the_host_can_be_undone(plan):
    for step in base_bundle(plan, plan.hosts[0], ()).operations():
        if isinstance(step, Step):
            assert step.undo, step.name
            assert step.unless, step.name


def test_packages_of_the_compute_services_come_with_the_hosts_own(plan):
    bundle = base_bundle(plan, plan.hosts[0], ("nova-compute",))
    packages = next(one for one in bundle.operations() if isinstance(one, Packages))
    assert {"nova-compute", "libvirt-daemon-system", "mmdebstrap"} <= set(packages.names)
