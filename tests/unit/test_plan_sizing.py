"""Sizes follow the written rule, memory is never promised twice, and a refusal shows the sum."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solostack.errors import ExitCode, HostError
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, Plan
from solostack.plan.sizing import Account, Resource, size_node
from solostack.site.model import Node, Role, Runtime, Site


def facts(
    name: str = "phys1",
    *,
    cores: int = 8,
    memory_mib: int = 64000,
    disk_gib: int = 400,
    kvm: bool = True,
    openvswitch_module: bool = True,
) -> HostFacts:
    return HostFacts(
        name=name,
        cores=cores,
        memory_mib=memory_mib,
        disk_gib=disk_gib,
        kvm=kvm,
        openvswitch_module=openvswitch_module,
    )


def site_with(**parts: object) -> Site:
    host = {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"}
    return Site.model_validate({"hosts": [host], "external": {"block": "198.51.100.0/28"}} | parts)


def plan_on(site: Site | None = None, **values: Any) -> Plan:
    return build_plan(site or site_with(), {"phys1": facts(**values)})


def test_an_8_gib_host_keeps_room_for_instances() -> None:
    plan = plan_on(cores=4, memory_mib=7900, disk_gib=60)
    assert plan.node(Role.CONTROLLER).memory_mib == 3072
    assert plan.node(Role.NETWORK).memory_mib == 768
    host = plan.host("phys1")
    assert host.control_memory_mib == 3072 + 768 + 2 * 128
    assert host.reserved_memory_mib == 1024 + host.control_memory_mib
    assert host.instance_memory_mib == 7900 - host.reserved_memory_mib
    assert host.instance_memory_mib >= 2560
    assert host.reserved_disk_mib == (10 + 16 + 6) * 1024


@pytest.mark.parametrize(
    ("memory_mib", "controller", "network"),
    [
        (7900, 3072, 768),
        (15900, 3072, 768),
        (24105, 3072, 768),
        (32000, 4096, 1024),
        (64000, 8192, 2048),
        (128500, 16384, 4096),
        (1000000, 16384, 4096),
    ],
)
def test_memory_by_the_hosts_memory(memory_mib: int, controller: int, network: int) -> None:
    plan = plan_on(memory_mib=memory_mib)
    assert plan.node(Role.CONTROLLER).memory_mib == controller
    assert plan.node(Role.NETWORK).memory_mib == network


@pytest.mark.parametrize(
    ("cores", "controller", "network", "reserved"),
    [(1, 1, 1, 0), (2, 2, 1, 1), (4, 2, 1, 2), (8, 4, 2, 4), (16, 8, 4, 8), (64, 8, 4, 12)],
)
def test_vcpus_by_cores(cores: int, controller: int, network: int, reserved: int) -> None:
    plan = plan_on(cores=cores)
    assert plan.node(Role.CONTROLLER).vcpus == controller
    assert plan.node(Role.NETWORK).vcpus == network
    assert plan.host("phys1").reserved_cpus == reserved


@pytest.mark.parametrize(
    ("disk_gib", "controller", "network"),
    [(60, 16, 6), (255, 16, 6), (256, 32, 8), (512, 64, 10), (2000, 128, 16)],
)
def test_disk_by_the_hosts_disk(disk_gib: int, controller: int, network: int) -> None:
    plan = plan_on(disk_gib=disk_gib)
    assert plan.node(Role.CONTROLLER).disk_gib == controller
    assert plan.node(Role.NETWORK).disk_gib == network


def test_each_worker_costs_the_controller_a_gib() -> None:
    plan = plan_on(site_with(workers=3), memory_mib=16000)
    assert plan.node(Role.CONTROLLER).memory_mib == 3072 + 2 * 1024
    assert plan.node(Role.NETWORK).memory_mib == 768


def test_the_site_has_the_last_word() -> None:
    nodes = {"controller": {"vcpus": 12, "memory_mib": 5000, "disk_gib": 33, "runtime": "vm"}}
    plan = plan_on(site_with(nodes=nodes), kvm=False)
    controller = plan.node(Role.CONTROLLER)
    assert (controller.vcpus, controller.memory_mib, controller.disk_gib) == (12, 5000, 33)
    assert controller.runtime is Runtime.VM
    assert controller.kernel_datapath


@pytest.mark.parametrize("module", [True, False])
def test_auto_is_vm_with_kvm_and_container_without(module: bool) -> None:
    with_kvm = plan_on(kvm=True, openvswitch_module=module).node(Role.NETWORK)
    assert (with_kvm.runtime, with_kvm.kernel_datapath) == (Runtime.VM, True)
    without = plan_on(kvm=False, openvswitch_module=module).node(Role.NETWORK)
    assert (without.runtime, without.kernel_datapath) == (Runtime.CONTAINER, module)


def test_containers_memory_counts_without_qemu() -> None:
    host = plan_on(kvm=False, memory_mib=7900).host("phys1")
    assert host.control_memory_mib == 3072 + 768


def test_what_does_not_fit_is_refused_with_the_arithmetic() -> None:
    with pytest.raises(HostError) as caught:
        plan_on(memory_mib=3900, disk_gib=20)
    error = caught.value
    assert error.exit_code is ExitCode.HOST
    assert error.message == "the control nodes do not fit: memory of phys1, disk of phys1"
    assert error.details == (
        "phys1 has memory                                3900 MiB",
        "- the host's own system (reserved_memory_mib)   1024 MiB",
        "- controller (vm)                               3072 MiB",
        "- QEMU of controller                             128 MiB",
        "- network (vm)                                   768 MiB",
        "- QEMU of network                                128 MiB",
        "= left for instances                           -1220 MiB",
        "at least 512 MiB must be left",
        "phys1 has disk                                20 GiB",
        "- the host's own system (reserved_disk_gib)   10 GiB",
        "- controller (vm)                             16 GiB",
        "- network (vm)                                 6 GiB",
        "= left for instances                         -12 GiB",
        "at least 4 GiB must be left",
    )
    assert "nodes.*.memory_mib" in error.hint


def test_impossible_explicit_size_is_refused() -> None:
    with pytest.raises(HostError, match="memory of phys1"):
        plan_on(site_with(nodes={"controller": {"memory_mib": 70000}}))


def test_unknown_host_facts_are_asked_for() -> None:
    with pytest.raises(HostError, match="nothing is known yet of phys1") as caught:
        build_plan(site_with(), {"phys9": facts("phys9")})
    assert "solostack check" in caught.value.hint


def test_nodes_on_another_host_are_counted_there() -> None:
    hosts = [
        {"name": "phys1", "address": "203.0.113.2", "nic": "eth0"},
        {"name": "phys2", "address": "203.0.113.3", "nic": "eth0"},
    ]
    site = site_with(hosts=hosts, nodes={"network": {"host": "phys2"}})
    plan = build_plan(
        site, {"phys1": facts(memory_mib=7900), "phys2": facts("phys2", memory_mib=32000)}
    )
    assert plan.host("phys1").control_memory_mib == 3072 + 128
    assert plan.host("phys2").control_memory_mib == 1024 + 128
    assert (plan.host("phys1").gateway, plan.host("phys2").gateway) == (False, True)
    assert [str(node.interfaces[0].gateway) for node in plan.nodes] == [
        "172.16.0.1",
        "172.16.0.2",
    ]


@given(
    st.integers(1, 256),
    st.integers(256, 2_000_000),
    st.integers(1, 100_000),
    st.booleans(),
    st.integers(1, 32),
)
def test_memory_and_disk_always_add_up(
    cores: int, memory_mib: int, disk_gib: int, kvm: bool, workers: int
) -> None:
    values = {"cores": cores, "memory_mib": memory_mib, "disk_gib": disk_gib, "kvm": kvm}
    try:
        plan = plan_on(site_with(workers=workers), **values)
    except HostError as error:
        assert error.details
        return
    host = plan.host("phys1")
    assert host.instance_memory_mib >= 512
    assert host.reserved_memory_mib + host.instance_memory_mib == memory_mib
    assert sum(node.memory_mib for node in plan.nodes) <= host.control_memory_mib
    assert host.reserved_disk_mib <= (disk_gib - 4) * 1024
    assert 0 <= host.reserved_cpus <= cores // 2
    assert all(1 <= node.vcpus <= cores for node in plan.nodes)


def test_account_that_fits_says_what_is_left() -> None:
    account = Account(
        host="h", resource=Resource.DISK, unit="GiB", total=10, takers=(("a", 3),), minimum=4
    )
    assert account.lines() == (
        "h has disk            10 GiB",
        "- a                    3 GiB",
        "= left for instances   7 GiB",
    )


def test_an_emulated_vm_gets_one_vcpu_unless_the_site_says_more() -> None:
    slow = facts(kvm=False)
    default = size_node(Role.CONTROLLER, Node(runtime=Runtime.VM), facts=slow, workers=1)
    asked = size_node(Role.CONTROLLER, Node(runtime=Runtime.VM, vcpus=2), facts=slow, workers=1)
    contained = size_node(Role.CONTROLLER, Node(), facts=slow, workers=1)
    assert (default.vcpus, asked.vcpus) == (1, 2)
    assert contained.vcpus >= 2
