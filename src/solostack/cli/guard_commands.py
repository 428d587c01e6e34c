"""The network guard of a site's hosts, by hand: guard status, confirm, rollback.

Owns their arguments and how results look. Must not know how a host takes a change back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples

if TYPE_CHECKING:
    from solostack.host.guard import GuardStatus
    from solostack.site.loader import LoadedSite

# What does the work is imported late: help and completion must answer at once.

DEFAULT_SITE = Path("site.yaml")
SiteFile = Annotated[Path, typer.Option("--file", "-f", help="The site file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
OneHost = Annotated[
    str, typer.Option("--host", help="This host only; all hosts of the site otherwise.")
]

guard_app = typer.Typer(
    name="guard",
    help="Changes of a host's network that wait for their confirmation: look, keep, take back.\n\n"
    "Every change of a host's network is made under a timer that runs on the host. It is kept only "
    "when a new connection through its network card confirms it. `up` does all this by itself.",
    no_args_is_help=True,
    epilog=examples("solostack guard status", "solostack guard rollback --host phys1"),
)


@guard_app.command(epilog=examples("solostack guard status", "solostack guard status --json"))
def status(*, file: SiteFile = DEFAULT_SITE, host: OneHost = "", json: Json = False) -> None:
    """Show what waits for its confirmation, and how the last change ended. Changes nothing."""
    from solostack.flows import guarded

    _show(guarded.status_of(_load(file), host), json=json)


@guard_app.command(
    epilog=examples("solostack guard confirm", "solostack guard confirm --host phys1")
)
def confirm(*, file: SiteFile = DEFAULT_SITE, host: OneHost = "", json: Json = False) -> None:
    """Keep the change, if a new connection through the host's network card gets through.

    Ends with status 4 when the host does not take the connection as a proof, or nothing waits.
    """
    from solostack.flows import guarded

    _show(guarded.confirm_by_hand(_load(file), host), json=json)


@guard_app.command(
    epilog=examples("solostack guard rollback", "solostack guard rollback --host phys1 --json")
)
def rollback(*, file: SiteFile = DEFAULT_SITE, host: OneHost = "", json: Json = False) -> None:
    """Take the change back now, without waiting for the timer.

    Ends with status 4 when nothing waits.
    """
    from solostack.flows import guarded

    _show(guarded.rollback_by_hand(_load(file), host), json=json)


def _load(file: Path) -> LoadedSite:
    from solostack.site.loader import load_site

    return load_site(file)


def _show(seen: Mapping[str, GuardStatus], *, json: bool) -> None:
    if json:
        render.print_json({"hosts": seen})
        return
    render.print_table(
        ("host", "waiting", "left", "last change", "how it ended"),
        [(name, *_row(each)) for name, each in seen.items()],
    )
    for name, each in seen.items():
        if each.last is not None:
            for line in each.last.differs:
                render.show(f"{name}: not as before: {line}")


def _row(each: GuardStatus) -> tuple[object, ...]:
    if not each.installed:
        return (None, None, None, "no guard is installed there yet")
    waiting = each.what if each.armed else None
    left = f"{each.seconds_left:.0f} s" if each.armed else None
    last = each.last
    if last is None:
        return (waiting, left, None, None)
    return (waiting, left, last.what, f"{last.result}: {last.why}")
