"""Roles as data: golden texts of every machine, and the rules that hold for all of them.

``pytest tests/unit/test_openstack_roles.py --regenerate`` rewrites the golden texts; review the
diff.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import ipaddress
import re
from pathlib import Path

import pytest

from solostack.engine.bundle import check_bundle, pack, secret_names
from solostack.engine.operations import Bundle, Directory, File, Operation, Packages, Step, Unit
from solostack.openstack import auth, compute, keystone, neutron, novaconf, roles
from solostack.plan.build import build_plan
from solostack.plan.model import HostFacts, NodePlan, Plan
from solostack.site.loader import load_site
from solostack.site.model import Role

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "solostack" / "openstack"
GOLDEN = ROOT / "tests" / "golden" / "openstack"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIexample solostack"
KVM = HostFacts(
    name="phys1", cores=4, memory_mib=7900, disk_gib=220, kvm=True, openvswitch_module=True
)
LARGE = dataclasses.replace(KVM, memory_mib=32000)
PLAIN = dataclasses.replace(
    KVM, cores=2, memory_mib=24105, disk_gib=74, kvm=False, openvswitch_module=False
)


@functools.cache
def make_plan(facts: HostFacts = KVM, example: str = "minimal") -> Plan:
    site = load_site(ROOT / "examples" / f"{example}.yaml").site
    return build_plan(site, {"phys1": facts})


def node_bundle(plan: Plan, role: Role, *, start_services: bool = True) -> Bundle:
    return roles.node_bundle(
        plan, plan.node(role), authorized_key=KEY, start_services=start_services
    )


def compute_bundle(plan: Plan) -> Bundle:
    return Bundle(target="phys1", phases=roles.compute_operations(plan, plan.host("phys1")))


@functools.cache
def machines(plan: Plan) -> dict[str, Bundle]:
    nodes = {node.name: node_bundle(plan, node.role) for node in plan.nodes}
    return nodes | {"compute": compute_bundle(plan)}


def file_text(bundle: Bundle, path: str) -> str:
    return next(
        operation.content
        for operation in bundle.operations()
        if isinstance(operation, File) and operation.path == path
    )


def describe(operation: Operation) -> str:
    match operation:
        case File():
            head = f"file {operation.path} {operation.mode:04o} {operation.owner}:{operation.group}"
            # A program is a source file of its own; here it would only be there twice.
            program = operation.path.startswith("/usr/local/lib/solostack/")
            return f"{head}\n" + ("(program)\n" if program else operation.content)
        case Directory():
            owner = f"{operation.owner}:{operation.group}"
            return f"directory {operation.path} {operation.mode:04o} {owner}\n"
        case Packages():
            return "packages " + " ".join(operation.names) + "\n"
        case Step():
            return (
                f"step {operation.name}\n-- unless\n{operation.unless}-- run\n{operation.run}"
                + (f"-- undo\n{operation.undo}" if operation.undo else "")
            )
        case Unit():
            state = f"enabled={operation.enabled} running={operation.running}"
            paths = " ".join(operation.restart_on)
            return f"unit {operation.name} {state} restart_on={paths}\n"
        case _:
            return f"{type(operation).__name__.lower()} {operation.path}\n"


def describe_bundle(bundle: Bundle) -> str:
    return "\n".join(
        f"==== {phase.name}/{lane.name}: {describe(operation)}"
        for phase in bundle.phases
        for lane in phase.lanes
        for operation in lane.operations
    )


@pytest.mark.parametrize(("variant", "facts"), [("kvm", KVM), ("plain", PLAIN)])
@pytest.mark.parametrize("machine", ["controller", "network", "compute"])
def test_golden(variant: str, facts: HostFacts, machine: str, pytestconfig) -> None:
    text = describe_bundle(machines(make_plan(facts))[machine])
    path = GOLDEN / f"{machine}-{variant}.txt"
    if pytestconfig.getoption("--regenerate", default=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("facts", [KVM, PLAIN])
def test_bundles_are_sound_and_name_exactly_the_secrets_there_are(facts: HostFacts) -> None:
    plan = make_plan(facts)
    bundles = machines(plan).values()
    for bundle in bundles:
        check_bundle(bundle)
    named = frozenset().union(*(secret_names(bundle) for bundle in bundles))
    assert named == set(roles.secret_names(plan))
    values = dict.fromkeys(roles.secret_names(plan), "x")
    assert all(pack(bundle, values) == pack(bundle, values) for bundle in bundles)


def test_files_with_secrets_are_not_for_everybody() -> None:
    for bundle in machines(make_plan()).values():
        for operation in bundle.operations():
            if isinstance(operation, File) and "@@secret:" in operation.content:
                assert operation.mode & 0o007 == 0, operation.path


def test_no_secret_is_in_a_step() -> None:
    for bundle in machines(make_plan()).values():
        for operation in bundle.operations():
            if isinstance(operation, Step):
                assert "@@secret:" not in operation.run + operation.unless + operation.undo


def test_every_step_has_a_guard() -> None:
    for bundle in machines(make_plan(PLAIN)).values():
        steps = [each for each in bundle.operations() if isinstance(each, Step)]
        assert steps
        assert all(step.unless or step.when_changed for step in steps)


def test_all_machines_call_themselves_what_ovn_calls_them() -> None:
    plan = make_plan()
    for machine, name in (("controller", "controller"), ("compute", "phys1")):
        bundle = machines(plan)[machine]
        for path in ("/etc/nova/nova.conf", "/etc/neutron/neutron.conf"):
            assert f"\nhost = {name}\n" in file_text(bundle, path)
    for machine, name in (("network", "network"), ("compute", "phys1")):
        bundle = machines(plan)[machine]
        assert file_text(bundle, "/etc/openvswitch/system-id.conf") == f"{name}\n"
        script = next(each.run for each in bundle.operations() if isinstance(each, Step)
                      and each.name == f"chassis {name}")  # fmt: skip
        assert f"'external_ids:hostname={name}'" in script
        assert f"'external_ids:system-id={name}'" in script


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_neutron_has_as_many_api_workers_as_processes(workers: int) -> None:
    plan = dataclasses.replace(make_plan(), workers=workers)
    bundle = node_bundle(plan, Role.CONTROLLER)
    assert f"\napi_workers = {workers}\n" in file_text(bundle, neutron.CONF)
    ini = file_text(bundle, neutron.UWSGI)
    assert f"\nprocesses = {workers}\n" in ini
    assert "\nstart-time = %t\n" in ini
    assert "\nenable-threads = false\n" in ini


def test_tenant_mtu_is_the_planned_one() -> None:
    for mtu in (1500, 9000):
        plan = make_plan()
        data = dataclasses.replace(plan.data, mtu=mtu, tenant_mtu=mtu - 58)
        plan = dataclasses.replace(plan, data=data)
        text = neutron.render_ml2(plan)
        assert f"\npath_mtu = {mtu}\n" in text
        assert data.tenant_mtu == mtu - 20 - neutron.GENEVE_HEADER_BYTES
        assert "\nphysical_network_mtus = external:1500\n" in text


def test_a_compute_host_reserves_what_is_not_for_instances() -> None:
    plan = make_plan()
    host = plan.host("phys1")
    text = compute.render_nova(plan, host)
    assert f"\nreserved_host_memory_mb = {host.reserved_memory_mib}\n" in text
    assert f"\nreserved_host_cpus = {host.reserved_cpus}\n" in text
    assert f"\nreserved_host_disk_mb = {host.reserved_disk_mib}\n" in text


def test_emulation_only_without_kvm() -> None:
    kvm = compute.render_libvirt(make_plan().host("phys1"))
    plain = compute.render_libvirt(make_plan(PLAIN).host("phys1"))
    assert "virt_type = kvm" in kvm
    assert "tb_cache_size" not in kvm
    assert "virt_type = qemu" in plain
    assert f"tb_cache_size = {compute.TRANSLATION_CACHE_MIB}" in plain


def test_a_compute_host_has_no_database_password() -> None:
    named = secret_names(compute_bundle(make_plan()))
    assert not {name for name in named if name.endswith("_db_password")}
    assert auth.ADMIN_PASSWORD not in named


def test_services_may_be_left_stopped_but_enabled() -> None:
    units = {
        each.name: each
        for each in node_bundle(make_plan(), Role.CONTROLLER, start_services=False).operations()
        if isinstance(each, Unit)
    }
    assert units["nova-api.service"].enabled
    assert not units["nova-api.service"].running
    assert units["mariadb.service"].running


def test_every_unit_that_packages_bring_is_decided_on() -> None:
    plan = make_plan(LARGE, example="full")
    for role in Role:
        named = {each.name for each in node_bundle(plan, role).operations()
                 if isinstance(each, Unit)}  # fmt: skip
        assert set(roles.role_units(role)) - {"epmd.service", "chrony.service"} <= named


def test_the_catalogue_is_on_the_data_network_and_in_the_region() -> None:
    plan = make_plan()
    bundle = node_bundle(plan, Role.CONTROLLER)
    wanted = file_text(bundle, keystone.WANTED)
    hosts = {ipaddress.ip_address(each) for each in re.findall(r"http://([0-9.]+):", wanted)}
    assert hosts == {plan.node(Role.CONTROLLER).data_address}
    assert f'"region": "{plan.region}"' in wanted


def test_ports_agree_between_the_services() -> None:
    plan = make_plan()
    bundle = node_bundle(plan, Role.CONTROLLER)
    assert f":{novaconf.GLANCE_PORT}" in file_text(bundle, keystone.WANTED)
    assert f"bind_port = {novaconf.GLANCE_PORT}" in file_text(bundle, "/etc/glance/glance-api.conf")
    assert "set-connection ptcp:6641:" in describe_bundle(bundle)
    assert "ovn_nb_connection = tcp:172.16.0.11:6641" in file_text(bundle, neutron.ML2_CONF)


def test_network_files_match_cards_by_mac() -> None:
    plan = make_plan(LARGE, example="full")
    for role in Role:
        node: NodePlan = plan.node(role)
        for card in node.interfaces:
            text = file_text(
                node_bundle(plan, role), f"/etc/systemd/network/20-{card.name}.network"
            )
            assert f"MACAddress={card.mac}\n" in text
            assert (f"Address={card.address}\n" in text) == (card.address is not None)


def test_the_default_route_is_there_only_with_egress() -> None:
    plan = make_plan()
    path = "/etc/systemd/network/20-eth0.network"
    assert "Gateway=172.16.0.1\n" in file_text(node_bundle(plan, Role.CONTROLLER), path)
    closed = dataclasses.replace(plan, egress=False)
    assert "Gateway=" not in file_text(node_bundle(closed, Role.CONTROLLER), path)


def test_the_userspace_datapath_has_the_tunnel_address_on_its_own_bridge() -> None:
    bundle = node_bundle(make_plan(PLAIN), Role.NETWORK)
    card = file_text(bundle, "/etc/systemd/network/20-eth0.network")
    bridge = file_text(bundle, "/etc/systemd/network/30-br-phy.network")
    assert "\nAddress=" not in card
    assert "Address=172.16.0.12/24\n" in bridge


SHARED = {
    "auth", "ceph", "ini", "keystone_domain", "logs", "novaconf", "once", "programs", "schema",
    "storage_disks", "uwsgi", "volumes",
}  # fmt: skip


def test_services_never_import_each_other() -> None:
    for path in SOURCE.glob("*.py"):
        if path.stem in {"roles", "__init__"}:
            continue
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                package, _, rest = node.module.partition("solostack.openstack")
                if package == "" and node.module.startswith("solostack.openstack"):
                    names = {rest.strip(".")} if rest else {name.name for name in node.names}
                    imported |= names
        # Parts of one service, by its name: swift_conf is swift's own.
        foreign = {name for name in imported if not name.startswith(f"{path.stem}_")}
        assert foreign <= SHARED, path.name
