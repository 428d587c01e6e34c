"""`solostack diagram`: the topology as an operator would draw it.

Owns its arguments and where the picture goes. Must not know what is in it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.cli.site_commands import DEFAULT_SITE, Json, SiteFile, plan_of
from solostack.errors import UsageError

if TYPE_CHECKING:
    from solostack.flows.picture import Format

STDOUT = Path("-")
_EXAMPLES = (
    "solostack diagram",
    "solostack diagram -o topology.png",
    "solostack diagram --live -o now.html",
    "solostack diagram --facts facts.json -o - > topology.svg",
)


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(epilog=examples(*_EXAMPLES))(diagram)


def diagram(
    *,
    file: SiteFile = DEFAULT_SITE,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A .svg, .png or .html file; - is SVG to the pipe."),
    ] = Path("topology.svg"),
    live: Annotated[
        bool, typer.Option("--live", help="Ask what is there; mark what is absent or failed.")
    ] = False,
    facts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The hosts' facts as JSON, instead of asking them."),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the topology: provider, card, routes, bridges, nodes, instances.

    From the plan alone only the hosts' facts are asked for, once. PNG needs rsvg-convert (Debian's
    librsvg2-bin). With --json what is drawn is printed as data, and nothing is written.
    """
    from solostack.doors.process import LocalExecutor
    from solostack.flows import picture
    from solostack.flows.status import status_of
    from solostack.site.loader import load_site

    kind = picture.Format.SVG if output == STDOUT else _format(output)
    loaded = load_site(file)
    status = None
    if live:
        with open_progress() as progress:
            status = status_of(loaded, progress)
    topology = picture.build_site_topology(plan_of(loaded, facts), status)
    if json:
        render.print_json(topology)
        return
    content = picture.render_picture(topology, kind, LocalExecutor())
    if output == STDOUT:
        sys.stdout.write(content.decode())
        return
    _write(output, content)
    render.show(f"wrote {output}")


def _format(path: Path) -> Format:
    from solostack.flows.picture import Format

    try:
        return Format(path.suffix.removeprefix(".").lower())
    except ValueError:
        kinds = ", ".join(f".{kind}" for kind in Format)
        raise UsageError(
            f"cannot tell from {path.name} what to write",
            hint=f"end the name in one of {kinds}",
        ) from None


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
