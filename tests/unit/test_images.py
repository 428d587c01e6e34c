"""Recipes identify trees by content; tree paths follow from them."""

from __future__ import annotations

import dataclasses
import importlib.resources

from hypothesis import given
from hypothesis import strategies as st

from solostack.doors.process import LocalExecutor
from solostack.images.recipes import (
    BASE_PACKAGES,
    KERNEL_PACKAGES,
    Recipe,
    host_recipe,
    node_recipe,
)
from solostack.images.trees import tree_path

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)


@given(st.lists(names, max_size=8), st.randoms())
def test_equal_packages_in_any_order_are_the_same_tree(packages, random):
    shuffled = list(packages)
    random.shuffle(shuffled)
    one = node_recipe("controller", "trixie", tuple(packages))
    other = node_recipe("controller", "trixie", (*shuffled, *shuffled))
    assert one.tree_id == other.tree_id


def test_anything_that_changes_the_content_changes_the_id():
    recipe = Recipe(name="network", suite="trixie", packages=("a", "b"))
    changed = (
        dataclasses.replace(recipe, suite="forky"),
        dataclasses.replace(recipe, packages=("a",)),
        dataclasses.replace(recipe, disabled_units=("a.service",)),
        dataclasses.replace(recipe, format=recipe.format + 1),
    )
    assert len({recipe.tree_id, *(other.tree_id for other in changed)}) == 5


def test_a_node_tree_can_boot_as_a_vm_and_a_host_tree_has_no_kernel_of_its_own():
    node = node_recipe("network", "trixie", ("ovn-host",))
    host = host_recipe("trixie", ("nova-compute",))
    assert set(BASE_PACKAGES) | set(KERNEL_PACKAGES) | {"ovn-host"} == set(node.packages)
    assert "linux-image-cloud-amd64" not in host.packages
    assert "nova-compute.service" in host.disabled_units


def test_the_path_of_a_tree_holds_its_id():
    recipe = node_recipe("network", "trixie", ())
    expected = f"/cache/trees/network-{recipe.tree_id}/root"
    assert tree_path("/cache", recipe) == expected


def test_the_build_script_is_valid_sh_and_names_no_mirror():
    script = importlib.resources.files("solostack.images").joinpath("tree_build.sh").read_text()
    LocalExecutor().run(("sh", "-n"), stdin=script.encode())
    assert "debian.org" not in script
