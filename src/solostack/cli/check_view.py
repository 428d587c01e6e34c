"""How the findings of a check look to a person. Must not know how a host is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from solostack.cli import render

if TYPE_CHECKING:
    from solostack.flows.check import HostCheck

_STYLES = {"ok": "green", "info": "cyan", "warning": "yellow", "error": "bold red"}


def show_checks(checks: Sequence[HostCheck]) -> None:
    """Print every finding; for what is not well also why it matters and what to do."""
    for check in checks:
        render.show(Text(check.host, style="bold"))
        render.show(_findings(check))
        render.show(_summary(check))


def _findings(check: HostCheck) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in check.findings:
        severity = str(finding.severity)
        grid.add_row(
            Text(f"  {severity}", style=_STYLES[severity]),
            Text(str(finding.subject)),
            Text(render.printable(finding.what)),
        )
        for word, text in (("why", finding.why), ("to do", finding.todo)):
            if text:
                label = Text(word, style="dim", justify="right")
                grid.add_row("", label, Text(render.printable(text), style="dim"))
    return grid


def _summary(check: HostCheck) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in check.findings)
        for severity in _STYLES
    }
    fit = "fit" if check.fit else "NOT fit"
    return f"{check.host} is {fit}: {counts['error']} errors, {counts['warning']} warnings"
