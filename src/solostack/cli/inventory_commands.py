"""The verbs domains and disks: the inventory of any libvirt host; they need no site file.

Owns their arguments and their output. Must not know libvirt, nor how a value was found.
"""

from __future__ import annotations

import contextlib
import csv
import enum
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, NoReturn

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.inventory_tables import disks_table, domains_table
from solostack.doors.clock import Clock, SystemClock
from solostack.doors.hypervisor import DEFAULT_TIMEOUT_S, connect
from solostack.errors import UsageError
from solostack.inventory import documents
from solostack.inventory.listing import DEFAULT_ADDRESSES
from solostack.inventory.model import AddressSource
from solostack.inventory.nodes import node_executor
from solostack.inventory.selection import (
    DISK_KEYS,
    DOMAIN_KEYS,
    check_order,
    parse_owners,
    parse_states,
)
from solostack.inventory.snapshot import (
    Disks,
    Machines,
    Wanted,
    read_disks,
    read_machines,
)

DEFAULT_INTERVAL_S = 2.0
ASKABLE = (AddressSource.LEASE, AddressSource.ARP, AddressSource.AGENT)

Connect = Annotated[
    str | None,
    typer.Option(
        "--connect",
        "-c",
        metavar="URI",
        envvar="LIBVIRT_DEFAULT_URI",
        help="Any libvirt URI; qemu:///system by default.",
    ),
]
State = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Only these, as running or shutoff; also active, inactive. Repeat, or use commas.",
    ),
]
Owner = Annotated[
    list[str] | None,
    typer.Option(
        "--owner",
        metavar="OWNER",
        help="Only those of solostack, nova or other; also solostack/SITE, nova/NAME.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV with a line of column names.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for libvirt."),
]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.command(epilog=examples(*_DOMAINS_EXAMPLES))(domains)
    app.command(epilog=examples(*_DISKS_EXAMPLES))(disks)


_DOMAINS_EXAMPLES = (
    "solostack domains",
    "solostack domains --state running --sort=-memory",
    "solostack domains --connect qemu+ssh://root@host/system --owner nova --json",
    "solostack domains --watch",
)
_DISKS_EXAMPLES = (
    "solostack disks",
    "solostack disks controller --json",
    "solostack disks --connect qemu+ssh://root@host/system --sort=-capacity --csv > disks.csv",
)


def domains(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names, UUIDs or ids.")
    ] = None,
    *,
    uri: Connect = None,
    state: State = None,
    owner: Owner = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help=f"{', '.join(DOMAIN_KEYS)}; -KEY for descending.")
    ] = "name",
    addresses: Annotated[
        list[AddressSource] | None,
        typer.Option(
            metavar="WHOM",
            help="Whom to ask for addresses: lease (the default), arp, agent. Repeat for several.",
        ),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again.")] = False,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Time between two readings.")
    ] = DEFAULT_INTERVAL_S,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    """List the domains of a libvirt host.

    Control nodes that run as containers on the host are listed too. Nothing is changed.
    """
    output = _output(as_json=as_json, as_csv=as_csv)
    if watch and output is Output.CSV:
        raise UsageError("--watch and --csv do not go together", hint="use --watch --json")
    wanted = Wanted(
        names=tuple(names or ()),
        states=parse_states(state or ()),
        owners=parse_owners(owner or ()),
        order=sort,
        addresses=_sources(addresses),
    )
    check_order(sort, DOMAIN_KEYS)
    # libvirt lets only read-write connections talk to guest agents.
    read_only = AddressSource.AGENT not in wanted.addresses
    with connect(uri, read_only, timeout_s=timeout) as conn:
        executor = node_executor(conn.uri)
        if watch:
            _watch(lambda: read_machines(conn, wanted, executor), output, interval, SystemClock())
        else:
            _print_machines(read_machines(conn, wanted, executor), output)


def disks(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="DOMAIN", help="Names, UUIDs or ids of domains."),
    ] = None,
    *,
    uri: Connect = None,
    state: State = None,
    owner: Owner = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help=f"{', '.join(DISK_KEYS)}; -KEY for descending.")
    ] = "domain",
    sizes: Annotated[
        bool, typer.Option("--sizes/--no-sizes", help="Ask for sizes: one more call of libvirt.")
    ] = True,
    as_json: Json = False,
    as_csv: Csv = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    """List the disks of a libvirt host's domains.

    Every disk element is listed, with or without a source. Nothing is changed.
    """
    output = _output(as_json=as_json, as_csv=as_csv)
    wanted = Wanted(
        names=tuple(names or ()),
        states=parse_states(state or ()),
        owners=parse_owners(owner or ()),
        order=sort,
        sizes=sizes,
    )
    check_order(sort, DISK_KEYS)
    with connect(uri, timeout_s=timeout) as conn:
        _print_disks(read_disks(conn, wanted), output)


class Output(enum.Enum):
    """The form of the result."""

    TABLE = enum.auto()
    JSON = enum.auto()
    CSV = enum.auto()


def _output(*, as_json: bool, as_csv: bool) -> Output:
    if as_json and as_csv:
        raise UsageError("--json and --csv do not go together", hint="use one of them")
    return Output.JSON if as_json else Output.CSV if as_csv else Output.TABLE


def _sources(chosen: Sequence[AddressSource] | None) -> tuple[AddressSource, ...]:
    for source in chosen or ():
        if source not in ASKABLE:
            raise UsageError(
                f"--addresses: {source} cannot be asked",
                hint=f"use one of {', '.join(ASKABLE)}",
            )
    return tuple(chosen) if chosen else DEFAULT_ADDRESSES


def _print_machines(found: Machines, output: Output) -> None:
    match output:
        case Output.JSON:
            render.print_json(documents.domains_document(found.source, found.domains, found.nodes))
        case Output.CSV:
            _print_csv(documents.DOMAIN_COLUMNS, map(documents.domain_row, found.machines))
        case Output.TABLE:
            if found.machines:
                console = render.console()
                console.print(domains_table(found.machines, console.width))
            _print_notes(found.source, empty="" if found.machines else "no domains")


def _print_disks(found: Disks, output: Output) -> None:
    match output:
        case Output.JSON:
            render.print_json(documents.disks_document(found.source, found.disks))
        case Output.CSV:
            _print_csv(documents.DISK_COLUMNS, map(documents.disk_row, found.disks))
        case Output.TABLE:
            if found.disks:
                console = render.console()
                console.print(disks_table(found.disks, console.width))
            _print_notes(found.source, empty="" if found.disks else "no disks")


def _print_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)


def _print_notes(source: documents.Source, *, empty: str) -> None:
    if empty:
        render.show_error_text(f"{empty} at {source.uri}")
    for note in source.notes:
        render.show_error_text(f"note: {note}")


def _watch(
    read: Callable[[], Machines], output: Output, interval_s: float, clock: Clock
) -> NoReturn:
    """Show a reading every interval_s until somebody interrupts.

    A terminal's screen is used as top(1) does; anything else gets one reading after the other,
    JSON as one line each (jsonlines.org).
    """
    console = render.console()
    with contextlib.ExitStack() as stack:
        live = None
        if output is Output.TABLE and console.is_terminal:
            live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
        while True:
            found = read()
            if live is not None:
                # The window may have been resized since.
                console.width = shutil.get_terminal_size().columns
                live.update(_screen(found, console.width, clock), refresh=True)
            elif output is Output.JSON:
                value = documents.domains_document(found.source, found.domains, found.nodes)
                sys.stdout.write(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
            else:
                render.show(f"{clock.now():%Y-%m-%dT%H:%M:%SZ}")
                _print_machines(found, output)
            sys.stdout.flush()
            clock.sleep(interval_s)


def _screen(found: Machines, width: int, clock: Clock) -> Group:
    where = found.source.host or found.source.uri
    head = Text(f"{where}  {clock.now():%H:%M:%S} UTC  {len(found.machines)} machines", "bold")
    notes = (Text(f"note: {note}", "yellow") for note in found.source.notes)
    return Group(head, domains_table(found.machines, width), *notes, Text("Ctrl-C ends", "dim"))
