"""How wide a text will be, without any font at hand: an upper estimate. Pure.

The picture asks for the reader's system font, which is not known here. DejaVu Sans is the widest of
the usual ones; what fits with its widths fits with all. Monospaced fonts are alike: 0.602 em.
"""

from __future__ import annotations

import unicodedata

MONO_EM = 0.605
BOLD_FACTOR = 1.11
ELLIPSIS = "…"
_WIDTHS_EM = (
    (0.33, "ijlI.,:;'|! "),
    (0.42, 'frt()[]-/\\"`'),
    (0.56, "ksvxyzc?_"),
    (0.64, "0123456789abdeghnopquLFJTZ·"),
    (0.72, "ABCDEHKNPRSUVXY&"),
    (0.86, "wGMOQ<>=+~#–"),  # noqa: RUF001 (an en dash, as in ranges)
    (1.02, "mW@%→…"),
)
_BY_LETTER = {letter: width for width, letters in _WIDTHS_EM for letter in letters}
_OTHER_EM = 0.8
_WIDE_EM = 1.05


def text_width(text: str, size: float, *, bold: bool = False, mono: bool = False) -> float:
    """Return the width of text in pixels, rather too much than too little."""
    total = sum(_letter_em(letter, mono=mono) for letter in text)
    return total * size * (BOLD_FACTOR if bold and not mono else 1.0)


def fit_text(
    text: str, width: float, size: float, *, bold: bool = False, mono: bool = False
) -> tuple[str, float]:
    """Return text and size so that it is not wider than width.

    First the letters get smaller, to little more than half and 9 pixels; then the end is cut.
    """
    full = text_width(text, size, bold=bold, mono=mono)
    if full <= width:
        return text, size
    smallest = max(min(9.0, size), size * 0.55)
    smaller = max(smallest, int(size * width / full * 10) / 10)
    if text_width(text, smaller, bold=bold, mono=mono) <= width:
        return text, smaller
    kept = text
    while kept and text_width(kept + ELLIPSIS, smaller, bold=bold, mono=mono) > width:
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS, smaller


def wrap_text(
    text: str, width: float, size: float, *, bold: bool = False, mono: bool = False
) -> tuple[str, ...]:
    """Return text in lines that are no wider than width; a word that is wider has its own."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size, bold=bold, mono=mono) > width:
            lines.append(line)
            longer = word
        line = longer
    return (*lines, line)


def _letter_em(letter: str, *, mono: bool) -> float:
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return _WIDE_EM
    return MONO_EM if mono else _BY_LETTER.get(letter, _OTHER_EM)


def split_name(name: str, width: float, size: float) -> tuple[str, ...]:
    """Return a bold name as one line, or as two where it would have to be much smaller."""
    full = text_width(name, size, bold=True)
    if full <= width * 1.25:
        return (name,)
    at = name.rfind("-", 1, len(name) * 2 // 3) + 1 or (len(name) + 1) // 2
    return name[:at], name[at:]
