"""`solostack storage`: the storage node's disks, and making them larger.

Owns the arguments and how disks look. Must not know how a disk grows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from solostack.cli import render
from solostack.cli.examples import examples
from solostack.cli.progress import open_progress
from solostack.cli.site_commands import DEFAULT_SITE, Json, SiteFile
from solostack.errors import UsageError

if TYPE_CHECKING:
    from solostack.flows.storage import DiskStatus

storage_app = typer.Typer(
    name="storage",
    help="The storage node's disks: volumes (cinder), objects (swift1 ...), shared folder (nfs).",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("solostack storage list", "solostack storage grow cinder 40"),
)
_SIZE = re.compile(r"(\d+) *(G|GB|GiB|T|TB|TiB)?", re.IGNORECASE)
_GIB = 2**30
_TIB_IN_GIB = 1024
Disk = Annotated[str, typer.Argument(metavar="DISK", help="cinder, swift1 ..., or nfs.")]
Size = Annotated[str, typer.Argument(metavar="SIZE", help="The whole new size, in GiB: 40.")]


@storage_app.command(
    "list", epilog=examples("solostack storage list", "solostack storage list --json")
)
def list_command(*, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Show each disk: its size, what it is on the host, and how full it is inside."""
    from solostack.flows.storage import list_disks
    from solostack.site.loader import load_site

    with open_progress() as progress:
        disks = list_disks(load_site(file), progress)
    if json:
        render.print_json({"disks": disks})
    else:
        show_disks(disks)


@storage_app.command(
    epilog=examples("solostack storage grow cinder 40", "solostack storage grow swift1 100")
)
def grow(disk: Disk, size: Size, *, file: SiteFile = DEFAULT_SITE, json: Json = False) -> None:
    """Make a disk larger while it is in use.

    Writes the new size into the site file, grows the disk on the host and what is on it in the
    storage node. Swift's disks are all of one size and grow together. A run that was stopped goes
    on when it is made again. Nothing shrinks.
    """
    from solostack.flows import storage
    from solostack.site.loader import load_site

    wanted_gib = parse_size(size)
    with open_progress() as progress:
        done = storage.grow(load_site(file), disk, wanted_gib, progress)
    if json:
        render.print_json(done)
        return
    names = ", ".join(done.disks)
    if done.applied:
        render.show(f"{names}: {done.new_gib} GiB")
    else:
        render.show(f"{done.file}: {names} will have {done.new_gib} GiB; next: solostack up")


def parse_size(text: str) -> int:
    """Return a size in GiB, written as 40, 40G or 2T; UsageError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not int(match[1]):
        raise UsageError(
            f"SIZE is {text!r}, which is no size", hint="give the whole new size in GiB, as 40"
        )
    factor = _TIB_IN_GIB if (match[2] or "G").upper().startswith("T") else 1
    return int(match[1]) * factor


def show_disks(disks: Sequence[DiskStatus]) -> None:
    """Show disks as a table, then what is wrong with any."""
    if not disks:
        render.show("the site has no storage node")
        return
    columns = ("disk", "size", "on the host", "takes there", "in use")
    render.print_table(columns, [_cells(disk) for disk in disks])
    for disk in disks:
        if disk.error:
            render.show(f"{disk.name}: {disk.error}")


def _cells(disk: DiskStatus) -> tuple[str, ...]:
    size = f"{disk.size_gib} GiB"
    if disk.actual_bytes is not None and disk.actual_bytes != disk.size_gib * _GIB:
        size += f" (now {_gib(disk.actual_bytes)})"
    used = "?"
    if disk.guest_total_bytes and disk.guest_used_bytes is not None:
        share = 100 * disk.guest_used_bytes / disk.guest_total_bytes
        used = f"{_gib(disk.guest_used_bytes)} of {_gib(disk.guest_total_bytes)} ({share:.0f} %)"
    on_host = "?" if disk.on_host_bytes is None else _gib(disk.on_host_bytes)
    return (disk.name, size, f"{disk.host}: {disk.path} ({disk.kind})", on_host, used)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
