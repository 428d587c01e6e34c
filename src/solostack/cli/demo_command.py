"""`solostack demo`: the whole way on a simulated host, from nothing to a floating IP that answers.

Owns the order of the steps. Every step is a command that a user could type, and is shown as one.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.doors.process import interactive

if TYPE_CHECKING:
    from solostack.lab.lab import Lab

# The network node brings its own kernel, as a VM does; the controller's Python services would take
# minutes to start where a VM has to be emulated.
_RUNTIMES = """nodes:
  controller: {runtime: container}
  network: {runtime: vm}
"""
Name = Annotated[str, typer.Option("--name", help="The lab's name, and the site's.")]
Keep = Annotated[bool, typer.Option("--keep/--remove", help="Keep the cloud at the end.")]

_USE = """
The cloud is up. It lives in the lab "{name}": one simulated host with one network card. Two
instances serve a page on the first and the last address of the public block.

  ping it       {me} lab upstream -n {name} -- ping -c3 198.51.100.0
  read it       {me} lab upstream -n {name} -- curl http://198.51.100.15/
  look          {me} lab upstream -n {name} -- {me} status -f {site}
  prove again   {me} lab upstream -n {name} -- {me} verify -f {site}
  inventory     {me} lab exec -n {name} phys1 -- virsh list --all
  use it        the controller has the openstack client; credentials are in {state}
  remove        {me} lab upstream -n {name} -- {me} down -f {site} --yes
                {me} lab down -n {name}
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(epilog=examples("solostack demo", "solostack demo --remove"))(demo)


def demo(*, name: Name = "demo", keep: Keep = True) -> None:
    """Build a whole cloud on a simulated physical host, prove it, and say how to use it.

    Nothing outside network namespaces and ~/.cache, ~/.local is touched.
    """
    from solostack.flows import bake
    from solostack.flows.state import state_home
    from solostack.lab.lab import Lab, Wanted

    with open_progress() as progress:
        progress.announce(("trees", "lab"))
        recipes = (*bake.node_recipes(), bake.lab_host_recipe())
        trees = bake.bake_trees(recipes, progress)
        lab = Lab(name, progress=progress)
        lab.up(Wanted(host_tree=Path(trees["host"]), cache=bake.cache_home()))
    site = _site_file(lab)
    me = (sys.executable, "-m", "solostack")
    _run(lab, (*me, "up", "-f", str(site), "--yes"))
    for instance, address in (("first", "198.51.100.0"), ("last", "198.51.100.15")):
        _run(lab, (*me, "launch", "-f", str(site), instance, "--address", address))
    render.show(
        _USE.format(name=name, me="solostack", site=site, state=state_home() / "sites" / name)
    )
    if not keep:
        _run(lab, (*me, "down", "-f", str(site), "--yes"))
        lab.down()


def _site_file(lab: Lab) -> Path:
    """Write the demo's site: the lab's own, with the runtimes that work without KVM."""
    path = lab.state.directory / "demo-site.yaml"
    text = lab.state.site_file.read_text()
    path.write_text(text + _RUNTIMES)
    return path


def _run(lab: Lab, command: tuple[str, ...]) -> None:
    """Run one of our own commands at the provider's end of the wire, as an operator would."""
    render.show_error_text(f"$ solostack lab upstream -n {lab.name} -- {shlex.join(command)}")
    status = interactive(lab.upstream_argv(command))
    if status != 0:
        raise typer.Exit(status)
