"""Where everything of the page goes: the outside on top, the hosts below, the legend. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from solostack.picture import compute, host
from solostack.picture.model import Block, Host, Topology
from solostack.picture.sheet import Box, Chip, Look, Picture, Sheet
from solostack.picture.text import text_width

WIDTH = 1200.0
MARGIN = 32.0
HOST_GAP = 28.0
HOSTS_IN_ROW = 3
_TOP = 28.0
_CARD_HEIGHT = 124.0
_PROVIDER_WIDTH = 330.0
_WIRE = 56.0
_TRUNK_X = 14.0
_FEW_CELLS = 16
_CELLS_IN_ROW = 32
_MOST_CELLS = 64
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
    provider = _draw_provider(sheet, topology.block)
    room = provider.x - MARGIN - 32
    _draw_title(sheet, topology, room)
    left = provider.right + 36
    block = sheet.box(
        Box(
            name="block",
            inside="",
            x=left,
            y=_TOP,
            width=WIDTH - MARGIN - left,
            height=_CARD_HEIGHT,
            look=Look.PUBLIC,
            radius=12,
        )
    )
    y = provider.y + _CARD_HEIGHT / 2
    sheet.line([(provider.right, y), (block.x, y)], Look.PUBLIC, dashed=True)
    _draw_block(sheet, topology.block, block)
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


def _draw_provider(sheet: Sheet, block: Block) -> Box:
    box = sheet.box(
        Box(
            name="provider",
            inside="",
            x=(WIDTH - _PROVIDER_WIDTH) / 2,
            y=_TOP,
            width=_PROVIDER_WIDTH,
            height=_CARD_HEIGHT,
            look=Look.OUTSIDE,
            radius=12,
        )
    )
    room = box.width - 32
    lines = (
        ("internet", 12.0, Look.MUTED, False, False),
        ("Provider's router", 17.0, Look.INK, True, False),
        (f"{block.cidr} via {block.next_hop}", 12.0, Look.PUBLIC, False, True),
    )
    y = box.y
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
    text = f"the block is routed to {block.host}"
    sheet.text(box.name, place, text, room=room, look=Look.MUTED, anchor="middle")
    return box


def _draw_block(sheet: Sheet, block: Block, box: Box) -> None:
    left, room = box.x + 18, box.width - 36
    number = f"{block.size:,}".replace(",", " ")
    width = sheet.text(
        box.name, (left, box.y + 42), number, room=120, size=32, bold=True, look=Look.PUBLIC
    )
    x = left + width + 12
    text = "public addresses, all usable"
    if block.used is not None:
        text = f"public addresses, {len(block.used)} in use"
    rest = room - width - 12
    sheet.text(box.name, (x, box.y + 24), text, room=rest, look=Look.PUBLIC)
    place = (x, box.y + 43)
    sheet.text(box.name, place, block.cidr, room=rest, size=13, mono=True, look=Look.PUBLIC)
    _draw_cells(sheet, block, box, left, room)
    y = box.bottom - 14
    half = room / 2 - 8
    sheet.text(box.name, (left, y), block.first, room=half, size=11, mono=True, look=Look.PUBLIC)
    sheet.text(
        box.name,
        (left + room, y),
        block.last,
        room=half,
        size=11,
        mono=True,
        look=Look.PUBLIC,
        anchor="end",
    )


def _draw_cells(sheet: Sheet, block: Block, box: Box, left: float, room: float) -> None:
    """Draw a cell per address, or one bar for large blocks; filled is in use."""
    used = set(block.used or ())
    top, height = box.y + 58, 32.0
    if block.size > _MOST_CELLS:
        share = len(used) / block.size
        for name, part, look in (("all", 1.0, Look.FREE), ("used", share, Look.USED)):
            if part:
                width = max(room * part, 2.0)
                _cell(sheet, box, f"{name}", (left, top + 8, width, 16.0), look)
        return
    columns = _FEW_CELLS if block.size <= _FEW_CELLS else _CELLS_IN_ROW
    rows = -(-block.size // columns)
    gap = 4.0 if columns == _FEW_CELLS else 2.5
    width = (room + gap) / columns
    tall = min((height + gap) / rows, 24.0)
    offset = (height - rows * tall) / 2
    for index in range(block.size):
        row, column = divmod(index, columns)
        place = (left + column * width, top + offset + row * tall, width - gap, tall - gap)
        look = Look.USED if index in used else Look.FREE
        _cell(sheet, box, str(index), place, look)


def _cell(
    sheet: Sheet, box: Box, name: str, place: tuple[float, float, float, float], look: Look
) -> None:
    x, y, width, height = place
    radius = min(4.0, height / 3)
    # A bar's used part lies on the whole bar, so it is a part of it and not beside it.
    inside = f"{box.name}/all" if name == "used" else box.name
    sheet.box(
        Box(
            name=f"{box.name}/{name}",
            inside=inside,
            x=x,
            y=y,
            width=width,
            height=height,
            look=look,
            radius=radius,
        )
    )


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
        (f"public {block.cidr}", Look.PUBLIC, False),
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
