"""nftables: pictures of tables, and the transaction that makes each what it was.

Tables are handled one by one. One that holds expressions of iptables-nft cannot be loaded from what
nft prints of it (nft marks it "managed by iptables-nft, do not touch"), so iptables-save keeps it.
"""

from __future__ import annotations

import re

from .tools import Log, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_NOT_THERE = 127
_IPTABLES = {"ip": "iptables", "ip6": "ip6tables"}
_XT = re.compile(r"^\s.*\bxt (?:match|target) |# xt_|^\s+xt ", re.MULTILINE)


def look() -> dict[str, dict[str, str]]:
    """Return every table by "family name": its text, a text to compare, iptables' own text."""
    texts = dict(split(run(("nft", "list", "ruleset")).out))
    plain = dict(split(run(("nft", "--stateless", "list", "ruleset")).out))
    found = {}
    for key, text in texts.items():
        family, name = key.split()
        saved = ""
        if family in _IPTABLES and _XT.search(text):
            saved = run((f"{_IPTABLES[family]}-save", "-t", name)).out
        found[key] = {"text": text, "plain": comparable(plain.get(key, text)), "saved": saved}
    return found


def unseen(seen: dict[str, dict[str, str]]) -> str:
    """Say which tables a picture of now should have and has not, "" when it has all."""
    listed = run(("nft", "list", "tables"))
    if listed.status == _NOT_THERE:
        return ""
    if listed.status != 0:
        return f"its tables ({listed.error.splitlines()[0] if listed.error else listed.status})"
    lines = [line for line in listed.out.splitlines() if line.startswith("table ")]
    return ", ".join(line for line in lines if line.removeprefix("table ") not in seen)


def split(ruleset: str) -> Iterator[tuple[str, str]]:
    """Yield ("family name", text) of each table of ``nft list ruleset``."""
    key, lines = "", list[str]()
    for line in ruleset.splitlines():
        if line.startswith("table "):
            key, lines = " ".join(line.split()[1:3]), []
        if key:
            lines.append(line)
        if line == "}" and key:
            yield key, "\n".join(lines) + "\n"
            key = ""


def comparable(text: str) -> str:
    """Return a table's text without the elements of sets that packets fill."""
    kept: list[str] = []
    dynamic = inside = False
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in {"set", "map", "chain"}:
            dynamic = False
        if words and words[0] == "flags":
            dynamic = bool({"dynamic", "timeout"} & set(re.split(r"[\s,]+", line)))
        if dynamic and words[:2] == ["elements", "="]:
            inside = True
        if not inside:
            kept.append(" ".join(words))
        if inside and line.rstrip().endswith("}"):
            inside = False
    return "\n".join(kept)


def differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the tables that are not as they were: changed, gone or new."""
    return [
        key
        for key in dict.fromkeys((*before, *now))
        if key not in before or key not in now or before[key]["plain"] != now[key]["plain"]
    ]


def restore(before: dict[str, Any], log: Log) -> None:
    """Make every table what it was; one that cannot be is noted and the others go on."""
    now = look()
    for key in differing(before, now):
        family, name = key.split()
        if key not in before:
            log.act(("nft", "delete", "table", family, name))
        elif before[key]["saved"]:
            log.act((f"{_IPTABLES[family]}-restore", "-T", name), stdin=before[key]["saved"])
        else:
            log.act(("nft", "-f", "-"), stdin=transaction(key, before[key]["text"]))


def transaction(key: str, text: str) -> str:
    """Return the input of nft that replaces a table, or makes it anew, in one step."""
    return f"table {key} {{\n}}\ndelete table {key}\n{text}"
