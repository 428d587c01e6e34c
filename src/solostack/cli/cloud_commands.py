"""The verbs that make, show, prove and remove a cloud: bake, up, status, verify, down.

Owns their arguments, the question before a change, and nothing of what they do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import cloud_view, down_view
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.errors import UsageError
from solostack.flows.verify_parts import Part

if TYPE_CHECKING:
    from solostack.flows.verify import VerifyReport
    from solostack.site.loader import LoadedSite

DEFAULT_SITE = Path("site.yaml")
SiteFile = Annotated[Path, typer.Option("--file", "-f", help="The site file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and end.")]
_EXAMPLES = {
    "bake": ("solostack bake", "solostack bake --local"),
    "up": (
        "solostack up",
        "solostack up -f lab.yaml --yes",
        "solostack up --dry-run",
        "solostack up --verify disks --verify objects",
    ),
    "status": ("solostack status", "solostack status --json"),
    "verify": ("solostack verify", "solostack verify --only disks --only objects"),
    "launch": ("solostack launch hello", "solostack launch hello --address 198.51.100.0"),
    "down": ("solostack down", "solostack down --yes --remove-packages"),
}


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command in (bake, up, status, verify, launch, down):
        app.command(epilog=examples(*_EXAMPLES[command.__name__]))(command)


def bake(
    *,
    file: SiteFile = DEFAULT_SITE,
    local: Annotated[
        bool, typer.Option("--local", help="Into this machine's own cache, without a site.")
    ] = False,
    json: Json = False,
) -> None:
    """Build the trees that nodes are made of, ahead of `up`; what is cached is left alone."""
    # Late, as below: the flows and all below them are not needed to show help.
    from solostack.flows import bake as flow

    with open_progress() as progress:
        if local:
            trees = flow.bake_trees((*flow.node_recipes(), flow.lab_host_recipe()), progress)
        else:
            trees = flow.bake_on_hosts(load_site(file), progress)
    cloud_view.show_trees(trees, progress.timings, json=json)


def up(
    *,
    file: SiteFile = DEFAULT_SITE,
    yes: Yes = False,
    dry_run: DryRun = False,
    verify: Annotated[
        list[Part] | None,
        typer.Option(
            metavar="<part>",
            help=f"At the end prove only this part, more than once if wanted: {', '.join(Part)}.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make the cloud: plan, show, ask, then do only what is missing; ends verified.

    Safe to repeat: on a finished cloud nothing changes, an interrupted run goes on. After a small
    change `--verify` saves minutes; a cloud that was never proven whole stays to be verified.
    """
    from solostack.flows.up import open_up

    loaded = load_site(file)
    with open_up(loaded) as run:
        run.require_parts(verify or ())
        with open_progress() as progress:
            pending = run.survey(progress)
        if not pending or dry_run:
            cloud_view.show_pending(pending, json=json)
            return
        with open_progress() as progress:
            run.require_fit(progress)
        if not json:
            cloud_view.show_pending(pending, json=False)
        _agree(yes=yes, question=f"make this so on {', '.join(run.hosts)}?")
        with open_progress() as progress:
            report = run.work(progress, only=verify or ())
        cloud_view.show_up(run, report, progress.timings, json=json)
    _require(report)


def status(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Show hosts, nodes, services, agents and instances at a glance."""
    from solostack.flows.status import status_of

    with open_progress() as progress:
        value = status_of(load_site(file), progress)
    cloud_view.show_status(value, json=json)


def verify(
    *,
    file: SiteFile = DEFAULT_SITE,
    only: Annotated[
        list[Part] | None,
        typer.Option(
            metavar="<part>",
            help=f"Only this part, more than once if wanted: {', '.join(Part)}.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Prove the cloud: services, then a real instance with a floating IP, from here.

    Everything it makes it removes. Ends with status 9 when a check fails.
    """
    from solostack.flows.verify import verify_site

    with open_progress() as progress:
        report = verify_site(load_site(file), progress, only=only or ())
    cloud_view.show_verify(report, json=json)
    _require(report)


def launch(
    name: Annotated[str, typer.Argument(help="The instance's name.")],
    *,
    file: SiteFile = DEFAULT_SITE,
    address: Annotated[
        str, typer.Option(help="A public address of the block; auto takes any free one.")
    ] = "auto",
    json: Json = False,
) -> None:
    """Start a tiny instance of the first project with a floating IP; it serves a web page."""
    from solostack.flows.launch import launch_in

    with open_progress() as progress:
        server = launch_in(load_site(file), name, address, progress)
    cloud_view.show_server(server, json=json)


def down(
    *,
    file: SiteFile = DEFAULT_SITE,
    yes: Yes = False,
    remove_packages: Annotated[
        bool, typer.Option("--remove-packages", help="Remove the packages that up installed, too.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Also a cloud of this site whose state is lost or elsewhere."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Remove the cloud, its nodes and every change to the hosts, from the ledger kept there.

    Then compare each host with its state of before and show what differs. Hosts of other sites
    are never touched.
    """
    from solostack.flows.down import open_down

    loaded = load_site(file)
    with open_down(loaded, take_over=take_over) as run:
        with open_progress() as progress:
            run.look(progress)
        _agree(yes=yes, question=f"remove the cloud {loaded.site.name} and all it holds?")
        with open_progress() as progress:
            undone = run.work(progress, remove_packages=remove_packages)
        down_view.show_down(undone, json=json)


def _require(report: VerifyReport) -> None:
    failure = report.failure()
    if failure is not None:
        raise failure


def load_site(file: Path) -> LoadedSite:
    """Load a site file; the loader is imported late, as help must answer at once."""
    from solostack.site.loader import load_site as load

    return load(file)


def _agree(*, yes: bool, question: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this changes hosts, and nobody is here to ask", hint="add --yes")
    if not typer.confirm(question, err=True):
        raise UsageError("stopped at the question; nothing was changed")
