"""The ``lab`` commands: simulated physical hosts and their provider.

Owns their arguments and how their results look. Must not know how a lab is made.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.doors.process import interactive
from solostack.doors.progress import Progress
from solostack.lab.lab import DEFAULT_NAME, Lab, LabStatus, Wanted
from solostack.lab.spec import Provider
from solostack.lab.state import list_labs

lab_app = typer.Typer(
    name="lab",
    help="Simulated physical hosts with one network card each, and a simulated provider.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples(
        "solostack lab up", "solostack lab upstream -- ping -c1 203.0.113.2", "solostack lab down"
    ),
)

Name = Annotated[
    str, typer.Option("--name", "-n", envvar="SOLOSTACK_LAB", help="Which lab; several may be up.")
]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the lab, as phys1.")]
Command = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- COMMAND...", help="What to run; a shell when left out."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Tree = Annotated[
    Path | None,
    typer.Option(
        "--host-tree",
        envvar="SOLOSTACK_LAB_HOST_TREE",
        help="The root of new hosts; baked when left out.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Trees and images, shown to the hosts; ~/.cache/solostack when left out."),
]
Hosts = Annotated[int | None, typer.Option(min=1, help="How many hosts; 1 when left out.")]
Kind = Annotated[
    Provider | None,
    typer.Option(
        help="How the provider hands out addresses: routed (a /28 is routed to phys1; default), "
        "on-link (it looks for each address of a /29 on the wire), scattered (single addresses on "
        "the wire, hosts have a /32), mac-filter (on-link, and frames with a foreign MAC are "
        "dropped and counted), single (a host's own address is all there is)."
    ),
]
# Everything after the first word belongs to the command that is run.
_PASS_ON = {"allow_interspersed_args": False, "ignore_unknown_options": True}
_UP = examples(
    "solostack lab up",
    "solostack lab up --name wide --hosts 2 --provider on-link",
    "solostack lab up --name strict --provider mac-filter",
)
_EXEC = examples("solostack lab exec phys1 -- systemctl --failed", "solostack lab exec phys1")
_UPSTREAM = examples(
    "solostack lab upstream -- ping -c3 198.51.100.0",
    "solostack lab upstream -- solostack status",
)


@lab_app.command(epilog=_UP)
def up(
    *,
    name: Name = DEFAULT_NAME,
    hosts: Hosts = None,
    provider: Kind = None,
    host_tree: Tree = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Make a lab, or what is missing of it, and wait until its hosts can be entered."""
    wanted = Wanted(host_tree=host_tree, cache=cache, hosts=hosts, provider=provider)
    with open_progress() as progress:
        lab = Lab(name, progress=progress)
        if host_tree is None and lab.needs_tree(wanted):
            wanted = dataclasses.replace(wanted, host_tree=_bake_host(cache, progress))
        status = lab.up(wanted)
    _show(status, json=json)


@lab_app.command(epilog=examples("solostack lab down", "solostack lab down --name wide"))
def down(*, name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Remove a lab: hosts, namespaces, files. Also after a crash half-way."""
    with open_progress() as progress:
        removed = Lab(name, progress=progress).down()
    if json:
        render.print_json({"name": name, "removed": list(removed)})
        return
    for thing in removed:
        render.show(f"removed {thing}")
    if not removed:
        render.show(f"nothing to remove: there is no lab called {name}")


@lab_app.command(epilog=examples("solostack lab status", "solostack lab status --json"))
def status(*, name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Show a lab's hosts."""
    _show(Lab(name).status(), json=json)


@lab_app.command("list", epilog=examples("solostack lab list"))
def list_(*, json: Json = False) -> None:
    """List the labs that are there."""
    names = list_labs()
    if json:
        render.print_json(list(names))
    else:
        render.show("\n".join(names) or "no labs; make one: solostack lab up")


@lab_app.command("exec", context_settings=_PASS_ON, epilog=_EXEC)
def exec_(host: HostName, command: Command = None, *, name: Name = DEFAULT_NAME) -> None:
    """Run a command as root on a host's console, which needs no network."""
    raise typer.Exit(interactive(Lab(name).host_argv(host, _words(command, "/bin/bash"))))


@lab_app.command(context_settings=_PASS_ON, epilog=_UPSTREAM)
def upstream(command: Command = None, *, name: Name = DEFAULT_NAME) -> None:
    """Run a command of this machine at the provider's end of the wire, as an operator would."""
    raise typer.Exit(interactive(Lab(name).upstream_argv(_words(command, "/bin/sh"))))


@lab_app.command(epilog=examples("solostack lab reboot phys1"))
def reboot(host: HostName, *, name: Name = DEFAULT_NAME) -> None:
    """Reboot a host cleanly and wait for it."""
    with open_progress() as progress:
        Lab(name, progress=progress).reboot(host)


@lab_app.command(epilog=examples("solostack lab kill phys1"))
def kill(host: HostName, *, name: Name = DEFAULT_NAME) -> None:
    """Cut a host's power: everything on it ends at once."""
    Lab(name).kill(host)
    render.show(f"{host} is off; switch it on: solostack lab start {host} --name {name}")


@lab_app.command(epilog=examples("solostack lab start phys1"))
def start(host: HostName, *, name: Name = DEFAULT_NAME) -> None:
    """Switch a host on and wait for it."""
    with open_progress() as progress:
        Lab(name, progress=progress).start(host)


@lab_app.command(epilog=examples("solostack lab unplug phys1"))
def unplug(host: HostName, *, name: Name = DEFAULT_NAME) -> None:
    """Pull a host's network cable; it stays pulled over reboots."""
    Lab(name).unplug(host)


@lab_app.command(epilog=examples("solostack lab plug phys1"))
def plug(host: HostName, *, name: Name = DEFAULT_NAME) -> None:
    """Put a host's network cable back."""
    Lab(name).plug(host)


def _bake_host(cache: Path | None, progress: Progress) -> Path:
    # Late: images and all below them are not needed to enter a host.
    from solostack.flows.bake import bake_trees, lab_host_recipe

    recipe = lab_host_recipe()
    where = None if cache is None else str(cache.absolute())
    return Path(bake_trees((recipe,), progress, cache=where)[recipe.name])


def _words(command: list[str] | None, default: str) -> list[str]:
    words = list(command or ())
    if words[:1] == ["--"]:
        del words[0]
    return words or [default]


def _show(status: LabStatus, *, json: bool) -> None:
    if json:
        render.print_json(dataclasses.asdict(status))
        return
    render.show(f"lab {status.name}, provider {status.provider}, in {status.directory}")
    if not status.upstream:
        render.show(f"its provider is gone; mend it: solostack lab up --name {status.name}")
    filtered = any(host.violations is not None for host in status.hosts)
    titles = ["host", "address", "power", "systemd", "cable"]
    rows = [
        [host.name, host.address, host.condition, host.system, "in" if host.plugged else "pulled"]
        for host in status.hosts
    ]
    if filtered:
        titles.append("foreign frames")
        for row, host in zip(rows, status.hosts, strict=True):
            row.append(str(host.violations))
    render.print_table(titles, rows)
