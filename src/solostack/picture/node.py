"""Where everything of one control node goes. Pure."""

from __future__ import annotations

import dataclasses

from solostack.picture.model import Gateway, Nic, Node
from solostack.picture.sheet import CHIP_HEIGHT, Box, Chip, Look, Sheet, chips_height

PADDING = 14.0
DATA_NETWORK = "data"
_HEADER = 40.0
_GATEWAY_HEADER = 30.0
_FOOTER = CHIP_HEIGHT + 18.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where lines to a node end. tunnel is the point where the gateway's tunnels leave."""

    data_x: float
    external_x: float | None
    tunnel: tuple[float, float] | None


def node_height(node: Node, width: float) -> float:
    """Return the height that a node needs at a width."""
    room = width - 2 * PADDING
    height = _HEADER + chips_height(_machine_chips(node), room) + 10
    if node.gateway:
        inner = room - 2 * PADDING
        height += _GATEWAY_HEADER + chips_height(_gateway_chips(node.gateway), inner) + 12
    if node.services:
        height += chips_height(_service_chips(node), room)
    return height + _FOOTER


def draw_node(sheet: Sheet, node: Node, box: Box) -> Ports:
    """Draw a node into its box."""
    sheet.box(box)
    data, others = node.nics[0], node.nics[1:]
    left, room = box.x + PADDING, box.width - 2 * PADDING
    external_x = None
    name_room = room
    for nic in others:
        chip = _nic_chip(nic)
        width = min(chip.width, room * 0.62)
        place = (box.right - PADDING - width, box.y)
        external_x = sheet.chip(box.name, place, chip, room=width).middle
        name_room = place[0] - left - 10
    bad = node.seen.state.bad
    look = Look.BAD if bad else Look.INK
    place = (left, box.y + 27)
    sheet.text(box.name, place, node.name, room=name_room, size=16, bold=True, look=look)
    y = sheet.chips(box.name, (left, box.y + _HEADER), _machine_chips(node), room=room) + 10
    tunnel = None
    if node.gateway:
        y = _draw_gateway(sheet, node.gateway, box, y)
        tunnel = (box.right - PADDING - 24, y)
        y += 10
    if node.services:
        sheet.chips(box.name, (left, y), _service_chips(node), room=room)
    chip = _nic_chip(data)
    place = (left, box.bottom - CHIP_HEIGHT)
    data_x = sheet.chip(box.name, place, chip, room=room - 40).middle
    return Ports(data_x=data_x, external_x=external_x, tunnel=tunnel)


def _draw_gateway(sheet: Sheet, gateway: Gateway, node: Box, y: float) -> float:
    """Draw the gateway below y and return its bottom."""
    inner = node.width - 4 * PADDING
    bad = gateway.seen.state.bad
    box = sheet.box(
        Box(
            name=f"{node.name}/gateway",
            inside=node.name,
            x=node.x + PADDING,
            y=y,
            width=node.width - 2 * PADDING,
            height=_GATEWAY_HEADER + chips_height(_gateway_chips(gateway), inner) + 10,
            look=Look.ZONE,
            radius=8,
            bad=bad,
        )
    )
    title = f"OVN gateway: {gateway.seen.note}" if bad else "OVN gateway"
    look = Look.BAD if bad else Look.INK
    place = (box.x + PADDING, y + 20)
    sheet.text(box.name, place, title, room=inner, size=12.5, bold=True, look=look)
    place = (box.x + PADDING, y + _GATEWAY_HEADER)
    sheet.chips(box.name, place, _gateway_chips(gateway), room=inner)
    return box.bottom


def _nic_chip(nic: Nic) -> Chip:
    return Chip(
        text=f"{nic.name} {nic.address or 'no address'}",
        look=Look.DATA if nic.network == DATA_NETWORK else Look.PUBLIC,
        mono=True,
        tip=f"{nic.name} is on {nic.bridge}",
    )


def _machine_chips(node: Node) -> tuple[Chip, ...]:
    chips = [
        Chip(text=node.runtime),
        Chip(text=f"{node.vcpus} vCPU"),
        Chip(text=f"{node.memory_mib} MiB"),
        Chip(text=f"{node.disk_gib} GiB disk"),
        *(Chip(text=f"disk {words}") for words in node.disks),
    ]
    if node.seen.note:
        bad = node.seen.state.bad
        look = Look.CHIP if bad else Look.GHOST
        chips.insert(0, Chip(text=node.seen.note, look=look, bad=bad, tip=node.seen.note))
    return tuple(chips)


def _gateway_chips(gateway: Gateway) -> tuple[Chip, ...]:
    count = f"{gateway.floating_ips} floating IP{'s' * (gateway.floating_ips != 1)}"
    return (
        Chip(text=f"{gateway.bridge} no address", look=Look.PUBLIC, mono=True),
        Chip(text=f"{count}, NAT 1:1", look=Look.PUBLIC),
        Chip(text=f"routers {gateway.routers}", look=Look.TRANSIT),
    )


def _service_chips(node: Node) -> tuple[Chip, ...]:
    return tuple(Chip(text=name) for name in node.services)
