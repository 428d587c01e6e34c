"""How domains and disks look in a terminal: the columns that fit, the important ones first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import rich.box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from solostack.cli.render import printable
from solostack.inventory.model import DiskInfo, DomainInfo, Machine, OwnerKind, readable_size

T = TypeVar("T")
# A space of padding on the right of a column, and one for rich.box.SIMPLE_HEAD's unseen line.
GAP = 2
STATE_STYLES = {
    "running": "green",
    "idle": "green",
    "paused": "yellow",
    "in shutdown": "yellow",
    "suspended by PM": "yellow",
    "crashed": "bold red",
    "shut off": "dim",
}
OWNER_STYLES = {OwnerKind.SOLOSTACK: "cyan", OwnerKind.NOVA: "magenta"}
NS_PER_S = 10**9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[T]):
    """A column: rank 0 is always there, the highest rank goes first when space is short.

    room is how many characters a column wants at least that may be broken over lines; 0: the
    column is never broken.
    """

    title: str
    rank: int
    cell: Callable[[T], Text]
    right: bool = False
    room: int = 0


def domains_table(machines: Sequence[Machine], width: int) -> Table:
    """Build the table of domains, and of nodes that are containers, for width characters."""
    return _build(DOMAIN_COLUMNS, machines, width)


def disks_table(disks: Sequence[DiskInfo], width: int) -> Table:
    """Build the table of disks for width characters."""
    return _build(DISK_COLUMNS, disks, width)


def duration(time_ns: int) -> str:
    """Return a time span as hours, minutes and seconds, such as 12:05:09."""
    minutes, seconds = divmod(time_ns // NS_PER_S, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _build(columns: Sequence[Column[T]], items: Sequence[T], width: int) -> Table:
    cells = {column.title: [column.cell(item) for item in items] for column in columns}
    kept = _fitting(columns, cells, width)
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for column in kept:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.room else "ellipsis",
            no_wrap=not column.room,
        )
    for row in zip(*(cells[column.title] for column in kept), strict=True):
        table.add_row(*row)
    return table


def _fitting(
    columns: Sequence[Column[T]], cells: dict[str, list[Text]], width: int
) -> list[Column[T]]:
    """Return the columns that fit in width, without those in which no row has a value."""
    kept = [
        column
        for column in columns
        if column.rank == 0 or any(cell.plain != "-" for cell in cells[column.title])
    ]
    while sum(_need(column, cells[column.title]) + GAP for column in kept) - GAP > width:
        dropped = max(kept, key=lambda column: column.rank)
        if dropped.rank == 0:
            break
        kept.remove(dropped)
    return kept


def _need(column: Column[T], cells: Sequence[Text]) -> int:
    widest = max((cell_len(cell.plain) for cell in cells), default=0)
    if column.room:
        widest = min(widest, column.room)
    return max(widest, cell_len(column.title))


def _text(value: object, style: str = "") -> Text:
    if value is None or value == "":
        return Text("-", style="dim")
    return Text(printable(str(value)), style=style)


def _size(size_bytes: int | None) -> Text:
    return _text(None if size_bytes is None else readable_size(size_bytes))


def _memory(machine: Machine) -> Text:
    # What is given counts for a domain; of a container only the limit is comparable.
    size_kib = machine.memory_kib if isinstance(machine, DomainInfo) else machine.memory_max_kib
    return _size(None if size_kib is None else size_kib * 1024)


def _vcpus(machine: Machine) -> Text:
    most = machine.vcpus_max if isinstance(machine, DomainInfo) else None
    if machine.vcpus is None or most is None or most == machine.vcpus:
        return _text(machine.vcpus)
    return _text(f"{machine.vcpus}/{most}")


def _reason(machine: Machine) -> Text:
    return _text(None if machine.reason in (None, "unknown") else machine.reason)


def _addresses(machine: Machine) -> Text:
    found = [item.address for card in machine.interfaces for item in card.addresses]
    return _text(" ".join(found))


def _networks(machine: Machine) -> Text:
    found = dict.fromkeys(card.source for card in machine.interfaces if card.source)
    return _text(" ".join(found))


def _yes(value: bool | None) -> Text:  # noqa: FBT001 (a value of the table)
    return _text(None if value is None else "yes" if value else "no")


def _cpu_time(machine: Machine) -> Text:
    return _text(None if machine.cpu_time_ns is None else duration(machine.cpu_time_ns))


def _flags(disk: DiskInfo) -> Text:
    flags = (
        ("ro", disk.read_only),
        ("shared", disk.shareable),
        ("transient", disk.transient),
        ("encrypted", disk.encrypted),
        (f"boot {disk.boot_order}", disk.boot_order is not None),
        ("copying", disk.mirror is not None),
    )
    return _text(", ".join(name for name, there in flags if there))


def _source(disk: DiskInfo) -> Text:
    return Text("(empty)", style="dim") if disk.is_empty else _text(disk.source)


DOMAIN_COLUMNS: tuple[Column[Machine], ...] = (
    Column(title="ID", rank=5, cell=lambda m: _text(getattr(m, "id", None)), right=True),
    Column(title="Name", rank=0, cell=lambda m: _text(m.name, "bold"), room=32),
    Column(
        title="State", rank=0, cell=lambda m: _text(m.state, STATE_STYLES.get(m.state or "", ""))
    ),
    Column(title="Reason", rank=7, cell=_reason),
    Column(title="Type", rank=4, cell=lambda m: _text(m.type)),
    Column(title="vCPUs", rank=2, cell=_vcpus, right=True),
    Column(title="Memory", rank=1, cell=_memory, right=True),
    Column(title="CPU time", rank=8, cell=_cpu_time, right=True),
    Column(title="Autostart", rank=9, cell=lambda m: _yes(m.autostart)),
    Column(
        title="Owner",
        rank=2,
        cell=lambda m: _text(m.owner, OWNER_STYLES.get(m.owner.kind, "dim")),
        room=28,
    ),
    Column(title="Networks", rank=6, cell=_networks, room=16),
    Column(title="Addresses", rank=3, cell=_addresses, room=15),
    Column(title="UUID", rank=10, cell=lambda m: _text(m.uuid)),
)
DISK_COLUMNS: tuple[Column[DiskInfo], ...] = (
    Column(title="Domain", rank=0, cell=lambda d: _text(d.domain, "bold"), room=24),
    Column(title="Device", rank=0, cell=lambda d: _text(d.device)),
    Column(title="Kind", rank=4, cell=lambda d: _text(d.kind)),
    Column(title="Bus", rank=5, cell=lambda d: _text(d.bus)),
    Column(title="Format", rank=1, cell=lambda d: _text(d.format)),
    Column(title="Type", rank=6, cell=lambda d: _text(d.source_type)),
    Column(title="Size", rank=2, cell=lambda d: _size(d.capacity_bytes), right=True),
    Column(title="Used", rank=3, cell=lambda d: _size(d.allocation_bytes), right=True),
    Column(title="Flags", rank=7, cell=_flags),
    Column(title="Layers", rank=8, cell=lambda d: _text(len(d.backing) if d.backing else None)),
    Column(title="Serial", rank=9, cell=lambda d: _text(d.serial), room=20),
    Column(title="Source", rank=0, cell=_source, room=36),
)
