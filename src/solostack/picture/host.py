"""Where everything of one physical host goes: a column of stack, bridges, nodes and compute. Pure.

From the top down as packets go: the card, the host's own routes and firewall, the external bridge,
the control nodes, the data bridge, the compute part with its instances. Measuring comes first, so
that the data bridges of hosts side by side are on one height.
"""

from __future__ import annotations

import dataclasses

from solostack.picture import compute, node
from solostack.picture.model import Host, Networks, Stack, State
from solostack.picture.sheet import CHIP_HEIGHT, Box, Chip, Look, Sheet
from solostack.picture.text import split_name, text_width

PADDING = 16.0
GUTTER = 34.0
GAP = 30.0
WIDE = 520.0
NIC_HEIGHT = 48.0
EXTERNAL_HEIGHT = 48.0
DATA_HEIGHT = 60.0
ROW = 18.0
STACK_PADDING = 14.0
_NAME_SIZE = 18.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Heights of a host's parts at a given width; upper is from its top to its data bridge.

    beside: the host's name is beside its card, else below.
    """

    width: float
    header: float
    beside: bool
    stack: float
    nodes: float
    upper: float
    compute: float

    @property
    def wide(self) -> bool:
        """Whether there is room for two columns."""
        return self.width >= WIDE

    @property
    def centred(self) -> bool:
        """Whether the card is in the middle, else on the right."""
        return self.wide and self.beside

    @property
    def inner(self) -> float:
        """The width between the paddings."""
        return self.width - 2 * PADDING


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What the page connects: the card, the data bridge and a point of the tunnels in it."""

    nic: Box
    data: Box
    tunnel: tuple[float, float]


def measure(host: Host, networks: Networks, width: float) -> Sizes:
    """Return the heights that a host's parts need."""
    inner = width - 2 * PADDING
    beside = _name_beside(host, width)
    header = NIC_HEIGHT + 22.0
    if not beside:
        header += 18.0 + 18.0 * len(split_name(host.name, inner - GUTTER, _NAME_SIZE))
    stack = _stack_height(host.stack, inner)
    nodes = 0.0
    if host.nodes:
        room = _node_width(host, inner)
        nodes = max(node.node_height(each, room) for each in host.nodes)
    upper = header + stack + GAP
    upper += EXTERNAL_HEIGHT + GAP if host.gateway else 0.0
    upper += nodes + GAP if host.nodes else 0.0
    return Sizes(
        width=width,
        header=header,
        beside=beside,
        stack=stack,
        nodes=nodes,
        upper=upper,
        compute=compute.compute_height(host.compute, networks, inner),
    )


def host_height(sizes: Sizes, upper: float) -> float:
    """Return a host's height when its data bridge is upper below its top."""
    return upper + DATA_HEIGHT + GAP + sizes.compute + PADDING


def draw_host(
    sheet: Sheet, host: Host, networks: Networks, sizes: Sizes, frame: Box, *, upper: float
) -> Drawn:
    """Draw a host into its frame; upper is where its data bridge begins, below its top."""
    sheet.box(frame)
    nic = _draw_header(sheet, host, sizes, frame)
    unknown = host.stack.routes.state is State.UNKNOWN
    stack = sheet.box(
        Box(
            name=f"{frame.name}/stack",
            inside=frame.name,
            x=frame.x + PADDING,
            y=frame.y + sizes.header,
            width=sizes.inner,
            height=sizes.stack,
            look=Look.GHOST if unknown else Look.CARD,
            radius=10,
        )
    )
    wire_x = nic.middle if sizes.centred else stack.right - GUTTER / 2
    sheet.line([(wire_x, nic.bottom), (wire_x, stack.y)], Look.WIRE, width=3)
    bad = host.stack.routes.state.bad
    data = _draw_data(sheet, networks, frame, sizes, y=frame.y + upper, bad=bad)
    tunnel = _draw_compute(sheet, host, networks, sizes, data)
    external = None
    if host.gateway:
        y = data.y - GAP - sizes.nodes - GAP - EXTERNAL_HEIGHT
        external = _draw_external(sheet, host, networks, frame, sizes, y=y)
    external_x = _draw_nodes(sheet, host, sizes, data, external=external, tunnel=tunnel)
    external_x, data_x = _draw_stack(sheet, host.stack, stack, external_x)
    if external:
        sheet.line([(external_x, stack.bottom), (external_x, external.y)], Look.PUBLIC)
    sheet.line([(data_x, stack.bottom), (data_x, data.y)], Look.DATA)
    return Drawn(nic=nic, data=data, tunnel=tunnel)


def _draw_compute(
    sheet: Sheet, host: Host, networks: Networks, sizes: Sizes, data: Box
) -> tuple[float, float]:
    """Draw the compute part below the data bridge; return where its tunnels are in that."""
    frame = Box(
        name=f"{data.inside}/compute",
        inside=data.inside,
        x=data.x,
        y=data.bottom + GAP,
        width=sizes.inner,
        height=sizes.compute,
        look=Look.ZONE,
        radius=10,
    )
    port = compute.draw_compute(sheet, host.compute, networks, frame)
    tunnel = (port.tunnel_x, data.y + 12)
    sheet.line([(port.data_x, data.bottom), (port.data_x, port.top)], Look.DATA)
    sheet.line([tunnel, (port.tunnel_x, port.inner_y)], Look.TENANT, dashed=True)
    return tunnel


def _draw_nodes(
    sheet: Sheet,
    host: Host,
    sizes: Sizes,
    data: Box,
    *,
    external: Box | None,
    tunnel: tuple[float, float],
) -> float:
    """Draw the control nodes above the data bridge; return the x of the external card."""
    external_x = data.x + data.width * 0.25
    for each, box in zip(host.nodes, _node_boxes(host, data, sizes), strict=True):
        ports = node.draw_node(sheet, each, box)
        sheet.line([(ports.data_x, box.bottom), (ports.data_x, data.y)], Look.DATA)
        if ports.tunnel is not None:
            x, y = ports.tunnel
            sheet.line([(x, y), (x, tunnel[1]), tunnel], Look.TENANT, dashed=True)
        if external and ports.external_x is not None:
            external_x = ports.external_x
            sheet.line([(external_x, external.bottom), (external_x, box.y)], Look.PUBLIC)
    return external_x


def _nic_width(host: Host) -> float:
    address = text_width(host.address, 13, mono=True)
    return max(address, text_width(f"NIC {host.nic}", 12, bold=True)) + 36


def _name_beside(host: Host, width: float) -> bool:
    """Return whether the host's name has room beside its card, else it goes below."""
    room = width - 2 * PADDING - _nic_width(host) - 14
    if width >= WIDE:
        return text_width(host.name, _NAME_SIZE, bold=True) <= room / 2
    return not host.seen.note and text_width(host.name, _NAME_SIZE, bold=True) <= room


def _draw_header(sheet: Sheet, host: Host, sizes: Sizes, frame: Box) -> Box:
    width = _nic_width(host)
    left = frame.middle - width / 2 if sizes.centred else frame.right - PADDING - width
    nic = sheet.box(
        Box(
            name=f"{frame.name}/nic",
            inside=frame.name,
            x=left,
            y=frame.y,
            width=width,
            height=NIC_HEIGHT,
            look=Look.WIRE,
            radius=8,
        )
    )
    for text, y, size, mono in (
        (f"NIC {host.nic}", 20, 12, False),
        (host.address, 38, 13, True),
    ):
        sheet.text(
            nic.name,
            (nic.middle, nic.y + y),
            text,
            room=width - 16,
            size=size,
            bold=not mono,
            mono=mono,
            look=Look.PAGE,
            anchor="middle",
        )
    _draw_name(sheet, host, sizes, frame, nic)
    return nic


def _draw_name(sheet: Sheet, host: Host, sizes: Sizes, frame: Box, nic: Box) -> None:
    left, y = frame.x + PADDING + 2, frame.y + 30
    if sizes.beside:
        lines: tuple[str, ...] = (host.name,)
        room = nic.x - left - 12
    else:
        room = sizes.inner - GUTTER
        lines = split_name(host.name, room, _NAME_SIZE)
        y = nic.bottom + 24
    for line in lines:
        sheet.text(frame.name, (left, y), line, room=room, size=_NAME_SIZE, bold=True)
        y += 18
    control = host.gateway or host.nodes
    note, look = "physical host" if control else "compute only", Look.MUTED
    if host.seen.note:
        note, look = host.seen.note, Look.BAD if host.seen.state.bad else Look.MUTED
    sheet.text(frame.name, (left, y + 1), note, room=room, look=look)


def _columns(stack: Stack) -> tuple[tuple[str, list[tuple[str, Look]]], ...]:
    """Return headings with lines: what the host does with packets, in words."""
    routes = [("default → the provider, as before", Look.MUTED)]
    if stack.block:
        routes = [
            (f"{stack.block} → {stack.external_bridge}", Look.PUBLIC),
            (f"{stack.block} blackhole, backup", Look.MUTED),
            *routes,
        ]
    rules = [(f"masquerade → {stack.nic} from", Look.INK)]
    looks = [Look.DATA, Look.TRANSIT][-len(stack.masqueraded) :]
    rules += list(zip(stack.masqueraded, looks, strict=True))
    return (("Host routes", routes), (f"Firewall, {stack.firewall_table}", rules))


def _stack_height(stack: Stack, inner: float) -> float:
    counts = [len(lines) + 1 for _, lines in _columns(stack)]
    wide = inner + 2 * PADDING >= WIDE
    rows = max(counts) if wide else sum(counts)
    between = 0.0 if wide else 12.0
    chip_rows = 1 if wide or not stack.block else 2
    return 10 + rows * ROW + between + 12 + chip_rows * (CHIP_HEIGHT + 4)


def _draw_stack(sheet: Sheet, stack: Stack, box: Box, external_x: float) -> tuple[float, float]:
    """Draw routes, rules and the two ports; return the x of the external and the data port."""
    wide = box.width + 2 * PADDING >= WIDE
    x, y = box.x + STACK_PADDING, box.y + 10
    room = (box.width - 3 * STACK_PADDING) / 2 if wide else box.width - 2 * STACK_PADDING
    seen = (stack.routes, stack.firewall)
    for (heading, lines), found in zip(_columns(stack), seen, strict=True):
        look = Look.BAD if found.state.bad else Look.INK
        title = f"{heading}: {found.note}" if found.state.bad else heading
        sheet.text(box.name, (x, y + 13), title, room=room, size=12, bold=True, look=look)
        for row, (text, line_look) in enumerate(lines, start=1):
            shown = Look.BAD if found.state.bad else line_look
            place = (x, y + 13 + row * ROW)
            sheet.text(box.name, place, text, room=room, size=11.5, mono=True, look=shown)
        if wide:
            x += room + STACK_PADDING
        else:
            y += (len(lines) + 1) * ROW + 12
    return _draw_ports(sheet, stack, box, external_x)


def _draw_ports(sheet: Sheet, stack: Stack, box: Box, external_x: float) -> tuple[float, float]:
    bad = stack.routes.state.bad
    room = box.width - 2 * STACK_PADDING
    data = Chip(text=f"{stack.member} {stack.member_address}", look=Look.DATA, mono=True, bad=bad)
    top = box.bottom - CHIP_HEIGHT - 4
    data_left = box.right - 6 - min(data.width, room)
    sheet.chip(box.name, (data_left, top), data, room=room)
    data_x = box.right - GUTTER / 2
    if not stack.block:
        return external_x, data_x
    text = f"{stack.external_bridge} {stack.transit_address}"
    transit = Chip(text=text, look=Look.TRANSIT, mono=True, bad=bad)
    width = min(transit.width, room)
    beside = box.width + 2 * PADDING >= WIDE
    most = data_left - 12 - width if beside else box.right - 6 - width
    left = max(box.x + 6, min(external_x - width / 2, most))
    if not beside:
        left = box.x + 6
        external_x = min(external_x, data_left - 16)
    sheet.chip(box.name, (left, top if beside else top - CHIP_HEIGHT - 4), transit, room=width)
    return max(left + 12, min(external_x, left + width - 12)), data_x


def _draw_external(
    sheet: Sheet, host: Host, networks: Networks, frame: Box, sizes: Sizes, *, y: float
) -> Box:
    bad = host.stack.routes.state.bad
    box = sheet.box(
        Box(
            name=f"{frame.name}/external",
            inside=frame.name,
            x=frame.x + PADDING,
            y=y,
            width=sizes.inner - GUTTER,
            height=EXTERNAL_HEIGHT,
            look=Look.PUBLIC,
            radius=8,
            bad=bad,
        )
    )
    chip = Chip(text=f"transit {networks.transit}", look=Look.TRANSIT)
    room = box.width - 28
    if box.width > 420:
        sheet.chip(box.name, (box.right - 14 - chip.width, y + 13), chip, room=chip.width)
        room -= chip.width + 14
    place = (box.x + 14, y + 20)
    name = host.stack.external_bridge
    sheet.text(box.name, place, name, room=room, size=13, bold=True, mono=True, look=Look.PUBLIC)
    place = (box.x + 14, y + 38)
    text = f"{host.stack.block} on-link, no address of it spent here"
    sheet.text(box.name, place, text, room=room, look=Look.PUBLIC)
    return box


def _draw_data(
    sheet: Sheet, networks: Networks, frame: Box, sizes: Sizes, *, y: float, bad: bool
) -> Box:
    box = sheet.box(
        Box(
            name=f"{frame.name}/data",
            inside=frame.name,
            x=frame.x + PADDING,
            y=y,
            width=sizes.inner,
            height=DATA_HEIGHT,
            look=Look.DATA,
            radius=8,
            bad=bad,
        )
    )
    room = box.width - 28
    tunnels = f"Geneve tunnels, MTU {networks.tenant_mtu}"
    if sizes.wide:
        place = (box.right - 48, y + 32)
        room -= 48 + sheet.text(
            box.name, place, tunnels, room=room / 2, size=11.5, look=Look.TENANT, anchor="end"
        )
    place = (box.x + 14, y + 32)
    name = networks.data_bridge
    sheet.text(box.name, place, name, room=room, size=13, bold=True, mono=True, look=Look.DATA)
    text = f"{networks.data}, MTU {networks.data_mtu}"
    if sizes.wide:
        text = f"data network {text}: management and tunnels, private"
    sheet.text(box.name, (box.x + 14, y + 49), text, room=box.width - 28 - GUTTER, look=Look.DATA)
    return box


def _node_width(host: Host, inner: float) -> float:
    count = len(host.nodes)
    return (inner - GUTTER - (count - 1) * PADDING) / count


def _node_boxes(host: Host, data: Box, sizes: Sizes) -> list[Box]:
    if not host.nodes:
        return []
    width = _node_width(host, sizes.inner)
    return [
        Box(
            name=f"{data.inside}/{each.name}",
            inside=data.inside,
            x=data.x + index * (width + PADDING),
            y=data.y - GAP - sizes.nodes,
            width=width,
            height=sizes.nodes,
            look=Look.GHOST if each.seen.state is State.UNKNOWN else Look.CARD,
            radius=10,
            bad=each.seen.state.bad,
        )
        for index, each in enumerate(host.nodes)
    ]
