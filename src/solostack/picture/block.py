"""Where the floating IPs go: a card with a cell for each, beside the provider's router. Pure."""

from __future__ import annotations

from solostack.picture.outside import Address, Block, last_part, tip, unusable_words
from solostack.picture.sheet import Box, Look, Sheet
from solostack.picture.text import text_width

WIDTH = 367.0
PADDING = 18.0
_LEAST_HEIGHT = 124.0
_HEAD = 58.0
_CELLS = 32.0
_ENDS = 21.0
_NOTE = 17.0
_NOTE_SIZE = 10.5
_SWATCH = 10.0
_NAMED_CELLS = 8
_FEW_CELLS = 16
_CELLS_IN_ROW = 32
_WIDEST_CELL = 44.0
_SINGLE = 20.0
_SINGLE_GAP = 4.0
_MOST_SINGLES = 16
_FEW_SINGLES = 6


def card_height(block: Block) -> float:
    """Return the height that the card needs."""
    height = _HEAD
    if block.cidr:
        height += _CELLS + _ENDS + _note_rows(block) * _NOTE
        height += 5.0 if _note_rows(block) else 0.0
    if block.singles:
        rows = -(-len(_shown_singles(block)) // _single_columns(block))
        height += rows * (_SINGLE + _SINGLE_GAP) + (7.0 if block.cidr else 0.0)
    return max(_LEAST_HEIGHT, height + 13.0)


def draw_card(sheet: Sheet, block: Block, box: Box) -> None:
    """Draw the card into its box."""
    sheet.box(box)
    _draw_head(sheet, block, box)
    y = box.y + _HEAD
    if block.cidr:
        _draw_cells(sheet, block, box)
        y += _CELLS
        _draw_ends(sheet, block, box, y + _ENDS - 1)
        y += _ENDS + (5 if _note_rows(block) else 0)
        y = _draw_notes(sheet, block, box, y) + 7
    if block.singles:
        _draw_singles(sheet, block, box, y)


def _draw_head(sheet: Sheet, block: Block, box: Box) -> None:
    left, room = box.x + PADDING, box.width - 2 * PADDING
    number = f"{block.size:,}".replace(",", " ")
    width = sheet.text(
        box.name, (left, box.y + 42), number, room=120, size=32, bold=True, look=Look.PUBLIC
    )
    left, room = left + width + 12, room - width - 12
    first, second = _head_words(block)
    sheet.text(box.name, (left, box.y + 24), first, room=room, look=Look.PUBLIC)
    place, mono = (left, box.y + 43), bool(block.cidr)
    sheet.text(box.name, place, second, room=room, size=13, mono=mono, look=Look.PUBLIC)


def _head_words(block: Block) -> tuple[str, str]:
    kind = "private" if block.private else "public"
    noun = f"{kind} address{'es' * (block.total != 1)}"
    whole = "usable" if block.size == 1 else "all usable"
    if block.size != block.total:
        noun, whole = f"of {block.total} {noun}", "usable"
    if block.used is not None:
        whole = f"{len(block.used)} in use"
    if not block.cidr:
        return f"single {noun}", whole
    comma = " " if whole == "usable" else ", "
    return f"{noun}{comma}{whole}", block.cidr


def _draw_cells(sheet: Sheet, block: Block, box: Box) -> None:
    """Draw a cell per address, or one bar for large blocks; filled is in use."""
    left, room, top = box.x + PADDING, box.width - 2 * PADDING, box.y + _HEAD
    if not block.cells:
        _draw_bar(sheet, block, box)
        return
    count = len(block.cells)
    columns = count if count <= _NAMED_CELLS else _FEW_CELLS
    columns = columns if count <= _FEW_CELLS else _CELLS_IN_ROW
    rows = -(-count // columns)
    gap = 4.0 if columns <= _FEW_CELLS else 2.5
    width = min((room + gap) / columns, _WIDEST_CELL + gap)
    tall = min((_CELLS + gap) / rows, 28.0 if count <= _NAMED_CELLS else 24.0)
    offset = (_CELLS - rows * tall + gap / 2) / 2
    for index, one in enumerate(block.cells):
        row, column = divmod(index, columns)
        place = (left + column * width, top + offset + row * tall)
        cell = _cell(sheet, box, one, place, (width - gap, tall - gap))
        if count <= _NAMED_CELLS:
            _name_cell(sheet, cell, last_part(one.address), 10.5)


def _draw_bar(sheet: Sheet, block: Block, box: Box) -> None:
    room = box.width - 2 * PADDING
    share = len(block.used or ()) / block.size
    for name, part, look in (("all", 1.0, Look.FREE), ("used", share, Look.USED)):
        if not part:
            continue
        # A bar's used part lies on the whole bar, so it is a part of it and not beside it.
        inside = f"{box.name}/all" if name == "used" else box.name
        sheet.box(
            Box(
                name=f"{box.name}/{name}",
                inside=inside,
                x=box.x + PADDING,
                y=box.y + _HEAD + 8,
                width=max(room * part, 2.0),
                height=16.0,
                look=look,
                radius=4.0,
            )
        )


def _cell(
    sheet: Sheet, box: Box, one: Address, place: tuple[float, float], size: tuple[float, float]
) -> Box:
    look = Look.USED if one.used else Look.FREE if one.usable else Look.SPENT
    return sheet.box(
        Box(
            name=f"{box.name}/{one.address}",
            inside=box.name,
            x=place[0],
            y=place[1],
            width=size[0],
            height=size[1],
            look=look,
            radius=min(4.0, size[1] / 3),
            tip=tip(one),
        )
    )


def _name_cell(sheet: Sheet, cell: Box, name: str, size: float) -> None:
    place, room = (cell.middle, cell.middle_y + size * 0.36), cell.width - 4
    sheet.text(
        cell.name, place, name, room=room, size=size, mono=True, look=cell.look, anchor="middle"
    )


def _draw_ends(sheet: Sheet, block: Block, box: Box, y: float) -> None:
    half = (box.width - 2 * PADDING) / 2 - 8
    ends = [(box.x + PADDING, block.first, "start"), (box.right - PADDING, block.last, "end")]
    for x, text, anchor in ends[: 1 if block.first == block.last else 2]:
        sheet.text(
            box.name,
            (x, y),
            text,
            room=half,
            size=11,
            mono=True,
            look=Look.PUBLIC,
            anchor=anchor,
        )


def _notes(block: Block) -> list[tuple[int, float, str, str]]:
    """Return what the grey cells are: row, distance from the left, words and tip of each.

    A tip of "" is for words that are about no cell.
    """
    room = WIDTH - 2 * PADDING
    placed: list[tuple[int, float, str, str]] = []
    row, x = 0, 0.0
    for words, whole in unusable_words(block):
        width = _SWATCH + 5 + text_width(words, _NOTE_SIZE)
        if x and x + width > room:
            row, x = row + 1, 0.0
        placed.append((row, x, words, whole))
        x += width + 11
    if block.hint:
        placed.append((row + bool(x), 0.0, block.hint, ""))
    return placed


def _note_rows(block: Block) -> int:
    return max((row for row, *_ in _notes(block)), default=-1) + 1


def _draw_notes(sheet: Sheet, block: Block, box: Box, y: float) -> float:
    """Draw what the grey cells are, and return where that ends."""
    for row, x, words, whole in _notes(block):
        left, top, room = box.x + PADDING + x, y + row * _NOTE + 3, WIDTH - 2 * PADDING
        if whole:
            _draw_swatch(sheet, box, (left, top + 2), words, whole)
            left, room = left + _SWATCH + 5, room - _SWATCH - 5
        place = (left, top + 11)
        sheet.text(box.name, place, words, room=room, size=_NOTE_SIZE, look=Look.MUTED)
    return y + _note_rows(block) * _NOTE


def _draw_swatch(
    sheet: Sheet, box: Box, place: tuple[float, float], words: str, whole: str
) -> None:
    sheet.box(
        Box(
            name=f"{box.name}/{words}",
            inside=box.name,
            x=place[0],
            y=place[1],
            width=_SWATCH,
            height=_SWATCH,
            look=Look.SPENT,
            radius=3,
            tip=whole,
        )
    )


def _single_columns(block: Block) -> int:
    return 2 if len(block.singles) <= _FEW_SINGLES else 3


def _shown_singles(block: Block) -> tuple[Address, ...]:
    """Return the addresses to draw; the last stands for all those that have no room."""
    if len(block.singles) <= _MOST_SINGLES:
        return block.singles
    shown, rest = block.singles[: _MOST_SINGLES - 2], block.singles[_MOST_SINGLES - 2 :]
    more = Address(
        address=f"{len(rest)} more",
        use="floating IPs",
        why=", ".join(one.address for one in rest),
        usable=True,
        used=False,
    )
    return (*shown, more)


def _draw_singles(sheet: Sheet, block: Block, box: Box, y: float) -> None:
    columns = _single_columns(block)
    room = box.width - 2 * PADDING
    width = (room - (columns - 1) * _SINGLE_GAP) / columns
    for index, one in enumerate(_shown_singles(block)):
        row, column = divmod(index, columns)
        left = box.x + PADDING + column * (width + _SINGLE_GAP)
        place = (left, y + row * (_SINGLE + _SINGLE_GAP))
        cell = _cell(sheet, box, one, place, (width, _SINGLE))
        _name_cell(sheet, cell, one.address, 11 if columns == 2 else 10.5)
