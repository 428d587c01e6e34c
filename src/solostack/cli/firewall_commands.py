"""`solostack firewall`: what the hosts let in, refuse and rewrite, in words and with counters.

Owns its arguments and how the rules look. Must not know how they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.cli.site_commands import DEFAULT_SITE, Json, SiteFile, read_facts
from solostack.errors import UsageError

if TYPE_CHECKING:
    from solostack.flows.firewall import HostFirewall
    from solostack.host.firewall_live import ShownRule

_EXAMPLES = (
    "solostack firewall",
    "solostack firewall --host phys1 --json",
    "solostack firewall --planned",
)
_HEADINGS = {
    "outside": "from outside in",
    "wire": "between the wire and the block",
    "instances": "from instances",
    "data": "from the data side",
    "outward": "outward",
    "arp": "ARP on the wire",
}
_STYLES = {"allowed": "green", "refused": "red", "rewritten": "cyan"}


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(epilog=examples(*_EXAMPLES))(firewall)


def firewall(
    *,
    file: SiteFile = DEFAULT_SITE,
    host: Annotated[str, typer.Option("--host", help="This host only.")] = "",
    planned: Annotated[
        bool, typer.Option("--planned", help="From the plan alone; no host is asked.")
    ] = False,
    facts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --planned: the hosts' facts as JSON."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what each host lets in, refuses and rewrites, with packets and bytes.

    In the order of a packet's way; in each stage of it the first rule that fits decides. Counters
    start at 0 when the rules are loaded. Changes nothing.
    """
    from solostack.flows import firewall as flow
    from solostack.site.loader import load_site

    if facts and not planned:
        raise UsageError("--facts is for --planned", hint="solostack firewall --planned --facts F")
    loaded = load_site(file)
    if planned:
        known = read_facts(facts) if facts else None
        found = flow.planned_firewalls(loaded, known, only=host)
    else:
        with open_progress() as progress:
            found = flow.live_firewalls(loaded, progress, only=host)
    if json:
        render.print_json({"hosts": list(found)})
        return
    for each in found:
        _show(each)


def _show(value: HostFirewall) -> None:
    title = Text(value.host, style="bold")
    if value.loaded is None:
        title.append("  as planned; not asked", style="dim")
    render.show(title)
    if value.loaded is False:
        render.show("  the firewall is not loaded: nothing is kept out")
    else:
        render.show(_grid(value.rules, counted=value.loaded is not None))
    for what, rules in (("planned, not loaded", value.missing), ("not planned", value.unknown)):
        if rules and value.loaded:
            render.show(Text(f"  {what}:", style="yellow"))
            render.show(_grid(rules, counted=False))
    if value.advice:
        render.show(f"  next: {value.advice}")


def _grid(rules: Sequence[ShownRule], *, counted: bool) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    if counted:
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
    way = ""
    for rule in rules:
        if rule.way != way:
            way = rule.way
            head = (Text("packets", style="dim"), Text("bytes", style="dim")) if counted else ()
            grid.add_row("", Text(_HEADINGS[way], style="bold"), *head)
        meaning = str(rule.meaning)
        numbers = (str(rule.packets), str(rule.bytes)) if counted else ()
        grid.add_row(
            Text(f"  {meaning}", style=_STYLES[meaning]),
            Text(render.printable(rule.words)),
            *numbers,
        )
    return grid
