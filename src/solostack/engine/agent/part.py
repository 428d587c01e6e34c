"""Which of the ledger's records a partial undo takes back. Pure.

A request is {"only": labels} or {"newer_than": labels, "but": labels}; a label is ``path /x``
(lines of files, too), ``unit x`` or ``step x``. Packages are of no part: all else may need them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def chosen(
    entries: Sequence[dict[str, Any]], part: Mapping[str, Sequence[str]] | None
) -> list[dict[str, Any]]:
    """Return the open entries, the oldest first, that a request means; all without a request.

    ``only`` means the records of those labels. ``newer_than`` means all that came after the oldest
    record of its labels, without those of ``but``; nothing when there is no such record.
    """
    if part is None:
        return list(entries)
    if "only" in part:
        labels = set(part["only"])
        found = {entry["id"] for entry in entries if label(entry) in labels}
    else:
        since, kept = set(part["newer_than"]), set(part["but"])
        oldest = min((one["id"] for one in entries if label(one) in since), default=None)
        found = {
            entry["id"]
            for entry in entries
            if oldest is not None
            and entry["id"] > oldest
            and entry["kind"] != "packages"
            and label(entry) not in kept
        }
    # A directory above what stays cannot go; tried now, it would count as taken back.
    above: set[str] = set()
    for entry in entries:
        path = entry.get("path", "") if entry["id"] not in found else ""
        while path.rstrip("/"):
            path = path.rpartition("/")[0]
            above.add(path)
    return [one for one in entries if one["id"] in found and one.get("path") not in above]


def label(entry: Mapping[str, Any]) -> str:
    """Return the name of a record's thing; all records of one thing have the same."""
    if "path" in entry:
        return f"path {entry['path']}"
    return f"{entry['kind']} {entry.get('name', '')}"
