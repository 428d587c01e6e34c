"""Action `open`: everything the site asks of the cloud, idempotent, side by side where it can."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .ensure import MARK, differing, ensure, find_one, is_ours
from .grants import ensure_grants
from .images import ensure_images
from .report import AgentError, Changes, Wait
from .rest import ApiError, Body, Cloud, collection

SERVICES_TIMEOUT_S = 120


def admin(request: Body, wait_s: float = SERVICES_TIMEOUT_S) -> Cloud:
    """Log in as the administrator; waits for Keystone, which may still be starting."""
    access = request["access"]
    cloud = Cloud(access, user="admin", password=access["admin_password"], project="admin")
    wait = Wait(wait_s)
    while True:
        try:
            cloud.login()
        except ApiError as error:
            if error.status < 500 or not wait.left("waiting for Keystone"):
                raise
        else:
            return cloud


def open_cloud(request: Body) -> Body:
    """Make all objects of the request be there; return what became of each, and ids.

    needs in the answer lists images whose file must first be put on this machine.
    """
    cloud = admin(request)
    changes = Changes()
    with ThreadPoolExecutor(max_workers=4) as pool:
        external = pool.submit(_external, cloud, request["external"], changes)
        images = pool.submit(ensure_images, cloud, request, changes)
        flavors = pool.submit(_flavors, cloud, request["flavors"], changes)
        demo = pool.submit(_demo, cloud, request, changes)
        network = external.result()
        if request["demo"] is not None:
            _router(cloud, request["demo"], demo.result(), network, changes)
        flavors.result()
        needs = images.result()
    if request["directory"] is not None:
        ensure_grants(cloud, request["directory"], changes)
    return {"changes": changes.rows, "needs": needs, "external_network": network["id"]}


def _external(cloud: Cloud, wanted: Body, changes: Changes) -> Body:
    network = ensure(
        cloud,
        "network",
        "networks",
        key={"name": wanted["network"]["name"], "router:external": True},
        fixed=wanted["network"]["fixed"],
        free=wanted["network"]["free"],
        changes=changes,
    )
    _require_free(cloud, wanted["kept"])
    _retire_subnets(cloud, network, wanted["subnets"], changes)
    for subnet in wanted["subnets"]:
        ensure(
            cloud,
            "network",
            "subnets",
            # Names count up, so one address more may rename others; the CIDR tells them apart.
            key={"cidr": subnet["fixed"]["cidr"], "network_id": network["id"]},
            fixed=subnet["fixed"],
            free={"name": subnet["name"], **subnet["free"]},
            changes=changes,
        )
    return network


def _require_free(cloud: Cloud, kept: list[str]) -> None:
    # The pools no longer offer them, but what somebody has already stays his.
    for row in cloud.list("network", "floatingips") if kept else ():
        address = row["floating_ip_address"]
        if address in kept:
            raise AgentError(
                f"{address} is to be the front door's but is a floating IP of a project already",
                hint=f"release it: openstack floating ip delete {address}; or set another "
                "front_door.address in the site",
            )


def _retire_subnets(cloud: Cloud, network: Body, wanted: list[Body], changes: Changes) -> None:
    # A CIDR cannot change: after a change of the addresses old subnets go, if nobody uses them.
    for old in retired(cloud.list("network", "subnets", network_id=network["id"]), wanted):
        try:
            cloud.delete("network", collection("subnets", old["id"]))
        except ApiError as error:
            if error.status != 409:  # in use
                raise
            raise AgentError(
                f"the site needs no subnet {old['cidr']} ({old['name']}) any more but its "
                f"addresses are in use: {error.message}",
                hint="release them (openstack floating ip list; openstack floating ip delete ...)",
            ) from error
        changes.add("subnet", f"{old['name']} ({old['cidr']})", "deleted")


def retired(rows: list[Body], wanted: list[Body]) -> list[Body]:
    """Return the subnets of ours that are not wanted any more."""
    kept = {subnet["fixed"]["cidr"] for subnet in wanted}
    return [row for row in rows if is_ours(row) and row["cidr"] not in kept]


def _flavors(cloud: Cloud, wanted: list[Body], changes: Changes) -> None:
    rows = {row["name"]: row for row in cloud.list("compute", "flavors/detail", is_public="None")}
    for flavor in wanted:
        row = rows.pop(flavor["name"], None)
        wrong = {} if row is None else differing(row, flavor)
        if row is not None and not wrong:
            changes.add("flavor", flavor["name"], "unchanged")
            continue
        if row is not None and not is_ours(row):
            raise AgentError(
                f"there is a flavor {flavor['name']} of another size that solostack did not make",
                hint=f"delete it (openstack flavor delete {flavor['name']}) or rename yours",
            )
        # A flavor cannot be changed; instances keep a copy of the one they were made with.
        if row is not None:
            cloud.delete("compute", collection("flavors", row["id"]))
        body = {"flavor": {**flavor, "description": MARK}}
        cloud.request("POST", "compute", "/flavors", body)
        changes.add("flavor", flavor["name"], "created" if row is None else "changed")
    for row in rows.values():
        if is_ours(row):
            cloud.delete("compute", collection("flavors", row["id"]))
            changes.add("flavor", row["name"], "deleted")


def _demo(cloud: Cloud, request: Body, changes: Changes) -> Body:
    demo = request["demo"]
    if demo is None:
        return {}
    project = ensure_project(cloud, demo["project"], changes)
    works: tuple[Callable[[], object], ...] = (
        lambda: _user(cloud, request, project, changes),
        lambda: _quota(cloud, project, demo["quota"], changes),
        lambda: _rules(cloud, project, demo["rules"], changes),
    )
    with ThreadPoolExecutor(max_workers=len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        subnet = _tenant_network(cloud, demo, project, changes)
        for future in futures:
            future.result()
    return {"project": project, "subnet": subnet}


def ensure_project(cloud: Cloud, name: str, changes: Changes) -> Body:
    """Make a project be there."""
    key = {"name": name, "domain_id": "default"}
    return ensure(
        cloud, "identity", "projects", key=key, fixed={}, free={"enabled": True}, changes=changes
    )


def grant(cloud: Cloud, project: Body, user_id: str, role_name: str) -> bool:
    """Give a user a role in a project; return whether that was new."""
    role = find_one(cloud, "identity", "roles", {"name": role_name})
    if role is None:
        raise AgentError(
            f"Keystone has no role {role_name}",
            hint="run keystone-manage bootstrap on the controller",
        )
    path = collection("projects", project["id"], "users", user_id, "roles", role["id"])
    try:
        cloud.request("HEAD", "identity", path)
    except ApiError as error:
        if error.status != 404:
            raise
        cloud.request("PUT", "identity", path)
        return True
    return False


def _user(cloud: Cloud, request: Body, project: Body, changes: Changes) -> None:
    name, password = request["demo"]["project"], request["access"]["demo_password"]
    user = find_one(cloud, "identity", "users", {"name": name, "domain_id": "default"})
    if user is None:
        body = {"name": name, "domain_id": "default", "password": password, "description": MARK}
        user = cloud.request("POST", "identity", "/users", {"user": body})["user"]
        grant(cloud, project, user["id"], "member")
        changes.add("user", name, "created")
        return
    outcome = "changed" if grant(cloud, project, user["id"], "member") else "unchanged"
    try:
        Cloud(request["access"], user=name, password=password, project=name).login()
    except ApiError as error:
        if error.status != 401 or not is_ours(user):
            raise
        body = {"password": password, "enabled": True}
        cloud.request("PATCH", "identity", collection("users", user["id"]), {"user": body})
        outcome = "changed"
    changes.add("user", name, outcome)


def _quota(cloud: Cloud, project: Body, wanted: Body, changes: Changes) -> None:
    path = f"/os-quota-sets/{project['id']}"
    wrong = differing(cloud.get("compute", path)["quota_set"], wanted)
    if wrong:
        cloud.request("PUT", "compute", path, {"quota_set": wrong})
    changes.add("quota", project["name"], "changed" if wrong else "unchanged")


def _rules(cloud: Cloud, project: Body, wanted: list[Body], changes: Changes) -> None:
    # Asking for a project's groups makes Neutron create its default one.
    group = find_one(
        cloud, "network", "security_groups", {"name": "default", "project_id": project["id"]}
    )
    if group is None:
        raise AgentError(f"project {project['name']} has no security group default")
    rows = group["security_group_rules"]
    for rule in wanted:
        missing = not any(not differing(row, rule) for row in rows)
        if missing:
            add_rule(cloud, group["id"], project["id"], rule)
        name = " ".join(str(rule[key]) for key in ("protocol", "port_range_min") if rule[key])
        changes.add("security group rule", name, "created" if missing else "unchanged")


def add_rule(cloud: Cloud, group_id: str, project_id: str, rule: Body) -> None:
    """Add a rule to a security group."""
    body = {**rule, "security_group_id": group_id, "project_id": project_id, "description": MARK}
    try:
        cloud.request("POST", "network", "/security-group-rules", {"security_group_rule": body})
    except ApiError as error:
        if error.status != 409:  # an equal rule is there
            raise


def _tenant_network(cloud: Cloud, demo: Body, project: Body, changes: Changes) -> Body:
    name, owner = demo["project"], {"project_id": project["id"]}
    network = ensure(
        cloud,
        "network",
        "networks",
        key={"name": name, **owner},
        fixed={},
        free={},
        changes=changes,
    )
    return ensure(
        cloud,
        "network",
        "subnets",
        key={"name": name, "network_id": network["id"], **owner},
        fixed=demo["subnet"]["fixed"],
        free=demo["subnet"]["free"],
        changes=changes,
    )


def _router(cloud: Cloud, demo: Body, made: Body, network: Body, changes: Changes) -> None:
    project, subnet = made["project"], made["subnet"]
    key = {"name": demo["project"], "project_id": project["id"]}
    router = find_one(cloud, "network", "routers", key)
    if router is None:
        router = create_router(cloud, demo["project"], project["id"], network["id"])
        changes.add("router", demo["project"], "created")
    else:
        gateway = (router["external_gateway_info"] or {}).get("network_id")
        if gateway != network["id"]:
            body = {"router": {"external_gateway_info": {"network_id": network["id"]}}}
            cloud.request("PUT", "network", collection("routers", router["id"]), body)
        same = gateway == network["id"]
        changes.add("router", demo["project"], "unchanged" if same else "changed")
    ports = cloud.list("network", "ports", device_id=router["id"])
    if not any(ip["subnet_id"] == subnet["id"] for port in ports for ip in port["fixed_ips"]):
        join_router(cloud, router["id"], subnet["id"])
        changes.add("router interface", demo["project"], "created")
    else:
        changes.add("router interface", demo["project"], "unchanged")


def create_router(cloud: Cloud, name: str, project_id: str, external_id: str) -> Body:
    """Create a router with its gateway on the external network."""
    body = {
        "name": name,
        "project_id": project_id,
        "external_gateway_info": {"network_id": external_id},
        "description": MARK,
    }
    return dict(cloud.request("POST", "network", "/routers", {"router": body})["router"])


def join_router(cloud: Cloud, router_id: str, subnet_id: str) -> None:
    """Give a router an interface in a subnet."""
    path = collection("routers", router_id, "add_router_interface")
    cloud.request("PUT", "network", path, {"subnet_id": subnet_id})
