"""The picture as SVG, and as a page around it. Pure: equal pictures, equal bytes.

Colours are plain classes with a second set for readers who prefer dark; custom properties would be
shorter, but librsvg does not know them. No font is embedded: the reader's own is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from solostack.picture.sheet import Box, Line, Look, Picture, Shape, Text

SANS = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', "
    "'DejaVu Sans', sans-serif"
)
MONO = (
    "ui-monospace, 'SF Mono', 'Cascadia Mono', 'Segoe UI Mono', 'Liberation Mono', "
    "'DejaVu Sans Mono', monospace"
)
# Look: fill of boxes, their edge, colour of texts and of lines.
_LIGHT = {
    Look.PAGE: ("#ffffff", "none", "#ffffff", "#ffffff"),
    Look.OUTSIDE: ("#f1f5f9", "#94a3b8", "#0f172a", "#475569"),
    Look.HOST: ("#f8fafc", "#64748b", "#0f172a", "#475569"),
    Look.CARD: ("#ffffff", "#cbd5e1", "#0f172a", "#475569"),
    Look.ZONE: ("#f1f5f9", "#cbd5e1", "#0f172a", "#475569"),
    Look.CHIP: ("#eef2f6", "#dbe3ec", "#475569", "#475569"),
    Look.GHOST: ("#ffffff", "#94a3b8", "#64748b", "#94a3b8"),
    Look.WIRE: ("#1e293b", "#1e293b", "#1e293b", "#1e293b"),
    Look.PUBLIC: ("#fff3e8", "#f0883e", "#b03a06", "#e8590c"),
    Look.TRANSIT: ("#e3f8f4", "#2bb5a0", "#0b665c", "#0d9488"),
    Look.DATA: ("#eaf1ff", "#5b8def", "#1d4ec0", "#2563eb"),
    Look.TENANT: ("#faedfb", "#c678d0", "#8a1f96", "#b02fbf"),
    Look.BAD: ("#fff1f1", "#dc2626", "#c01818", "#dc2626"),
    Look.FREE: ("#ffffff", "#f0883e", "#b03a06", "#e8590c"),
    Look.USED: ("#e8590c", "#e8590c", "#ffffff", "#e8590c"),
    Look.SPENT: ("#dfe5ec", "#94a3b8", "#526077", "#94a3b8"),
    Look.INK: ("#0f172a", "none", "#0f172a", "#0f172a"),
    Look.MUTED: ("#526077", "none", "#526077", "#526077"),
}
_DARK = {
    Look.PAGE: ("#0d1117", "none", "#0d1117", "#0d1117"),
    Look.OUTSIDE: ("#1a212b", "#5b6b80", "#e8edf4", "#9fb0c5"),
    Look.HOST: ("#131923", "#5b6b80", "#e8edf4", "#9fb0c5"),
    Look.CARD: ("#1b2330", "#3a475a", "#e8edf4", "#9fb0c5"),
    Look.ZONE: ("#171e29", "#334053", "#e8edf4", "#9fb0c5"),
    Look.CHIP: ("#263142", "#36445a", "#b6c3d4", "#9fb0c5"),
    Look.GHOST: ("#171e29", "#5b6b80", "#9fb0c5", "#5b6b80"),
    Look.WIRE: ("#d5deea", "#d5deea", "#d5deea", "#d5deea"),
    Look.PUBLIC: ("#33200f", "#c76a26", "#ffb27a", "#f08a45"),
    Look.TRANSIT: ("#0d2c2a", "#24897c", "#6fdccb", "#2bb5a0"),
    Look.DATA: ("#14233f", "#3f6fcc", "#9cc0ff", "#5b8def"),
    Look.TENANT: ("#2c1830", "#96499f", "#eaa6f2", "#c966d4"),
    Look.BAD: ("#391519", "#f25555", "#ff9a9a", "#f25555"),
    Look.FREE: ("#1b130b", "#c76a26", "#ffb27a", "#f08a45"),
    Look.USED: ("#f08a45", "#f08a45", "#1b130b", "#f08a45"),
    Look.SPENT: ("#303b4b", "#5b6b80", "#9fb0c5", "#5b6b80"),
    Look.INK: ("#e8edf4", "none", "#e8edf4", "#e8edf4"),
    Look.MUTED: ("#9fb0c5", "none", "#9fb0c5", "#9fb0c5"),
}
_LIGHT_CALM = {
    Look.PUBLIC: ("#f7f4e8", "#b8a96b", "#5f5422", "#8f8042"),
    Look.FREE: ("#ffffff", "#b8a96b", "#5f5422", "#8f8042"),
    Look.USED: ("#8f8042", "#8f8042", "#ffffff", "#8f8042"),
}
_DARK_CALM = {
    Look.PUBLIC: ("#26241a", "#857a4c", "#d6cb9a", "#a89a5c"),
    Look.FREE: ("#16150f", "#857a4c", "#d6cb9a", "#a89a5c"),
    Look.USED: ("#a89a5c", "#a89a5c", "#16150f", "#a89a5c"),
}
# What XML 1.0 section 2.2 does not allow, not even escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_svg(picture: Picture) -> str:
    """Return the picture as one SVG document."""
    width, height = _number(picture.width), _number(picture.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title desc">',
        f'<title id="title">{_escape(picture.title)}</title>',
        f'<desc id="desc">{_escape(picture.description)}</desc>',
        "<style>",
        *_style(calm=picture.calm),
        "</style>",
        f'<rect class="b-page" width="{width}" height="{height}"/>',
        *(_shape(shape) for shape in picture.shapes),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def render_html(picture: Picture) -> str:
    """Return a page with the picture in it, as wide as the window lets it be."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_escape(picture.title)}</title>\n"
        "<style>\nbody { margin: 0; background: #ffffff; }\n"
        "svg { display: block; margin: 0 auto; max-width: 100%; height: auto; }\n"
        "@media (prefers-color-scheme: dark) { body { background: #0d1117; } }\n"
        "</style>\n</head>\n<body>\n"
        f"{render_svg(picture)}</body>\n</html>\n"
    )


def _style(*, calm: bool) -> Iterator[str]:
    yield f"text {{ font-family: {SANS}; white-space: pre; }}"
    yield f".mono {{ font-family: {MONO}; }}"
    yield ".bold { font-weight: 650; }"
    yield "rect { stroke-width: 1.25; }"
    yield ".b-host { stroke-width: 2; }"
    yield "polyline { fill: none; stroke-linejoin: round; }"
    yield ".dash { stroke-dasharray: 5 4; }"
    yield ".b-ghost { stroke-dasharray: 3 3; }"
    yield ".b-bad { stroke-dasharray: 6 4; stroke-width: 2; }"
    yield from _colours(_LIGHT | _LIGHT_CALM if calm else _LIGHT)
    yield "@media (prefers-color-scheme: dark) {"
    yield from _colours(_DARK | _DARK_CALM if calm else _DARK)
    yield "}"


def _colours(colours: dict[Look, tuple[str, str, str, str]]) -> Iterator[str]:
    for look, (fill, edge, text, line) in colours.items():
        yield f".b-{look} {{ fill: {fill}; stroke: {edge}; }}"
        yield f".t-{look} {{ fill: {text}; }}"
        yield f".l-{look} {{ stroke: {line}; }}"


def _shape(shape: Shape) -> str:
    match shape:
        case Box():
            return _box(shape)
        case Text():
            return _text(shape)
        case Line():
            return _line(shape)


def _box(box: Box) -> str:
    look = Look.BAD if box.bad else box.look
    attributes = (
        f'<rect class="b-{look}" x="{_number(box.x)}" y="{_number(box.y)}" '
        f'width="{_number(box.width)}" height="{_number(box.height)}" rx="{_number(box.radius)}"'
    )
    if box.tip:
        return f"{attributes}><title>{_escape(box.tip)}</title></rect>"
    return f"{attributes}/>"


def _text(text: Text) -> str:
    names = [f"t-{text.look}", *(["mono"] if text.mono else []), *(["bold"] if text.bold else [])]
    x = text.x + {"start": 0.0, "middle": text.width / 2, "end": text.width}[text.anchor]
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    tip = f"<title>{_escape(text.full)}</title>" if text.full else ""
    return (
        f'<text class="{" ".join(names)}" x="{_number(x)}" y="{_number(text.y)}" '
        f'font-size="{_number(text.size)}"{anchor}>{tip}{_escape(text.text)}</text>'
    )


def _line(line: Line) -> str:
    points = " ".join(f"{_number(x)},{_number(y)}" for x, y in line.points)
    dash = " dash" if line.dashed else ""
    return (
        f'<polyline class="l-{line.look}{dash}" stroke-width="{_number(line.width)}" '
        f'points="{points}"/>'
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _escape(text: str) -> str:
    clean = _NO_XML.sub("\ufffd", text)
    for letter, name in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot")):
        clean = clean.replace(letter, f"&{name};")
    return clean
