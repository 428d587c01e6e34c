"""Options of the whole suite."""

import hypothesis
import pytest

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
