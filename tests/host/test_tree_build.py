"""A tree built for real over a cache of packages of which one is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress
from solostack.images.recipes import Recipe
from solostack.images.trees import build_tree, tree_path

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for mmdebstrap"),
]

FIRST, SECOND = (
    Recipe(name=name, suite="trixie", packages=("kmod",)) for name in ("first", "second")
)


def test_a_package_that_a_power_cut_left_full_of_zeros_is_fetched_anew(tmp_path: Path) -> None:
    """It has the right size, which is all that apt looks at."""
    executor, cache = LocalExecutor(), str(tmp_path)
    with Progress().step("trees") as step:
        build_tree(executor, cache, FIRST, step)
        (damaged,) = (tmp_path / "debs").glob("kmod_*.deb")
        whole = damaged.read_bytes()
        damaged.write_bytes(bytes(len(whole)))
        build_tree(executor, cache, SECOND, step)
    assert damaged.read_bytes() == whole
    assert (Path(tree_path(cache, SECOND)) / "usr/bin/kmod").exists()
    trees = {one.name for one in (tmp_path / "trees").iterdir() if one.name[0] != "."}
    assert trees == {FIRST.directory, SECOND.directory}
