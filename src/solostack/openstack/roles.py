"""Roles put together from the services: the only module here that knows all of them."""

from __future__ import annotations

from typing import assert_never

from solostack.engine.operations import Bundle, Lane, Operation, Packages, Phase, Unit
from solostack.openstack import (
    auth,
    compute,
    database,
    glance,
    keystone,
    memcached,
    neutron,
    node_base,
    nova,
    ovn_central,
    ovn_chassis,
    placement,
    rabbitmq,
)
from solostack.plan.model import HostPlan, NodePlan, Plan
from solostack.site.model import Role

CONTROLLER_MODULES = (
    database, rabbitmq, memcached, keystone, glance, placement, nova, neutron, ovn_central,
)  # fmt: skip
DATABASES = (
    keystone.DATABASE, glance.DATABASE, placement.DATABASE, nova.DATABASE, neutron.DATABASE,
)  # fmt: skip
SERVICE_USERS = ("glance", "placement", "nova", "neutron")
COMPUTE_PACKAGES = (*compute.PACKAGES, *ovn_chassis.PACKAGES)
CLIENT_PACKAGES = ("python3-openstackclient",)


def role_packages(role: Role) -> tuple[str, ...]:
    """Return the Debian packages of a role's tree, besides the system itself."""
    match role:
        case Role.CONTROLLER:
            modules = tuple(name for module in CONTROLLER_MODULES for name in module.PACKAGES)
            names = (*node_base.PACKAGES, *modules, *CLIENT_PACKAGES)
        case Role.NETWORK:
            names = (*node_base.PACKAGES, *ovn_chassis.PACKAGES)
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
            return (*node_base.UNITS, *modules, *nova.UNWANTED_UNITS)
        case Role.NETWORK:
            return (*node_base.UNITS, *ovn_chassis.UNITS)
        case _:
            assert_never(role)


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of all secrets that bundles of this plan hold.

    Values must be letters and digits only: they stand in URLs, SQL, JSON and ini files.
    """
    del plan
    return (
        auth.ADMIN_PASSWORD,
        auth.RABBITMQ_PASSWORD,
        auth.METADATA_SECRET,
        *(auth.user_secret(name) for name in SERVICE_USERS),
        *(auth.database_secret(user.name) for user in DATABASES),
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


def _controller(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    catalog = (
        glance.catalog_service(plan),
        placement.catalog_service(plan),
        nova.catalog_service(plan),
        neutron.catalog_service(plan),
    )
    return (
        _lanes("database", {"mariadb": database.database_operations(plan, DATABASES)}),
        _lanes(
            "services",
            {
                "nova": nova.nova_operations(plan, node),
                "neutron": neutron.neutron_operations(plan, node),
                "keystone": keystone.keystone_operations(plan, catalog),
                "glance": glance.glance_operations(plan),
                "placement": placement.placement_operations(plan),
                "rabbitmq": rabbitmq.rabbitmq_operations(),
                "memcached": memcached.memcached_operations(),
                "ovn-central": ovn_central.ovn_central_operations(),
            },
        ),
        _lanes(
            "units",
            _lane_per_unit(
                *keystone.keystone_units(running=running),
                *glance.glance_units(running=running),
                *placement.placement_units(running=running),
                *nova.nova_units(running=running),
                *neutron.neutron_units(running=running),
            ),
        ),
    )


def _network(plan: Plan, node: NodePlan, *, running: bool) -> tuple[Phase, ...]:
    chassis = ovn_chassis.gateway_chassis(node)
    return (
        _lanes("chassis", {"chassis": ovn_chassis.chassis_operations(plan, chassis)}),
        _lanes("units", {"chassis": ovn_chassis.chassis_units(running=running)}),
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
        lanes=tuple(Lane(name=key, operations=value) for key, value in lanes.items()),
    )
