"""Roles put together from the services: the only module here that knows all of them."""

from __future__ import annotations

from typing import assert_never

from solostack.engine.operations import Bundle, Lane, Operation, Packages, Phase, Unit
from solostack.openstack import (
    auth,
    ceph,
    cinder,
    compute,
    database,
    directory,
    front_door,
    glance,
    horizon,
    initiator,
    keystone,
    keystone_domain,
    memcached,
    neutron,
    nfs,
    node_base,
    nova,
    ovn_central,
    ovn_chassis,
    placement,
    rabbitmq,
    storage_disks,
    swift,
)
from solostack.openstack.schema import DatabaseUser
from solostack.plan.model import HostPlan, NodePlan, Plan
from solostack.site.model import Role

CONTROLLER_MODULES = (
    database, rabbitmq, memcached, keystone, glance, placement, nova, neutron, ovn_central,
    front_door, horizon,
)  # fmt: skip
DATABASES = (
    keystone.DATABASE, glance.DATABASE, placement.DATABASE, nova.DATABASE, neutron.DATABASE,
)  # fmt: skip
COMPUTE_PACKAGES = (*compute.PACKAGES, *ovn_chassis.PACKAGES)
CLIENT_PACKAGES = ("python3-openstackclient",)
SSH_PORT = 22
DISKS_PHASE = "disks"
"""The part of the storage node's state that makes its disks usable and grows them."""

CONTROLLER_PORTS = (SSH_PORT, 3306, 5000, 5672, 6641, 6642, 8774, 8775, 8778, 9292, 9696)


def role_packages(role: Role) -> tuple[str, ...]:
    """Return the Debian packages of a role's tree, besides the system itself."""
    match role:
        case Role.CONTROLLER:
            modules = tuple(name for module in CONTROLLER_MODULES for name in module.PACKAGES)
            names = (
                *node_base.PACKAGES, *modules, *cinder.CONTROLLER_PACKAGES, *CLIENT_PACKAGES,
            )  # fmt: skip
        case Role.NETWORK:
            names = (*node_base.PACKAGES, *ovn_chassis.PACKAGES)
        case Role.STORAGE:
            names = (
                *node_base.PACKAGES, *cinder.STORAGE_PACKAGES, *swift.PACKAGES, *nfs.PACKAGES,
            )  # fmt: skip
        case Role.DIRECTORY:
            names = (*node_base.PACKAGES, *directory.PACKAGES)
        case _:
            assert_never(role)
    return tuple(dict.fromkeys(names))


def role_units(role: Role) -> tuple[str, ...]:
    """Return the units that a role's packages enable and that its tree should not have enabled.

    A tree that boots for its first configuration would otherwise start every service with Debian's
    example files, in dozens of processes. The bundle enables what is wanted.
    """
    match role:
        case Role.CONTROLLER:
            modules = tuple(name for module in CONTROLLER_MODULES for name in module.UNITS)
            return (
                *node_base.UNITS, *modules, *nova.UNWANTED_UNITS, *cinder.CONTROLLER_UNITS,
            )  # fmt: skip
        case Role.NETWORK:
            return (*node_base.UNITS, *ovn_chassis.UNITS)
        case Role.STORAGE:
            return (
                *node_base.UNITS,
                *cinder.STORAGE_UNITS,
                *cinder.UNWANTED_UNITS,
                *swift.UNITS,
                *nfs.UNITS,
            )
        case Role.DIRECTORY:
            return (*node_base.UNITS, *directory.UNITS)
        case _:
            assert_never(role)


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of all secrets that bundles of this plan hold.

    Values must be letters and digits only: they stand in URLs, SQL, JSON and ini files.
    """
    return (
        auth.ADMIN_PASSWORD,
        auth.RABBITMQ_PASSWORD,
        auth.METADATA_SECRET,
        *(auth.user_secret(service.name) for service in _catalog(plan)),
        *(auth.database_secret(user.name) for user in _databases(plan)),
        *swift.secret_names(plan),
        *horizon.secret_names(plan),
        *directory.secret_names(plan),
    )


def node_bundle(
    plan: Plan, node: NodePlan, *, authorized_key: str, start_services: bool = True
) -> Bundle:
    """Return the whole desired state of a control node.

    start_services False leaves the OpenStack services stopped though enabled: for a tree that is
    configured only to be shut down again.
    """
    base = (
        Packages(names=role_packages(node.role)),
        *node_base.base_operations(plan, node, authorized_key=authorized_key),
    )
    match node.role:
        case Role.CONTROLLER:
            phases = _controller(plan, node, running=start_services)
        case Role.NETWORK:
            phases = _network(plan, node, running=start_services)
        case Role.STORAGE:
            phases = _storage(plan, node, running=start_services)
        case Role.DIRECTORY:
            phases = _directory(plan, node, running=start_services)
        case _:
            assert_never(node.role)
    return Bundle(target=node.name, phases=(_lanes("base", {"base": base}), *phases))


def compute_operations(plan: Plan, host: HostPlan) -> tuple[Phase, ...]:
    """Return what makes a physical host a compute node, for the host's own bundle.

    The first phase is files and the chassis; the second starts the services, of which nova-compute
    waits for the controller.
    """
    chassis = ovn_chassis.compute_chassis(host)
    return (
        _lanes(
            "compute",
            {
                "chassis": ovn_chassis.chassis_operations(plan, chassis),
                "nova-compute": compute.nova_compute_files(plan, host),
                "volumes": (
                    *initiator.initiator_operations(plan, host),
                    *ceph.compute_operations(plan),
                ),
                "metadata": compute.metadata_files(plan, host),
            },
        ),
        _lanes(
            "compute-services",
            {
                "chassis": ovn_chassis.chassis_units(),
                "nova-compute": compute.nova_compute_units(),
                "metadata": compute.metadata_units(),
            },
        ),
    )


def node_ports(plan: Plan, role: Role) -> tuple[int, ...]:
    """Return the TCP ports that a role's node answers at once it is up."""
    match role:
        case Role.CONTROLLER:
            return (
                *CONTROLLER_PORTS, *cinder.controller_ports(plan), *front_door.ports(plan),
            )  # fmt: skip
        case Role.STORAGE:
            return (SSH_PORT, *cinder.storage_ports(plan), *swift.ports(plan), *nfs.ports(plan))
        case Role.DIRECTORY:
            return (SSH_PORT, directory.PORT)
        case Role.NETWORK:
            return (SSH_PORT,)
        case _:
            assert_never(role)


def _catalog(plan: Plan) -> tuple[auth.CatalogService, ...]:
    return (
        glance.catalog_service(plan),
        placement.catalog_service(plan),
        nova.catalog_service(plan),
        neutron.catalog_service(plan),
        *cinder.catalog_services(plan),
        *swift.catalog_services(plan),
    )


def _databases(plan: Plan) -> tuple[DatabaseUser, ...]:
    sessions = (horizon.DATABASE,) if horizon.wanted(plan) else ()
    return (*DATABASES, *cinder.databases(plan), *sessions)


def _controller(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    return (
        _lanes("database", {"mariadb": database.database_operations(plan, _databases(plan))}),
        _lanes(
            "services",
            {
                "nova": nova.nova_operations(plan, node),
                "neutron": neutron.neutron_operations(plan, node),
                "keystone": (
                    *keystone_domain.domain_files(plan),
                    *keystone.keystone_operations(plan, _catalog(plan)),
                ),
                "glance": glance.glance_operations(plan),
                "cinder": cinder.controller_operations(plan, node),
                "placement": placement.placement_operations(plan),
                "horizon": horizon.horizon_operations(plan, node),
                "rabbitmq": rabbitmq.rabbitmq_operations(),
                "memcached": memcached.memcached_operations(),
                "ovn-central": ovn_central.ovn_central_operations(),
                "front-door": front_door.front_door_operations(plan, node, _catalog(plan)),
            },
        ),
        _lanes(
            "units",
            _lane_per_unit(
                *keystone.keystone_units(plan, running=running),
                *glance.glance_units(running=running),
                *placement.placement_units(running=running),
                *nova.nova_units(running=running),
                *neutron.neutron_units(running=running),
                *cinder.controller_units(plan, running=running),
                *horizon.horizon_units(plan, running=running),
                *front_door.front_door_units(plan, running=running),
            ),
        ),
    )


def _network(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    chassis = ovn_chassis.gateway_chassis(node)
    return (
        _lanes("chassis", {"chassis": ovn_chassis.chassis_operations(plan, chassis)}),
        _lanes("units", {"chassis": ovn_chassis.chassis_units(running=running)}),
    )


def _storage(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    disks = (
        *storage_disks.disk_operations(plan, node),
        *storage_disks.disk_units(running=running),
    )
    return (
        _lanes(DISKS_PHASE, {"disks": disks}),
        _lanes(
            "services",
            {
                "cinder": cinder.storage_operations(plan, node),
                "memcached": memcached.memcached_operations() if swift.wanted(plan) else (),
                "swift": swift.swift_operations(plan, node),
                "nfs": nfs.nfs_operations(plan, node),
            },
        ),
        _lanes(
            "units",
            _lane_per_unit(
                *cinder.storage_units(plan, running=running),
                *swift.swift_units(plan, running=running),
                *nfs.nfs_units(plan, running=running),
            ),
        ),
        _lanes("objects", {"swift": swift.place_operations(plan)}),
    )


def _directory(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    return (
        _lanes("directory", {"389ds": directory.directory_operations(plan, node)}),
        _lanes("units", {"389ds": directory.directory_units(plan, running=running)}),
    )


def _lane_per_unit(*operations: Operation) -> dict[str, tuple[Operation, ...]]:
    return {
        operation.name.removesuffix(".service"): (operation,)
        for operation in operations
        if isinstance(operation, Unit)
    }


def _lanes(name: str, lanes: dict[str, tuple[Operation, ...]]) -> Phase:
    return Phase(
        name=name,
        lanes=tuple(Lane(name=key, operations=value) for key, value in lanes.items() if value),
    )
