"""A tree built for real over a cache of packages of which one is damaged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from solostack.doors.process import LocalExecutor
from solostack.doors.progress import Progress
from solostack.images.recipes import Recipe
from solostack.images.trees import build_tree, tree_path
from tests.host.engine_container import CACHE, RECIPE

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for mmdebstrap"),
]

# A part of what RECIPE has, so that its packages are in the cache.
SMALL = Recipe(name="small", suite=RECIPE.suite, packages=("kmod",))


def test_a_package_that_a_power_cut_left_full_of_zeros_is_fetched_anew(tmp_path: Path) -> None:
    """It has the right size, which is all that apt looks at."""
    executor, cache = LocalExecutor(), tmp_path / "cache"
    with Progress().step("trees") as step:
        build_tree(executor, CACHE, RECIPE, step)
        copy_packages(Path(tree_path(CACHE, RECIPE)).with_name("manifest"), cache / "debs")
        (damaged,) = (cache / "debs").glob("kmod_*.deb")
        whole = damaged.read_bytes()
        damaged.write_bytes(bytes(len(whole)))
        build_tree(executor, str(cache), SMALL, step)
    assert damaged.read_bytes() == whole
    assert (Path(tree_path(str(cache), SMALL)) / "usr/bin/kmod").exists()
    assert [one.name for one in (cache / "trees").iterdir() if one.name[0] != "."] == [
        SMALL.directory
    ]


def copy_packages(manifest: Path, folder: Path) -> None:
    """Copy the packages that a tree was made of, to be damaged."""
    folder.mkdir(parents=True)
    for line in manifest.read_text().splitlines():
        for deb in Path(CACHE, "debs").glob(f"{line.split()[0]}_*.deb"):
            shutil.copy(deb, folder)
