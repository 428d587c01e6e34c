"""Where the host's own network goes: routes, ARP, firewall, ports that lead to instances. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from solostack.picture.model import Seen, Side, Stack
from solostack.picture.sheet import CHIP_HEIGHT, Box, Chip, Look, Sheet
from solostack.picture.text import wrap_text

PADDING = 14.0
GUTTER = 34.0
WIDE = 488.0
_ROW = 18.0
_TOP = 10.0
_BETWEEN = 10.0
_SIZE = 11.5
_LOOKS = {Side.DATA: Look.DATA, Side.TRANSIT: Look.TRANSIT, Side.EXTERNAL: Look.PUBLIC}


@dataclasses.dataclass(frozen=True, slots=True)
class _Panel:
    """A heading with lines: what the host does with packets, in words."""

    heading: str
    lines: list[tuple[str, Look]]
    seen: Seen

    @property
    def title(self) -> str:
        return f"{self.heading}: {self.seen.note}" if self.seen.state.bad else self.heading

    def wrapped(self, room: float) -> list[tuple[str, Look]]:
        return [
            (part, Look.BAD if self.seen.state.bad else look)
            for text, look in self.lines
            for part in wrap_text(text, room, _SIZE, mono=True)
        ]

    def height(self, room: float) -> float:
        return (len(self.wrapped(room)) + 1) * _ROW


def stack_height(stack: Stack, width: float) -> float:
    """Return the height that the host's own network needs at a width."""
    room, wide = _room(width), width >= WIDE
    columns = [_column_height(column, room) for column in _columns(stack, wide=wide)]
    chip_rows = 1 if wide or not stack.routed else 2
    return _TOP + max(columns) + 8 + chip_rows * (CHIP_HEIGHT + 4)


def draw_stack(sheet: Sheet, stack: Stack, box: Box, external_x: float) -> tuple[float, float]:
    """Draw panels and the two ports; return the x of the external and the data port."""
    room = _room(box.width)
    x = box.x + PADDING
    for column in _columns(stack, wide=box.width >= WIDE):
        y = box.y + _TOP
        for panel in column:
            _draw_panel(sheet, panel, box, (x, y), room)
            y += panel.height(room) + _BETWEEN
        x += room + PADDING
    return _draw_ports(sheet, stack, box, external_x)


def _room(width: float) -> float:
    return (width - 3 * PADDING) / 2 if width >= WIDE else width - 2 * PADDING


def _columns(stack: Stack, *, wide: bool) -> list[list[_Panel]]:
    left = [_routes(stack), _arp(stack)]
    right = [_firewall(stack)]
    if stack.published:
        lines = [(text, Look.PUBLIC) for text in stack.published]
        left.insert(1, _Panel("Published ports", lines, stack.firewall))
    return [left, right] if wide else [left + right]


def _column_height(panels: Sequence[_Panel], room: float) -> float:
    return sum(panel.height(room) for panel in panels) + _BETWEEN * (len(panels) - 1)


def _routes(stack: Stack) -> _Panel:
    by = f", by {stack.uplink}" if stack.bridged else ""
    lines = [(f"{each} → {stack.external_bridge}", Look.PUBLIC) for each in stack.routed]
    if len(lines) == 1:
        lines.append((f"{stack.routed[0]} blackhole, backup", Look.MUTED))
    elif lines:
        lines.append(("each with a blackhole as backup", Look.MUTED))
    lines.append((f"default → provider, as before{by}", Look.MUTED))
    return _Panel("Host routes", lines, stack.reach)


def _arp(stack: Stack) -> _Panel:
    return _Panel("ARP", [(text, Look.INK) for text in stack.arp], stack.reach)


def _firewall(stack: Stack) -> _Panel:
    lines = [(f"in: {text}", Look.INK) for text in stack.let_in]
    lines.append(("in: ping and answers", Look.INK))
    if stack.routed:
        lines.append(("in: everything to floating IPs", Look.PUBLIC))
    lines.append(("else dropped, spoofed too", Look.MUTED))
    if stack.masqueraded:
        lines.append((f"masquerade → {stack.uplink} from", Look.INK))
        lines += [(network, _LOOKS[side]) for side, network in stack.masqueraded]
    return _Panel(f"Firewall, {stack.firewall_table}", lines, stack.firewall)


def _draw_panel(
    sheet: Sheet, panel: _Panel, box: Box, place: tuple[float, float], room: float
) -> None:
    x, y = place[0], place[1] + 13
    look = Look.BAD if panel.seen.state.bad else Look.INK
    sheet.text(box.name, (x, y), panel.title, room=room, size=12, bold=True, look=look)
    for text, shown in panel.wrapped(room):
        y += _ROW
        sheet.text(box.name, (x, y), text, room=room, size=_SIZE, mono=True, look=shown)


def _draw_ports(sheet: Sheet, stack: Stack, box: Box, external_x: float) -> tuple[float, float]:
    bad = stack.bridges.state.bad
    room = box.width - 2 * PADDING
    data = Chip(text=f"{stack.member} {stack.member_address}", look=Look.DATA, mono=True, bad=bad)
    top = box.bottom - CHIP_HEIGHT - 4
    data_left = box.right - 6 - min(data.width, room)
    sheet.chip(box.name, (data_left, top), data, room=room)
    data_x = box.right - GUTTER / 2
    if not stack.routed:
        return external_x, data_x
    text = f"{stack.external_bridge} {stack.transit_address}"
    transit = Chip(text=text, look=Look.TRANSIT, mono=True, bad=bad)
    width = min(transit.width, room)
    beside = box.width >= WIDE
    most = data_left - 12 - width if beside else box.right - 6 - width
    left = max(box.x + 6, min(external_x - width / 2, most))
    if not beside:
        left = box.x + 6
        external_x = min(external_x, data_left - 16)
    sheet.chip(box.name, (left, top if beside else top - CHIP_HEIGHT - 4), transit, room=width)
    return max(left + 12, min(external_x, left + width - 12)), data_x
