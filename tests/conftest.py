"""Options of the whole suite."""

from __future__ import annotations

import signal

import hypothesis
import pytest

from tests.lanes import keep_lane

# The machine may be busy: how long an example takes says nothing about the code.
hypothesis.settings.register_profile(
    "steady", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="rewrite the expected files under tests/golden and the generated parts of docs; "
        "review them as a diff",
    )
    parser.addoption("--lane", help="only the tests of this lane (tests/lanes.py)")


class AtOnce:
    """Shows a failure when it happens: a lane may go on for most of an hour."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what failed, with what the test printed."""
        if report.failed:
            self._show(report, report.when)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write what cannot be read."""
        if report.failed:
            self._show(report, "collection")

    def _show(self, report: pytest.TestReport | pytest.CollectReport, when: str) -> None:
        write = self._config.get_terminal_writer().line
        write(f"\n{'_' * 20} {report.nodeid} {when} {'_' * 20}")
        write(report.longreprtext)
        for title, text in report.sections:
            write(f"{'-' * 20} {title}\n{text}")

    def pytest_sessionfinish(self) -> None:
        """Have the summary at the end not show them again."""
        self._config.option.tbstyle = "no"


def pytest_configure(config: pytest.Config) -> None:
    """End on SIGTERM as on Ctrl-C, also in the background: fixtures take away what they made."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if config.getoption("--lane"):
        config.pluginmanager.register(AtOnce(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lane = config.getoption("lane")
    if lane:
        config.hook.pytest_deselected(items=keep_lane(lane, items))
