"""A sheet of paper: boxes, texts and lines with their places, in pixels. Knows no topology."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from solostack.picture.text import fit_text, text_width

CHIP_HEIGHT = 22.0
CHIP_GAP = 6.0
CHIP_PADDING = 9.0
CHIP_SIZE = 11.0


class Look(enum.StrEnum):
    """The looks of boxes, lines and texts; picture.svg gives each its colours."""

    PAGE = "page"
    OUTSIDE = "outside"
    HOST = "host"
    CARD = "card"
    ZONE = "zone"
    CHIP = "chip"
    GHOST = "ghost"
    WIRE = "wire"
    PUBLIC = "public"
    TRANSIT = "transit"
    DATA = "data"
    TENANT = "tenant"
    BAD = "bad"
    FREE = "free"
    USED = "used"
    SPENT = "spent"
    INK = "ink"
    MUTED = "muted"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rounded rectangle. inside is the name of the box around it, "" for the page.

    bad: planned but absent or failed. tip is shown when the pointer rests on it.
    """

    name: str
    inside: str
    x: float
    y: float
    width: float
    height: float
    look: Look
    radius: float
    bad: bool = False
    tip: str = ""

    @property
    def right(self) -> float:
        """The x of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of the bottom edge."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """The x of the middle."""
        return self.x + self.width / 2

    @property
    def middle_y(self) -> float:
        """The y of the middle."""
        return self.y + self.height / 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A line of text: x is the left edge, y the baseline, width an upper estimate.

    full is the whole text where it had to be cut, else "".
    """

    inside: str
    x: float
    y: float
    width: float
    text: str
    size: float
    look: Look
    bold: bool = False
    mono: bool = False
    anchor: str = "start"
    full: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through points; width is its thickness."""

    points: tuple[tuple[float, float], ...]
    look: Look
    width: float = 2.0
    dashed: bool = False


Shape = Box | Text | Line


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A finished sheet; shapes in the order in which they are painted.

    calm: what is public elsewhere is private here, and has a quieter colour.
    """

    title: str
    description: str
    width: float
    height: float
    shapes: tuple[Shape, ...]
    calm: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A small box around one text."""

    text: str
    look: Look = Look.CHIP
    mono: bool = False
    bad: bool = False
    tip: str = ""

    @property
    def width(self) -> float:
        """The width it needs for its whole text."""
        return text_width(self.text, CHIP_SIZE, mono=self.mono) + 2 * CHIP_PADDING


class Sheet:
    """Collects shapes in the order in which they are painted."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def box(self, box: Box) -> Box:
        """Add a box."""
        self.shapes.append(box)
        return box

    def line(
        self,
        points: Sequence[tuple[float, float]],
        look: Look,
        *,
        width: float = 2.0,
        dashed: bool = False,
    ) -> None:
        """Add a line."""
        self.shapes.append(Line(points=tuple(points), look=look, width=width, dashed=dashed))

    def text(
        self,
        inside: str,
        place: tuple[float, float],
        text: str,
        *,
        room: float,
        size: float = 12.0,
        look: Look = Look.INK,
        bold: bool = False,
        mono: bool = False,
        anchor: str = "start",
    ) -> float:
        """Add a text no wider than room and return its width; place is its start and baseline.

        With anchor "middle" or "end" place is that point of it.
        """
        shown, size = fit_text(text, room, size, bold=bold, mono=mono)
        width = text_width(shown, size, bold=bold, mono=mono)
        left = place[0] - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        self.shapes.append(
            Text(
                inside=inside,
                x=left,
                y=place[1],
                width=width,
                text=shown,
                size=size,
                look=look,
                bold=bold,
                mono=mono,
                anchor=anchor,
                full="" if shown == text else text,
            )
        )
        return width

    def chip(self, inside: str, place: tuple[float, float], chip: Chip, *, room: float) -> Box:
        """Add a chip with its top left corner at place."""
        width = min(chip.width, room)
        box = Box(
            name=f"{inside}/{chip.text}",
            inside=inside,
            x=place[0],
            y=place[1],
            width=width,
            height=CHIP_HEIGHT,
            look=chip.look,
            radius=CHIP_HEIGHT / 2,
            bad=chip.bad,
            tip=chip.tip,
        )
        self.box(box)
        look = Look.BAD if chip.bad else Look.MUTED if chip.look is Look.CHIP else chip.look
        self.text(
            box.name,
            (box.middle, box.y + 15),
            chip.text,
            room=width - 2 * CHIP_PADDING + 0.5,
            size=CHIP_SIZE,
            look=look,
            mono=chip.mono,
            anchor="middle",
        )
        return box

    def chips(
        self, inside: str, place: tuple[float, float], chips: Iterable[Chip], *, room: float
    ) -> float:
        """Add chips in rows and return the y below the last row."""
        left, top = place
        x = left
        for chip in chips:
            if x > left and x + chip.width > left + room:
                x, top = left, top + CHIP_HEIGHT + CHIP_GAP
            x = self.chip(inside, (x, top), chip, room=room).right + CHIP_GAP
        return top + CHIP_HEIGHT


def chips_height(chips: Sequence[Chip], room: float) -> float:
    """Return the height that Sheet.chips will take."""
    return Sheet().chips("", (0.0, 0.0), chips, room=room)
