"""How the result of `down` looks: what was undone, and what is not as before."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

from solostack.cli import render

if TYPE_CHECKING:
    from solostack.flows.down import Undone
    from solostack.host.snapshot_model import Comparison, Difference

SHOWN = 40
CELL_LENGTH = 60


def show_down(undone: Sequence[Undone], *, json: bool) -> None:
    """Show for each host what was undone, and how the host differs from before."""
    if json:
        render.print_json({"hosts": [_value(one) for one in undone]})
        return
    if not undone:
        render.show("nothing to undo")
        return
    for one in undone:
        report = one.report
        render.show(
            f"{report.machine}: {len(report.changed)} changes undone in {report.seconds:.1f} s"
        )
        _show_comparison(report.machine, one.comparison)


def _value(undone: Undone) -> dict[str, object]:
    comparison = undone.comparison
    return {
        "host": undone.report.machine,
        "undone": list(undone.report.changed),
        "differences": list(comparison.differences),
        "kept_with_packages": list(comparison.kept_with_packages),
        "compared": comparison.compared,
        "not_compared": comparison.problem,
    }


def _show_comparison(host: str, comparison: Comparison) -> None:
    if comparison.problem:
        render.show_error_text(f"warning: {host}: not compared with before: {comparison.problem}")
        return
    total = sum(comparison.compared.values())
    found = comparison.differences
    if found:
        render.show_error_text(f"warning: {host}: {len(found)} of {total} things are not as before")
        rows = [(one.section, one.name, one.kind.value, *_cells(one)) for one in found[:SHOWN]]
        render.print_table(("kind", "what", "is", "before", "now"), rows)
        if len(found) > SHOWN:
            render.show(f"and {len(found) - SHOWN} more: down --json lists all")
    elif comparison.kept_with_packages:
        render.show(
            f"{host}: the host is as it was before, but for packages that stay: "
            f"{total} things compared"
        )
    else:
        render.show(f"{host}: the host is as it was before: {total} things compared")
    if comparison.kept_with_packages:
        counted = collections.Counter(one.section for one in comparison.kept_with_packages)
        parts = ", ".join(f"{count} {section}" for section, count in sorted(counted.items()))
        render.show(f"{host}: belongs to packages that stay: {parts}")


def _cells(one: Difference) -> tuple[str | None, str | None]:
    """Return before and now, each as one short line: of long texts the first that differ."""
    old, new = one.before.splitlines(), one.after.splitlines()
    if one.before and one.after:
        old = [line for line in old if line not in new] or old
        new = [line for line in new if line not in one.before.splitlines()] or new
    return _short(old), _short(new)


def _short(lines: Sequence[str]) -> str | None:
    if not lines:
        return None
    line = lines[0] if len(lines[0]) <= CELL_LENGTH else f"{lines[0][: CELL_LENGTH - 3]}..."
    return line if len(lines) == 1 else f"{line} (and {len(lines) - 1} more lines)"
