"""Where the compute part of a host goes: integration bridge, tenant networks, instances. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from solostack.picture.model import Compute, Instance, Networks, Part, State
from solostack.picture.sheet import Box, Chip, Look, Sheet, chips_height
from solostack.picture.text import text_width

PADDING = 14.0
BRIDGE = "br-int"
_HEADER = 44.0
_NARROW_HEADER = 62.0
_NARROW = 330.0
_TUNNEL_ROOM = 24.0
_BRIDGE_HEIGHT = 46.0
_LINK = 14.0
_ZONE_HEADER = 34.0
_NARROW_ZONE_HEADER = 50.0
_CARD_WIDTH = 164.0
_CARD_GAP = 12.0
_CARD_PADDING = 12.0
_LINE = 17.0
_GHOSTS = 3
_FEW_COLUMNS = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Where the data network and the tunnels enter: at the top edge, and at inner_y inside."""

    data_x: float
    top: float
    tunnel_x: float
    inner_y: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    """An instance's card; lines are texts with their looks, the name first."""

    lines: tuple[tuple[str, Look], ...]
    look: Look = Look.CARD
    bad: bool = False
    tip: str = ""


def compute_height(compute: Compute, networks: Networks, width: float) -> float:
    """Return the height that the compute part needs at a width."""
    room = width - 2 * PADDING
    services = chips_height(_service_chips(compute), room)
    zone = zone_height(_cards(compute, networks, room), room)
    return _header(width) + _BRIDGE_HEIGHT + _LINK + zone + 14 + services + PADDING


def draw_compute(sheet: Sheet, compute: Compute, networks: Networks, box: Box) -> Port:
    """Draw the compute part into its box."""
    sheet.box(box)
    left, room = box.x + PADDING, box.width - 2 * PADDING
    text = f"Geneve {compute.tunnel_address}"
    chip = Chip(text=text, look=Look.DATA, mono=True, tip="tunnels to other chassis end here")
    width = min(chip.width, room - _TUNNEL_ROOM)
    place = (box.right - PADDING - _TUNNEL_ROOM - width, box.y)
    port = sheet.chip(box.name, place, chip, room=width)
    _draw_title(sheet, box, port)
    bridge = _draw_bridge(sheet, compute, box)
    cards = _cards(compute, networks, room)
    zone = sheet.box(
        Box(
            name=f"{box.name}/tenant",
            inside=box.name,
            x=left,
            y=bridge.bottom + _LINK,
            width=room,
            height=zone_height(cards, room),
            look=Look.TENANT,
            radius=8,
        )
    )
    middle = box.middle
    sheet.line([(middle, bridge.bottom), (middle, zone.y)], Look.TENANT)
    _draw_zone_title(sheet, networks, zone)
    draw_cards(sheet, cards, zone)
    place = (left, zone.bottom + 14)
    sheet.chips(box.name, place, _service_chips(compute), room=room)
    return Port(data_x=port.middle, top=box.y, tunnel_x=box.right - PADDING - 10, inner_y=bridge.y)


def _draw_title(sheet: Sheet, box: Box, port: Box) -> None:
    left = box.x + PADDING
    if box.width < _NARROW:
        room = box.width - 2 * PADDING - _TUNNEL_ROOM
        sheet.text(box.name, (left, box.y + 47), "Compute", room=room, size=16, bold=True)
        return
    room = port.x - left - 12
    place = (left, box.y + 28)
    width = sheet.text(box.name, place, "Compute", room=room, size=16, bold=True) + 12
    text = "the host itself: instances are not nested"
    if text_width(text, 12) <= room - width:
        place = (left + width, box.y + 28)
        sheet.text(box.name, place, text, room=room - width, look=Look.MUTED)


def _draw_bridge(sheet: Sheet, compute: Compute, box: Box) -> Box:
    bridge = sheet.box(
        Box(
            name=f"{box.name}/{BRIDGE}",
            inside=box.name,
            x=box.x + PADDING,
            y=box.y + _header(box.width),
            width=box.width - 2 * PADDING,
            height=_BRIDGE_HEIGHT,
            look=Look.CARD,
            radius=8,
        )
    )
    room = bridge.width - 28
    place = (bridge.x + 14, bridge.y + 19)
    sheet.text(bridge.name, place, BRIDGE, room=room, size=13, bold=True, mono=True)
    datapath = "kernel datapath" if compute.kernel_datapath else "userspace datapath"
    text = f"Open vSwitch, {datapath}"
    if box.width >= _NARROW:
        text += f"; OVN chassis {compute.chassis}"
    place = (bridge.x + 14, bridge.y + 36)
    sheet.text(bridge.name, place, text, room=room, look=Look.MUTED)
    return bridge


def _draw_zone_title(sheet: Sheet, networks: Networks, zone: Box) -> None:
    x, room = zone.x + PADDING, zone.width - 2 * PADDING
    if not networks.tenant:
        text = "tenant networks"
        sheet.text(zone.name, (x, zone.y + 21), text, room=room, bold=True, look=Look.TENANT)
        return
    if zone.width < _NARROW:
        text = f"tenant {networks.tenant}"
        place = (x, zone.y + 20)
        sheet.text(zone.name, place, text, room=room, mono=True, look=Look.TENANT)
        place = (x, zone.y + 38)
        sheet.text(zone.name, place, networks.tenant_project, room=room, look=Look.TENANT)
        return
    width = room * 0.5
    place = (zone.right - PADDING, zone.y + 21)
    room -= 12 + sheet.text(
        zone.name, place, networks.tenant, room=width, mono=True, look=Look.TENANT, anchor="end"
    )
    text = f"tenant network {networks.tenant_project}"
    sheet.text(zone.name, (x, zone.y + 21), text, room=room, bold=True, look=Look.TENANT)


def columns_of(room: float) -> int:
    """Return how many cards go side by side."""
    inner = room - 2 * _CARD_PADDING
    return max(1, int((inner + _CARD_GAP) // (_CARD_WIDTH + _CARD_GAP)))


def zone_height(cards: Sequence[_Card], room: float) -> float:
    """Return the height of a zone with cards in it."""
    rows = -(-len(cards) // columns_of(room))
    return _zone_header(room) + rows * (_card_height(cards) + _CARD_GAP)


def draw_cards(sheet: Sheet, cards: Sequence[_Card], zone: Box) -> None:
    """Draw cards in rows, below the zone's title."""
    columns = columns_of(zone.width)
    room = zone.width - 2 * _CARD_PADDING
    slots = min(columns, max(len(cards), _GHOSTS))
    width = (room - (slots - 1) * _CARD_GAP) / slots
    height = _card_height(cards)
    for index, card in enumerate(cards):
        row, column = divmod(index, columns)
        box = sheet.box(
            Box(
                name=f"{zone.name}/{index}",
                inside=zone.name,
                x=zone.x + _CARD_PADDING + column * (width + _CARD_GAP),
                y=zone.y + _zone_header(zone.width) + row * (height + _CARD_GAP),
                width=width,
                height=height,
                look=card.look,
                radius=7,
                bad=card.bad,
                tip=card.tip,
            )
        )
        for number, (text, look) in enumerate(card.lines):
            first = number == 0
            sheet.text(
                box.name,
                (box.x + 11, box.y + 19 + number * _LINE),
                text,
                room=width - 22,
                size=12.5 if first else 11,
                look=look,
                bold=first,
                mono=not first and look in (Look.TENANT, Look.PUBLIC),
            )


def instance_cards(instances: Sequence[Instance], room: float) -> tuple[_Card, ...]:
    """Return a card per instance; what does not fit is counted on the last one."""
    columns = columns_of(room)
    most = 2 * columns if columns > _FEW_COLUMNS else 2 * columns + 2
    shown = instances if len(instances) <= most else instances[: most - 1]
    cards = [_instance_card(one) for one in shown]
    more = len(instances) - len(shown)
    if more:
        lines = ((f"+{more} more", Look.MUTED), ("see solostack status", Look.MUTED))
        tip = ", ".join(one.name for one in instances[len(shown) :])
        cards.append(_Card(lines=lines, look=Look.GHOST, tip=tip))
    return tuple(cards)


def _header(width: float) -> float:
    return _HEADER if width >= _NARROW else _NARROW_HEADER


def _zone_header(width: float) -> float:
    return _ZONE_HEADER if width >= _NARROW else _NARROW_ZONE_HEADER


def _card_height(cards: Sequence[_Card]) -> float:
    return 12 + _LINE * max((len(card.lines) for card in cards), default=1)


def _cards(compute: Compute, networks: Networks, room: float) -> tuple[_Card, ...]:
    if compute.instances:
        return instance_cards(compute.instances, room)
    if compute.instances is None and _planned(compute):
        fixed = f"one of {networks.tenant}" if networks.tenant else "a tenant's address"
        lines = (
            ("instance", Look.MUTED),
            (fixed, Look.TENANT),
            ("+ a floating IP", Look.PUBLIC),
        )
        return (_Card(lines=lines, look=Look.GHOST),) * min(_GHOSTS, columns_of(room))
    text = "instances not known" if compute.instances is None else "no instances"
    return (_Card(lines=((text, Look.MUTED),), look=Look.GHOST),)


def _planned(compute: Compute) -> bool:
    return all(part.seen.state is State.PLANNED for part in compute.services)


def _instance_card(one: Instance) -> _Card:
    bad = one.seen.state.bad
    lines = [(one.name, Look.BAD if bad else Look.INK)]
    if one.seen.note:
        lines.append((one.seen.note, Look.BAD if bad else Look.MUTED))
    lines.append((_several(one.fixed) or "no address", Look.TENANT))
    lines.append((_several(one.floating) or "no floating IP", Look.PUBLIC))
    addresses = ", ".join((*one.fixed, *one.floating))
    look = Look.GHOST if one.seen.state is State.UNKNOWN else Look.CARD
    tip = f"{one.name} (project {one.project}) {addresses}"
    return _Card(lines=tuple(lines), look=look, bad=bad, tip=tip)


def _several(addresses: Sequence[str]) -> str:
    if len(addresses) <= 1:
        return "".join(addresses)
    return f"{addresses[0]} +{len(addresses) - 1}"


def _service_chips(compute: Compute) -> tuple[Chip, ...]:
    machine = "KVM, unnested" if compute.kvm else "emulated, no KVM"
    room = f"{compute.instance_memory_mib} MiB for instances"
    return (
        *(_service_chip(part) for part in compute.services),
        Chip(text=machine),
        Chip(text=room),
    )


def _service_chip(part: Part) -> Chip:
    bad = part.seen.state.bad
    if bad:
        return Chip(text=f"{part.name}: {part.seen.note}", bad=True, tip=part.seen.note)
    look = Look.GHOST if part.seen.state is State.UNKNOWN else Look.CHIP
    return Chip(text=part.name, look=look, tip=part.seen.note)
