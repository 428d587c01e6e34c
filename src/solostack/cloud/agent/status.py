"""Action `status`: the cloud at a glance, every question asked at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .opening import admin
from .rest import Body, Cloud
from .servers import summary

# Whoever asks how things are wants to be told that Keystone does not answer.
PATIENCE_S = 10


def status(request: Body) -> Body:
    """Return services, agents, hypervisors, instances, floating IPs and images."""
    cloud = admin(request, PATIENCE_S)
    with ThreadPoolExecutor(max_workers=6) as pool:
        asked = {
            "compute_services": pool.submit(compute_services, cloud),
            "agents": pool.submit(agents, cloud),
            "hypervisors": pool.submit(_hypervisors, cloud),
            "servers": pool.submit(_servers, cloud),
            "floating_ips": pool.submit(_floating_ips, cloud),
            "images": pool.submit(_images, cloud),
        }
        answers = {name: future.result() for name, future in asked.items()}
        projects = {row["id"]: row["name"] for row in cloud.list("identity", "projects")}
    for row in (*answers["servers"], *answers["floating_ips"]):
        row["project"] = projects.get(row["project_id"], row["project_id"])
    return dict(answers)


def compute_services(cloud: Cloud) -> list[Body]:
    """Return Nova's services: binary, host, state (up or down), status (enabled or disabled)."""
    return [
        {key: row[key] for key in ("binary", "host", "state", "status")}
        for row in cloud.list("compute", "os-services")
    ]


def agents(cloud: Cloud) -> list[Body]:
    """Return Neutron's agents: type, host, alive."""
    return [
        {"type": row["agent_type"], "host": row["host"], "alive": row["alive"]}
        for row in cloud.list("network", "agents")
    ]


def _hypervisors(cloud: Cloud) -> list[Body]:
    return [_hypervisor(cloud, row) for row in cloud.list("placement", "resource_providers")]


def _hypervisor(cloud: Cloud, provider: Body) -> Body:
    path = f"/resource_providers/{provider['uuid']}"
    inventories = cloud.get("placement", f"{path}/inventories")["inventories"]
    usages = cloud.get("placement", f"{path}/usages")["usages"]

    def room(resource: str) -> list[int]:
        inventory = inventories.get(resource)
        if inventory is None:
            return [0, 0]
        offered = int((inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"])
        return [usages.get(resource, 0), offered]

    return {
        "host": provider["name"],
        "vcpus": room("VCPU"),
        "memory_mib": room("MEMORY_MB"),
        "disk_gib": room("DISK_GB"),
    }


def _servers(cloud: Cloud) -> list[Body]:
    rows = cloud.list("compute", "servers/detail", all_tenants="1")
    return [summary(row) for row in rows]


def _floating_ips(cloud: Cloud) -> list[Body]:
    return [
        {
            "address": row["floating_ip_address"],
            "fixed": row["fixed_ip_address"] or "",
            "status": row["status"],
            "project_id": row["project_id"],
        }
        for row in cloud.list("network", "floatingips")
    ]


def _images(cloud: Cloud) -> list[Body]:
    return [
        {"name": row["name"], "status": row["status"], "bytes": row["size"] or 0}
        for row in cloud.list("image", "images")
    ]
