"""XML text to a tree, safely, and the few readings of it that never fail on odd values.

Domain XML may come from a hostile guest owner's hands (metadata, names), so a document type is
refused: without one there are no entities to expand and nothing external to load.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from xml.parsers import expat

from solostack.errors import SolostackError

_DOCTYPE = "<!DOCTYPE"
_NUMBER = re.compile(r"[0-9]{1,20}")


class DomainXmlError(SolostackError):
    """A domain's XML cannot be read: not well-formed, not a domain, or with a document type."""


def parse_xml(text: str, root: str) -> ET.Element:
    """Return the tree of text, whose root element must be root.

    Raises DomainXmlError. Names in the tree are ``{namespace}name``; what is not known stays in it.
    """
    # The declaration can start in no other way (XML 1.0, production 28), so nearly always a search
    # is enough; the words may also be the text of some CDATA section or comment, hence the parser.
    if _DOCTYPE in text:
        _refuse_doctype(text)
    try:
        tree = ET.fromstring(text)  # noqa: S314 (no document type, see above)
    except (ET.ParseError, ValueError) as error:
        raise DomainXmlError(f"not well-formed XML: {error}") from error
    if tree.tag != root:
        raise DomainXmlError(f"the XML is no {root}: its root element is {tree.tag[:80]}")
    return tree


def number(text: str | None) -> int | None:
    """Return a decimal number of at most 20 digits (libvirt's are 64 bits), or None."""
    if text is None:
        return None
    digits = text.strip(" \t\r\n")
    return int(digits) if _NUMBER.fullmatch(digits) else None


def element_text(parent: ET.Element, path: str) -> str | None:
    """Return the text of the first element at path, stripped; None when absent or empty."""
    found = parent.findtext(path)
    return (found.strip() or None) if found else None


def attribute(parent: ET.Element, path: str, name: str) -> str | None:
    """Return an attribute of the first element at path; None when absent or empty."""
    found = parent.find(path)
    return (found.get(name) or None) if found is not None else None


# formatdomain, "Memory Allocation": the units of a size; the default is KiB.
_UNIT_BYTES = {"b": 1, "byte": 1, "bytes": 1} | {
    name: base**power
    for power, letter in enumerate("kmgtpe", start=1)
    for name, base in ((letter, 1024), (f"{letter}ib", 1024), (f"{letter}b", 1000))
}


def size_bytes(element: ET.Element | None, *, default_unit: str) -> int | None:
    """Return the size an element holds as number and unit; None when it has no sensible one."""
    if element is None:
        return None
    count = number(element.text)
    factor = _UNIT_BYTES.get((element.get("unit") or default_unit).lower())
    return None if count is None or factor is None else count * factor


def _refuse_doctype(text: str) -> None:
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _raise_doctype
    try:
        parser.Parse(text, True)  # noqa: FBT003 (expat's own signature)
    except expat.ExpatError as error:
        raise DomainXmlError(f"not well-formed XML: {error}") from error


def _raise_doctype(*_: object) -> None:
    raise DomainXmlError("the XML has a document type (DTD), which no domain has; it is refused")
