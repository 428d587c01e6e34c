"""Where everything of one physical host goes: a column of stack, bridges, nodes and compute. Pure.

From the top down as packets go: the card, the host's own routes and firewall, the external bridge,
the control nodes, the data bridge, the compute part with its instances. Measuring comes first, so
that the data bridges of hosts side by side are on one height.
"""

from __future__ import annotations

import dataclasses

from solostack.picture import compute, node
from solostack.picture.model import Host, Networks, State
from solostack.picture.sheet import Box, Chip, Look, Sheet
from solostack.picture.stack import GUTTER, draw_stack, stack_height
from solostack.picture.text import split_name, text_width

PADDING = 16.0
GAP = 30.0
WIDE = 520.0
NIC_HEIGHT = 48.0
EXTERNAL_HEIGHT = 48.0
DATA_HEIGHT = 60.0
UPLINK_HEIGHT = 48.0
_WIRE = 22.0
_NAME_SIZE = 18.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Heights of a host's parts at a given width; upper is from its top to its data bridge.

    beside: the host's name is beside its card, else below. header ends where the bridge that the
    card joined begins, or, without one, the host's own network.
    """

    width: float
    header: float
    beside: bool
    uplink: float
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
    header = NIC_HEIGHT + _WIRE
    if not beside:
        header += 18.0 + 18.0 * len(split_name(host.name, inner - GUTTER, _NAME_SIZE))
    uplink = UPLINK_HEIGHT + _WIRE if host.stack.bridged else 0.0
    stack = stack_height(host.stack, inner - (GUTTER if host.stack.bridged else 0.0))
    nodes = 0.0
    if host.nodes:
        room = _node_width(host, inner)
        nodes = max(node.node_height(each, room) for each in host.nodes)
    upper = header + uplink + stack + GAP
    upper += EXTERNAL_HEIGHT + GAP if host.gateway else 0.0
    upper += nodes + GAP if host.nodes else 0.0
    return Sizes(
        width=width,
        header=header,
        beside=beside,
        uplink=uplink,
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
    wire_x = nic.middle if sizes.centred else frame.right - PADDING - GUTTER / 2
    uplink = None
    if host.stack.bridged:
        uplink = _draw_uplink(sheet, host, frame, sizes)
        sheet.line([(wire_x, nic.bottom), (wire_x, uplink.y)], Look.WIRE, width=3)
    stack = sheet.box(_stack_box(host, frame, sizes))
    sheet.line([(wire_x, (uplink or nic).bottom), (wire_x, stack.y)], Look.WIRE, width=3)
    bad = host.stack.bridges.state.bad
    data = _draw_data(sheet, networks, frame, sizes, y=frame.y + upper, bad=bad)
    tunnel = _draw_compute(sheet, host, networks, sizes, data)
    external = None
    if host.gateway:
        y = data.y - GAP - sizes.nodes - GAP - EXTERNAL_HEIGHT
        external = _draw_external(sheet, host, networks, frame, sizes, y=y)
    external_x = _draw_nodes(sheet, host, sizes, data, external=external, tunnel=tunnel)
    external_x, data_x = draw_stack(sheet, host.stack, stack, external_x)
    if external:
        sheet.line([(external_x, stack.bottom), (external_x, external.y)], Look.PUBLIC)
    if external and uplink:
        _draw_link(sheet, host, uplink, external, before=external_x)
    sheet.line([(data_x, stack.bottom), (data_x, data.y)], Look.DATA)
    return Drawn(nic=nic, data=data, tunnel=tunnel)


def _stack_box(host: Host, frame: Box, sizes: Sizes) -> Box:
    inset = GUTTER if host.stack.bridged else 0.0
    return Box(
        name=f"{frame.name}/stack",
        inside=frame.name,
        x=frame.x + PADDING + inset,
        y=frame.y + sizes.header + sizes.uplink,
        width=sizes.inner - inset,
        height=sizes.stack,
        look=Look.GHOST if host.stack.reach.state is State.UNKNOWN else Look.CARD,
        radius=10,
    )


def _draw_uplink(sheet: Sheet, host: Host, frame: Box, sizes: Sizes) -> Box:
    """Draw the bridge that the card joined; it has the host's address."""
    box = sheet.box(
        Box(
            name=f"{frame.name}/uplink",
            inside=frame.name,
            x=frame.x + PADDING,
            y=frame.y + sizes.header,
            width=sizes.inner,
            height=UPLINK_HEIGHT,
            look=Look.OUTSIDE,
            radius=8,
            bad=host.stack.reach.state.bad,
        )
    )
    left, room = box.x + 14, box.width - 28
    address = sheet.text(
        box.name,
        (box.right - 14, box.y + 20),
        host.address,
        room=room / 2,
        size=13,
        mono=True,
        anchor="end",
    )
    place, rest = (left, box.y + 20), room - address - 12
    sheet.text(box.name, place, host.stack.uplink, room=rest, size=13, bold=True, mono=True)
    words = f"has the MAC, address and routes of its port {host.nic}"
    words = words if sizes.wide else f"port {host.nic}"
    sheet.text(box.name, (left, box.y + 38), words, room=room, look=Look.MUTED)
    return box


def _draw_link(sheet: Sheet, host: Host, uplink: Box, external: Box, *, before: float) -> None:
    """Draw the veth pair between the two bridges, on the left of the host's own network."""
    x, bad = uplink.x + GUTTER / 2, host.stack.reach.state.bad
    look = Look.BAD if bad else Look.PUBLIC
    sheet.line([(x, uplink.bottom), (x, external.y)], look, dashed=bad)
    room = before - x - 22
    for words in (
        f"veth {' – '.join(host.stack.links)}: only ARP and IPv4 of floating IPs",  # noqa: RUF001
        "veth: only ARP and IPv4 of floating IPs",
        "veth pair",
    ):
        if text_width(words, 11) <= room:
            place = (x + 10, external.y - 10)
            sheet.text(external.inside, place, words, room=room, size=11, look=look)
            return


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


def _nic_words(host: Host) -> str:
    return f"port of {host.stack.uplink}" if host.stack.bridged else host.address


def _nic_width(host: Host) -> float:
    address = text_width(_nic_words(host), 13, mono=True)
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
        (_nic_words(host), 38, 13, True),
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


def _draw_external(
    sheet: Sheet, host: Host, networks: Networks, frame: Box, sizes: Sizes, *, y: float
) -> Box:
    bad = host.stack.bridges.state.bad
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
    sheet.text(box.name, place, host.stack.on_link, room=room, look=Look.PUBLIC)
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
