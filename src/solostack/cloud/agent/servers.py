"""Instances: create with addresses, wait, read the console, delete."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from .ensure import MARK, find_one
from .opening import admin
from .report import AgentError, Wait
from .rest import ApiError, Body, Cloud, collection

CONSOLE_LINES = 400


def login_to(request: Body, project: str) -> Cloud:
    """Log in to a project: the first project as its own user, any other as the administrator."""
    access = request["access"]
    user, password = "admin", access["admin_password"]
    if project == access.get("demo_user"):
        user, password = project, access["demo_password"]
    cloud = Cloud(access, user=user, password=password, project=project)
    cloud.login()
    return cloud


def create_server(request: Body) -> Body:
    """Create one instance, or take the one of that name; wait until it is ACTIVE.

    With floating "auto" or an address it also gets a floating IP.
    """
    project, name = request["project"], request["name"]
    cloud = login_to(request, project)
    server = find_server(cloud, name)
    if server is None:
        network = need(cloud, "network", "networks", request["network"])
        wanted = {
            "name": name,
            "imageRef": need(cloud, "image", "images", request["image"])["id"],
            "flavorRef": need(cloud, "compute", "flavors", request["flavor"])["id"],
            "networks": [{"uuid": network["id"]}],
        }
        server = start_server(cloud, wanted, request.get("user_data", ""))
    server = wait_active(cloud, [server], request["timeout_s"])[0]
    floating = ""
    if request.get("floating"):
        ports = cloud.list("network", "ports", device_id=server["id"])
        if not ports:
            raise AgentError(f"instance {name} has no port")
        floating = _floating(request, cloud, ports[0], str(request["floating"]))
    return {**summary(server), "floating": floating}


def _floating(request: Body, cloud: Cloud, port: Body, address: str) -> str:
    there = cloud.list("network", "floatingips", port_id=port["id"])
    if there:
        return str(there[0]["floating_ip_address"])
    boss = admin(request)
    _, project_id = cloud.ids()
    external = need(boss, "network", "networks", request["external_network"])
    wanted = "" if address == "auto" else address
    return str(
        add_floating(boss, external["id"], project_id, wanted, port["id"])["floating_ip_address"]
    )


def add_floating(
    cloud: Cloud, external_id: str, project_id: str, address: str, port_id: str
) -> Body:
    """Give a port a floating IP; a certain one (which only the administrator may choose) or any.

    A floating IP of the project that has this address and no port is taken.
    """
    body: Body = {"port_id": port_id}
    if address:
        there = cloud.list("network", "floatingips", floating_ip_address=address)
        if there and there[0]["port_id"] is None and there[0]["project_id"] == project_id:
            path = collection("floatingips", there[0]["id"])
            return dict(cloud.request("PUT", "network", path, {"floatingip": body})["floatingip"])
        body["floating_ip_address"] = address
    body |= {"floating_network_id": external_id, "project_id": project_id, "description": MARK}
    answer = cloud.request("POST", "network", "/floatingips", {"floatingip": body})
    return dict(answer["floatingip"])


def start_server(cloud: Cloud, wanted: Mapping[str, object], user_data: str) -> Body:
    """Ask for an instance; does not wait."""
    body = {**wanted, "description": MARK}
    if user_data:
        body["user_data"] = base64.b64encode(user_data.encode()).decode()
    answer = cloud.request("POST", "compute", "/servers", {"server": body})
    return dict(answer["server"])


def wait_active(cloud: Cloud, servers: Sequence[Body], limit_s: float) -> list[Body]:
    """Wait until all are ACTIVE; AgentError with Nova's own words when one is in ERROR."""
    wait = Wait(limit_s)
    while True:
        now = [cloud.get("compute", f"/servers/{server['id']}")["server"] for server in servers]
        for server in now:
            if server["status"] == "ERROR":
                raise AgentError(
                    f"instance {server['name']} is in ERROR: {fault_of(server)}",
                    hint="see nova-compute's journal on the host: journalctl -u nova-compute -e",
                )
        states = ", ".join(f"{server['name']} {_state(server)}" for server in now)
        if all(server["status"] == "ACTIVE" for server in now):
            return now
        if not wait.left(states):
            raise AgentError(
                f"not ACTIVE within {limit_s:.0f} s: {states}",
                hint="see nova-compute's journal on the host: journalctl -u nova-compute -e",
            )


def _state(server: Body) -> str:
    task = server.get("OS-EXT-STS:task_state")
    return f"{server['status']} ({task})" if task else str(server["status"])


def fault_of(server: Body) -> str:
    """Return why an instance is in ERROR, in Nova's words."""
    return str((server.get("fault") or {}).get("message") or "no reason given")


def read_console(cloud: Cloud, server_id: str) -> str:
    """Return the end of an instance's console; empty while there is none yet."""
    body = {"os-getConsoleOutput": {"length": CONSOLE_LINES}}
    try:
        answer = cloud.request("POST", "compute", f"/servers/{server_id}/action", body)
    except ApiError as error:
        # 409: not started far enough; 404: no console yet.
        if error.status in {404, 409}:
            return ""
        raise
    return str(answer["output"] or "")


def console(request: Body) -> Body:
    """Action: the console of an instance by name."""
    cloud = login_to(request, request["project"])
    server = find_server(cloud, request["name"])
    if server is None:
        raise AgentError(f"there is no instance {request['name']} in project {request['project']}")
    return {"console": read_console(cloud, server["id"])}


def delete_server(request: Body) -> Body:
    """Action: delete an instance by name with its floating IPs; fine when it is not there."""
    cloud = login_to(request, request["project"])
    server = find_server(cloud, request["name"])
    if server is None:
        return {"deleted": False}
    for port in cloud.list("network", "ports", device_id=server["id"]):
        for row in cloud.list("network", "floatingips", port_id=port["id"]):
            cloud.delete("network", collection("floatingips", row["id"]))
    remove_servers(cloud, [server], request["timeout_s"])
    return {"deleted": True}


def remove_servers(cloud: Cloud, servers: Sequence[Body], limit_s: float) -> None:
    """Delete instances and wait until they are gone."""
    for server in servers:
        cloud.delete("compute", collection("servers", server["id"]))
    wait = Wait(limit_s, pause_s=0.5)
    left = list(servers)
    while left:
        left = [server for server in left if _is_there(cloud, server)]
        names = ", ".join(str(server["name"]) for server in left)
        if left and not wait.left(f"waiting until gone: {names}"):
            raise AgentError(
                f"not gone within {limit_s:.0f} s: instance {names}",
                hint="see nova-compute's journal on the host: journalctl -u nova-compute -e",
            )


def _is_there(cloud: Cloud, server: Body) -> bool:
    try:
        cloud.get("compute", f"/servers/{server['id']}")
    except ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def find_server(cloud: Cloud, name: str, *, project_id: str = "") -> Body | None:
    """Return the instance of a name in the login's project, or for an administrator in another."""
    query = {"all_tenants": "1", "project_id": project_id} if project_id else {}
    # Nova's name filter is a regular expression.
    rows = [row for row in cloud.list("compute", "servers/detail", **query) if row["name"] == name]
    return rows[0] if rows else None


def need(cloud: Cloud, service: str, kind: str, name: str) -> Body:
    """Return the object of a name; AgentError without one."""
    if service == "compute":  # has no filter by name
        found = next((row for row in cloud.list(service, kind) if row["name"] == name), None)
    else:
        found = find_one(cloud, service, kind, {"name": name})
    if found is None:
        single = kind.removesuffix("s")
        raise AgentError(
            f"there is no {single} {name}", hint="run solostack up, which makes what the site asks"
        )
    return found


def summary(server: Body) -> Body:
    """Return what matters of an instance."""
    addresses = [entry for entries in (server.get("addresses") or {}).values() for entry in entries]
    by_type = {
        kind: [entry["addr"] for entry in addresses if entry.get("OS-EXT-IPS:type") == kind]
        for kind in ("fixed", "floating")
    }
    return {
        "id": server["id"],
        "name": server["name"],
        "status": server["status"],
        "host": server.get("OS-EXT-SRV-ATTR:host") or "",
        "project_id": server["tenant_id"],
        "fixed": by_type["fixed"],
        "floating_ips": by_type["floating"],
        "fault": fault_of(server) if server["status"] == "ERROR" else "",
    }
