"""Where everything of the page goes: the outside on top, the hosts below, the legend. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from solostack.picture import block as addresses
from solostack.picture import compute, host
from solostack.picture.model import Host, Topology
from solostack.picture.outside import Block
from solostack.picture.sheet import Box, Chip, Look, Picture, Sheet
from solostack.picture.text import text_width

WIDTH = 1200.0
MARGIN = 32.0
HOST_GAP = 28.0
HOSTS_IN_ROW = 3
_TOP = 28.0
_PROVIDER_WIDTH = 330.0
_WIRE = 56.0
_TRUNK_X = 14.0
_MIN_HOST_WIDTH = 270.0
_LEGEND_SWATCH = 26.0


def lay_out(topology: Topology) -> Picture:
    """Return the whole picture; equal topologies give equal pictures."""
    sheet = Sheet()
    provider = _draw_outside(sheet, topology)
    y = provider.bottom + _WIRE
    rows = _rows(topology.hosts)
    start = (provider.middle, provider.bottom)
    for index, row in enumerate(rows):
        bottom = _draw_row(sheet, topology, row, y, start=start, last=index == len(rows) - 1)
        start = (_TRUNK_X, y - _WIRE / 2)
        y = bottom + _WIRE
    y += 24 - _WIRE
    if topology.elsewhere:
        y = _draw_elsewhere(sheet, topology, y) + 24
    y = _draw_legend(sheet, topology, y)
    count = len(topology.hosts)
    return Picture(
        title=f"Topology of {topology.site}",
        description=f"{count} physical host{'s' * (count > 1)}, each with one network card, "
        f"and an OpenStack {topology.release} cloud on them",
        width=WIDTH,
        height=y + 24,
        shapes=tuple(sheet.shapes),
        calm=topology.block.private,
    )


def _rows(hosts: Sequence[Host]) -> list[Sequence[Host]]:
    """Split hosts into rows of nearly equal length."""
    count = -(-len(hosts) // HOSTS_IN_ROW)
    size = -(-len(hosts) // count)
    return [hosts[at : at + size] for at in range(0, len(hosts), size)]


def _widths(row: Sequence[Host]) -> list[float]:
    """Share the page's width: who has more control nodes gets more."""
    room = WIDTH - 2 * MARGIN - (len(row) - 1) * HOST_GAP
    spare = room - len(row) * _MIN_HOST_WIDTH
    weights = [len(each.nodes) for each in row]
    if not any(weights):
        weights = [1] * len(row)
    return [_MIN_HOST_WIDTH + spare * weight / sum(weights) for weight in weights]


def _draw_row(
    sheet: Sheet,
    topology: Topology,
    row: Sequence[Host],
    y: float,
    *,
    start: tuple[float, float],
    last: bool,
) -> float:
    """Draw hosts side by side and their wire, from start; return the bottom."""
    networks = topology.networks
    sizes = [
        host.measure(each, networks, width) for each, width in zip(row, _widths(row), strict=True)
    ]
    upper = max(each.upper for each in sizes)
    height = max(host.host_height(each, upper) for each in sizes)
    x, drawn = MARGIN, []
    for each, size in zip(row, sizes, strict=True):
        frame = Box(
            name=each.name,
            inside="",
            x=x,
            y=y,
            width=size.width,
            height=height,
            look=Look.HOST,
            radius=14,
            bad=each.seen.state.bad,
            tip=each.seen.detail,
        )
        drawn.append(host.draw_host(sheet, each, networks, size, frame, upper=upper))
        x = frame.right + HOST_GAP
    _draw_wire(sheet, [one.nic for one in drawn], start, y - _WIRE / 2, last=last)
    for left, right in itertools.pairwise(drawn):
        middle = left.data.middle_y
        sheet.line([(left.data.right, middle), (right.data.x, middle)], Look.DATA, dashed=True)
        sheet.line([left.tunnel, right.tunnel], Look.TENANT, dashed=True)
    return y + height


def _draw_wire(
    sheet: Sheet, cards: Sequence[Box], start: tuple[float, float], bus_y: float, *, last: bool
) -> None:
    """Draw the wire: from start down to a bus (where it is one), from there to every card."""
    xs = [start[0], *(card.middle for card in cards)]
    if not last:
        xs.append(_TRUNK_X)
    sheet.line([start, (start[0], bus_y)], Look.WIRE, width=3)
    if max(xs) - min(xs) > 1:
        sheet.line([(min(xs), bus_y), (max(xs), bus_y)], Look.WIRE, width=3)
    for card in cards:
        sheet.line([(card.middle, bus_y), (card.middle, card.y)], Look.WIRE, width=3)


def _draw_outside(sheet: Sheet, topology: Topology) -> Box:
    block = topology.block
    height = addresses.card_height(block)
    provider = _draw_provider(sheet, block, height)
    room = provider.x - MARGIN - 32
    _draw_title(sheet, topology, room)
    left = WIDTH - MARGIN - addresses.WIDTH
    card = Box(
        name="block",
        inside="",
        x=left,
        y=_TOP,
        width=addresses.WIDTH,
        height=height,
        look=Look.PUBLIC,
        radius=12,
    )
    if not block.private:
        y = provider.middle_y
        sheet.line([(provider.right, y), (card.x, y)], Look.PUBLIC, dashed=True)
    addresses.draw_card(sheet, block, card)
    place = (provider.middle + 12, provider.bottom + 18)
    room = WIDTH - MARGIN - place[0]
    sheet.text("", place, block.wire, room=room, size=11, look=Look.MUTED)
    return provider


def _draw_title(sheet: Sheet, topology: Topology, room: float) -> None:
    sheet.text("", (MARGIN, _TOP + 30), topology.site, room=room, size=30, bold=True)
    nodes = sum(len(each.nodes) for each in topology.hosts)
    hosts = len(topology.hosts)
    counts = f"{hosts} physical host{'s' * (hosts != 1)}, {nodes} control node{'s' * (nodes != 1)}"
    lines = (f"OpenStack {topology.release}, {topology.region}", counts)
    for row, line in enumerate(lines):
        place = (MARGIN, _TOP + 56 + row * 19)
        sheet.text("", place, line, room=room, size=13, look=Look.MUTED)
    chip = Chip(text="as it is, against the plan" if topology.live else "as planned")
    if topology.cloud_error:
        chip = Chip(text="the cloud's API does not answer", bad=True, tip=topology.cloud_error)
    sheet.chip("", (MARGIN, _TOP + 90), chip, room=room)


def _draw_provider(sheet: Sheet, block: Block, height: float) -> Box:
    box = sheet.box(
        Box(
            name="provider",
            inside="",
            x=(WIDTH - _PROVIDER_WIDTH) / 2,
            y=_TOP,
            width=_PROVIDER_WIDTH,
            height=height,
            look=Look.OUTSIDE,
            radius=12,
        )
    )
    room = box.width - 32
    lines = (
        ("internet", 12.0, Look.MUTED, False, False),
        ("Provider's router", 17.0, Look.INK, True, False),
        (block.known, 12.0, Look.INK if block.private else Look.PUBLIC, False, True),
    )
    y = box.middle_y - 62
    for (text, size, look, bold, mono), step in zip(lines, (30.0, 27.0, 27.0), strict=True):
        y += step
        place = (box.middle, y)
        sheet.text(
            box.name,
            place,
            text,
            room=room,
            size=size,
            look=look,
            bold=bold,
            mono=mono,
            anchor="middle",
        )
    place = (box.middle, y + 20)
    sheet.text(box.name, place, block.does, room=room, look=Look.MUTED, anchor="middle")
    return box


def _draw_elsewhere(sheet: Sheet, topology: Topology, y: float) -> float:
    room = WIDTH - 2 * MARGIN
    cards = compute.instance_cards(topology.elsewhere, room)
    zone = sheet.box(
        Box(
            name="elsewhere",
            inside="",
            x=MARGIN,
            y=y,
            width=room,
            height=compute.zone_height(cards, room),
            look=Look.ZONE,
            radius=12,
        )
    )
    text = "Instances on no host of this site"
    sheet.text(zone.name, (zone.x + 14, y + 22), text, room=room - 28, bold=True)
    compute.draw_cards(sheet, cards, zone)
    return zone.bottom


def _draw_legend(sheet: Sheet, topology: Topology, y: float) -> float:
    """Draw what the colours mean, wrapped into rows; return the bottom."""
    networks, block = topology.networks, topology.block
    entries: list[tuple[str, Look, bool]] = [
        (f"{'private' if block.private else 'public'} {block.text}", Look.PUBLIC, False),
        (f"transit {networks.transit}", Look.TRANSIT, False),
        (f"data {networks.data}", Look.DATA, False),
        (" ".join(("tenants", networks.tenant)).strip(), Look.TENANT, False),
        ("in Geneve tunnels", Look.TENANT, True),
    ]
    if len(topology.hosts) > 1:
        entries.append(("one network over all hosts", Look.DATA, True))
    if topology.live:
        entries.append(("absent or failed", Look.BAD, True))
    x, row = MARGIN, y + 12
    for text, look, dashed in entries:
        width = _LEGEND_SWATCH + 8 + text_width(text, 12)
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, row = MARGIN, row + 22
        ends = [(x, row - 4), (x + _LEGEND_SWATCH, row - 4)]
        sheet.line(ends, look, width=3, dashed=dashed)
        sheet.text("", (x + _LEGEND_SWATCH + 8, row), text, room=400, look=Look.MUTED)
        x += width + 20
    return row
