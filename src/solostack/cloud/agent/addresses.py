"""Actions for addresses: who holds each, and one test instance that tries the free ones in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from .closing import clean_project
from .opening import admin
from .proving import build_network, open_project, read_markers
from .report import AgentError, Changes, Wait, say
from .rest import Body, Cloud, collection
from .servers import add_floating, need, read_console, start_server, wait_active

INSTANCE = "verify-addresses"


def address_holders(request: Body) -> Body:
    """Return who holds the floating IPs and the routers' gateway addresses: holders, a row each."""
    cloud = admin(request)
    network = need(cloud, "network", "networks", request["external_network"])
    with ThreadPoolExecutor(max_workers=6) as pool:
        asked = {
            kind: pool.submit(cloud.list, service, path, **query)
            for kind, service, path, query in (
                ("floatingips", "network", "floatingips", {"floating_network_id": network["id"]}),
                ("ports", "network", "ports", {}),
                ("routers", "network", "routers", {}),
                ("groups", "network", "security_groups", {}),
                ("servers", "compute", "servers/detail", {"all_tenants": "1"}),
            )
        }
        answers: dict[str, list[Body]] = {name: one.result() for name, one in asked.items()}
    projects = {str(row["id"]): str(row["name"]) for row in cloud.list("identity", "projects")}
    answers["gateways"] = [
        port
        for port in answers["ports"]
        if port["network_id"] == network["id"] and port["device_owner"] == "network:router_gateway"
    ]
    return {"holders": [*_floating_rows(answers, projects), *_gateway_rows(answers, projects)]}


def _floating_rows(answers: Mapping[str, list[Body]], projects: Mapping[str, str]) -> list[Body]:
    ports = {port["id"]: port for port in answers["ports"]}
    servers = {server["id"]: server for server in answers["servers"]}
    rows = []
    for floating in answers["floatingips"]:
        port = ports.get(floating["port_id"])
        server = None if port is None else servers.get(port["device_id"])
        row = _row(floating["floating_ip_address"], floating, projects)
        if server is not None and port is not None:
            row |= {
                "kind": "instance",
                "name": server["name"],
                "status": server["status"],
                "pings": lets_pings_in(port, answers["groups"]),
            }
        elif port is not None:
            row |= {"kind": "port", "name": port["device_owner"] or port["id"]}
        rows.append(row)
    return rows


def _gateway_rows(answers: Mapping[str, list[Body]], projects: Mapping[str, str]) -> list[Body]:
    routers = {router["id"]: router for router in answers["routers"]}
    rows = []
    for port in answers["gateways"]:
        router = routers.get(port["device_id"], port)
        for fixed in port["fixed_ips"]:
            row = _row(fixed["ip_address"], router, projects)
            rows.append(row | {"kind": "router", "name": router["name"]})
    return rows


def _row(address: str, owner: Body, projects: Mapping[str, str]) -> Body:
    """Return a row of an address that a project has and nothing uses."""
    project = str(owner["project_id"])
    return {
        "address": address,
        "kind": "reserved",
        "name": "",
        "project": projects.get(project, project),
        "status": "",
        "pings": False,
    }


def lets_pings_in(port: Body, groups: Sequence[Body]) -> bool:
    """Return whether a port's security groups let pings in from everywhere."""
    if not port.get("port_security_enabled", True):
        return True
    rules = [
        rule
        for group in groups
        if group["id"] in port["security_groups"]
        for rule in group["security_group_rules"]
    ]
    return any(
        rule["direction"] == "ingress"
        and rule["ethertype"] == "IPv4"
        and rule["protocol"] in {None, "any", "0", "icmp", "1"}
        # For ICMP the "port" is the type; 8 is the echo request.
        and rule["port_range_min"] in {None, 8}
        and rule["remote_ip_prefix"] in {None, "0.0.0.0/0"}
        and not rule.get("remote_group_id")
        and not rule.get("remote_address_group_id")
        for rule in rules
    )


def address_start(request: Body) -> Body:
    """Make the test instance in a project of its own and wait until it serves its page.

    The answer is what address_move needs, and page, the beginning of what the instance serves.
    """
    cloud = admin(request)
    clean_project(cloud, request["project"], request["timeout_s"], Changes(), keep_volumes=True)
    stage = open_project(cloud, request)
    mine: Cloud = stage.pop("cloud")
    port = build_network(mine, request, stage, ("address",))["address"]
    wanted = {
        "name": INSTANCE,
        "imageRef": need(mine, "image", "images", request["image"])["id"],
        "flavorRef": need(mine, "compute", "flavors", request["flavor"])["id"],
        "networks": [{"port": port["id"]}],
    }
    server = start_server(mine, wanted, "")
    wait_active(mine, [server], request["timeout_s"])
    wait = Wait(request["timeout_s"])
    while "READY" not in read_markers(read_console(mine, server["id"])):
        if not wait.left("waiting until the test instance has started"):
            raise AgentError(
                f"the test instance has not started within {request['timeout_s']:.0f} s",
                hint="solostack verify says what an instance lacks",
            )
    return {**stage, "port_id": port["id"], "page": f"solostack {INSTANCE} "}


def address_move(request: Body) -> Body:
    """Take the test instance's floating IP away and give it this one; it must be free."""
    cloud, address = admin(request), request["address"]
    for row in cloud.list("network", "floatingips", port_id=request["port_id"]):
        cloud.delete("network", collection("floatingips", row["id"]))
    say(f"giving {address} to the test instance")
    add_floating(cloud, request["external_id"], request["project_id"], address, request["port_id"])
    return {"address": address}
