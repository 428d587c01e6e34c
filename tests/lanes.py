"""Lanes: the parts of the whole run that need nothing of each other and may run side by side.

A lane is the tests of one file; or those, of any files, that a mark `lane` names or that use a
set-up which is too big to be made twice; or all unit tests. Every test is in exactly one lane, so
all lanes together are all tests.
"""

from __future__ import annotations

import pytest

# By fixture; nobody has to remember the mark.
SHARED = {"full": "full site"}
UNIT = "unit tests"


def lane_of(item: pytest.Item) -> str:
    """Return the lane of a test: what its mark `lane` or its set-up says, or its file."""
    mark = item.get_closest_marker("lane")
    if mark:
        return str(mark.args[0])
    shared = [SHARED[name] for name in getattr(item, "fixturenames", ()) if name in SHARED]
    if shared:
        return shared[0]
    file = file_of(item)
    return UNIT if file.startswith("tests/unit/") else file


def file_of(item: pytest.Item) -> str:
    """Return the file of a test, as pytest takes it."""
    return item.nodeid.partition("::")[0]


def keep_lane(lane: str, items: list[pytest.Item]) -> list[pytest.Item]:
    """Leave the tests of one lane in items, and return the others."""
    others = [item for item in items if lane_of(item) != lane]
    items[:] = [item for item in items if lane_of(item) == lane]
    return others
