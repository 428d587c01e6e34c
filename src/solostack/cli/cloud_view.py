"""How the results of bake, up, status, verify and down look to people, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from solostack.cli import render
from solostack.cli.progress import timing_report, timings_value
from solostack.doors.progress import Timing

if TYPE_CHECKING:
    from solostack.flows.status import DoorStatus, Status
    from solostack.flows.up import Pending, Up
    from solostack.flows.verify import VerifyReport

SHOWN_CONSOLE_LINES = 12


def show_trees(trees: Mapping[str, str], timings: Sequence[Timing], *, json: bool) -> None:
    """Show where each tree is."""
    if json:
        render.print_json({"trees": trees, "timings": timings_value(timings)})
        return
    render.print_table(("tree", "where"), tuple(trees.items()))


def show_pending(pending: Sequence[Pending], *, json: bool) -> None:
    """Show what `up` would do."""
    if json:
        render.print_json({"pending": list(pending)})
        return
    if not pending:
        render.show("nothing to do: everything is as planned")
        return
    render.print_table(("where", "to do"), [(one.where, one.what) for one in pending])


def show_up(run: Up, report: VerifyReport, timings: Sequence[Timing], *, json: bool) -> None:
    """Show how `up` went: checks, times, and where the credentials are."""
    # Late: what describes sites is not needed to show help.
    from solostack.site.model import Role

    directory = run.deployment.state.directory
    if json:
        render.print_json(
            {
                "site": run.deployment.plan.site,
                "pending": list(run.pending),
                "verify": verify_value(report),
                "timings": timings_value(timings),
                "credentials": str(directory),
                "dashboard": _dashboard_url(run),
            }
        )
        return
    show_verify(report, json=False)
    render.show(timing_report(timings))
    render.show(f"credentials: {directory}/clouds.yaml, admin-openrc, openrc")
    if url := _dashboard_url(run):
        render.show(f"dashboard: {url}/ (names and passwords: clouds.yaml)")
    if run.deployment.plan.has(Role.DIRECTORY):
        render.show(f"first passwords of the site's users: {directory}/first-passwords")


def _dashboard_url(run: Up) -> str:
    plan = run.deployment.plan
    return plan.front_door.url if plan.dashboard and plan.front_door else ""


def show_verify(report: VerifyReport, *, json: bool) -> None:
    """Show every check: result, time taken, what was seen."""
    if json:
        render.print_json(verify_value(report))
        return
    rows = [
        (
            "skipped" if one.skipped else "ok" if one.ok else "FAILED",
            one.name,
            f"{one.seconds:.1f} s",
            one.detail,
        )
        for one in report.results
    ]
    render.print_table(("result", "check", "time", "seen"), rows)
    if report.ok:
        render.show(f"verified: {len(rows)} checks in {report.seconds:.0f} s")
        return
    for name, console in report.consoles.items():
        render.show(f"console of {name}, its end:")
        for line in console.splitlines()[-SHOWN_CONSOLE_LINES:] or ["(nothing)"]:
            # What a guest writes must not command the operator's terminal.
            render.show("  " + "".join(filter(str.isprintable, line)))


def verify_value(report: VerifyReport) -> dict[str, object]:
    """Return a verify report as its JSON value; with instances' consoles when a check failed."""
    value = {"ok": report.ok, "seconds": round(report.seconds, 1), "checks": list(report.results)}
    return value if report.ok else {**value, "consoles": dict(report.consoles)}


def show_status(value: Status, *, json: bool) -> None:
    """Show everything at a glance."""
    if json:
        render.print_json(value)
        return
    _show_hosts(value)
    _show_nodes(value)
    if value.front_door is not None:
        _show_door(value.front_door)
    if value.cloud is None:
        render.show(f"cloud: {value.cloud_error}")
        return
    _show_cloud(value.cloud)


def _show_hosts(value: Status) -> None:
    rows = [
        (
            host.name,
            host.address,
            None if host.load is None else f"{host.load:.2f}",
            None
            if host.memory_mib is None
            else f"{host.memory_available_mib} of {host.memory_mib} MiB",
            host.disk_free_gib,
            host.error or _services(host.services, host.failed_units),
        )
        for host in value.hosts
    ]
    columns = ("host", "address", "load", "memory free", "disk free GiB", "services")
    render.print_table(columns, rows)


def _services(services: Mapping[str, str], failed: Sequence[str]) -> str:
    bad = [f"{name} {state}" for name, state in services.items() if state != "active"]
    bad += [f"{name} failed" for name in failed if name not in services]
    return ", ".join(bad) or "all active"


def _show_nodes(value: Status) -> None:
    rows = [
        (
            node.name,
            node.host,
            node.runtime,
            node.address,
            node.machine,
            ", ".join(node.failed_units) or node.system,
        )
        for node in value.nodes
    ]
    render.print_table(("node", "host", "runtime", "address", "machine", "system"), rows)


def _show_door(door: DoorStatus) -> None:
    render.print_table(
        ("front door", "state", "seen"), [(door.url, "up" if door.ok else "BAD", door.detail)]
    )
    if door.hint:
        render.show(f"  next: {door.hint}")


def _show_cloud(cloud: Mapping[str, Any]) -> None:
    services = [(row["host"], row["binary"], row["state"]) for row in cloud["compute_services"]]
    services += [
        (row["host"], row["type"], "up" if row["alive"] else "down") for row in cloud["agents"]
    ]
    render.print_table(("machine", "service", "state"), services)
    if cloud["hypervisors"]:
        _show_hypervisors(cloud["hypervisors"])
    if cloud["servers"]:
        _show_instances(cloud["servers"])


def _show_hypervisors(rows: Sequence[Mapping[str, Any]]) -> None:
    keys = ("vcpus", "memory_mib", "disk_gib")
    cells = [(row["host"], *(f"{row[key][0]} of {row[key][1]}" for key in keys)) for row in rows]
    render.print_table(("compute host", "vCPUs", "memory MiB", "disk GiB"), cells)


def _show_instances(rows: Sequence[Mapping[str, Any]]) -> None:
    cells = [
        (
            row["name"],
            row["project"],
            row["fault"] or row["status"],
            row["host"],
            " ".join(row["fixed"]),
            " ".join(row["floating_ips"]) or None,
        )
        for row in rows
    ]
    columns = ("instance", "project", "status", "host", "address", "floating IP")
    render.print_table(columns, cells)


def show_server(server: Mapping[str, Any], *, json: bool) -> None:
    """Show a launched instance and how to reach it."""
    if json:
        render.print_json(server)
        return
    address = server["floating"]
    render.show(f"{server['name']} is {server['status']} at {address}: curl http://{address}/")
