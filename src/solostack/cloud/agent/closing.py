"""Actions `close` and `verify_cleanup`: delete what we made, in the order that dependencies ask."""

from __future__ import annotations

from collections.abc import Callable

from .ensure import delete_each, find_one, is_ours
from .images import our_images
from .opening import admin
from .report import AgentError, Changes
from .rest import ApiError, Body, Cloud, collection
from .servers import remove_servers
from .volumes import SERVICE as VOLUMES
from .volumes import remove_volumes

Choice = Callable[[Body], bool]


def close_cloud(request: Body) -> Body:
    """Delete everything with our mark.

    With instances "all" every instance of the cloud goes too, and all that is in our projects;
    without it, an instance that is not ours is an AgentError and nothing is deleted.
    """
    cloud, changes = admin(request), Changes()
    servers = cloud.list("compute", "servers/detail", all_tenants="1")
    everything = request["instances"] == "all"
    foreign = [row for row in servers if not is_ours(row)]
    if foreign and not everything:
        raise AgentError(
            f"{len(foreign)} instances still live in the cloud: "
            + ", ".join(sorted(row["name"] for row in foreign)[:10]),
            hint="delete them, or let solostack down delete all instances",
        )
    _remove(cloud, servers, request["timeout_s"], changes)
    projects = [row["id"] for row in cloud.list("identity", "projects") if is_ours(row)]
    _remove_network(
        cloud, lambda row: is_ours(row) or (everything and row["project_id"] in projects), changes
    )
    flavors = cloud.list("compute", "flavors/detail", is_public="None")
    delete_each(cloud, "compute", "flavors", [row for row in flavors if is_ours(row)], changes)
    delete_each(cloud, "image", "images", our_images(cloud), changes)
    for kind in ("users", "projects"):
        rows = [row for row in cloud.list("identity", kind) if is_ours(row)]
        delete_each(cloud, "identity", kind, rows, changes)
    return {"changes": changes.rows}


def verify_cleanup(request: Body) -> Body:
    """Delete verify's project with everything in it; fine when there is none.

    With keep_volumes, see clean_project, it does not wait for the service of volumes.
    """
    cloud, changes = admin(request), Changes()
    keep_volumes = request.get("keep_volumes", False)
    clean_project(
        cloud, request["project"], request["timeout_s"], changes, keep_volumes=keep_volumes
    )
    return {"changes": changes.rows}


def clean_project(
    cloud: Cloud, name: str, limit_s: float, changes: Changes, *, keep_volumes: bool = False
) -> None:
    """Delete a project of ours with everything in it.

    With keep_volumes those that are there stay, and the project for them: what has nothing to do
    with volumes must not wait for their service.
    """
    project = find_one(cloud, "identity", "projects", {"name": name, "domain_id": "default"})
    if project is None:
        return
    if not is_ours(project):
        raise AgentError(
            f"there is a project {name} that solostack did not make",
            hint=f"rename or delete it: openstack project delete {name}",
        )
    query = {"all_tenants": "1", "project_id": project["id"]}
    servers = cloud.list("compute", "servers/detail", **query)
    _remove(cloud, servers, limit_s, changes)
    if cloud.has(VOLUMES) and not keep_volumes:
        remove_volumes(cloud, project["id"], limit_s)
    _remove_network(cloud, lambda row: row["project_id"] == project["id"], changes)
    if not (keep_volumes and _may_have_volumes(cloud, project["id"])):
        delete_each(cloud, "identity", "projects", [project], changes)


def _may_have_volumes(cloud: Cloud, project_id: str) -> bool:
    if not cloud.has(VOLUMES):
        return False
    try:
        return bool(cloud.list(VOLUMES, "volumes", all_tenants="1", project_id=project_id))
    except ApiError:
        # Then whoever asks for volumes is told.
        return True


def _remove(cloud: Cloud, servers: list[Body], limit_s: float, changes: Changes) -> None:
    remove_servers(cloud, servers, limit_s)
    for server in servers:
        changes.add("instance", server["name"], "deleted")


def _remove_network(cloud: Cloud, chosen: Choice, changes: Changes) -> None:
    def rows(kind: str) -> list[Body]:
        return [row for row in cloud.list("network", kind) if chosen(row)]

    delete_each(cloud, "network", "floatingips", rows("floatingips"), changes)
    routers = rows("routers")
    for router in routers:
        _detach(cloud, router)
    delete_each(cloud, "network", "routers", routers, changes)
    networks = rows("networks")
    for network in networks:
        ports = cloud.list("network", "ports", network_id=network["id"])
        # Neutron's own ports (DHCP, metadata) go with their network.
        ports = [port for port in ports if not port["device_owner"].startswith("network:")]
        delete_each(cloud, "network", "ports", ports, changes)
    delete_each(cloud, "network", "networks", networks, changes)
    delete_each(cloud, "network", "security_groups", rows("security_groups"), changes)


def _detach(cloud: Cloud, router: Body) -> None:
    for port in cloud.list("network", "ports", device_id=router["id"]):
        if port["device_owner"] != "network:router_interface":
            continue
        path = collection("routers", router["id"], "remove_router_interface")
        try:
            cloud.request("PUT", "network", path, {"port_id": port["id"]})
        except ApiError as error:
            if error.status != 404:
                raise
