"""`bake`: trees ahead of time, on the hosts or into the cache of this machine."""

from __future__ import annotations

import functools
from pathlib import Path

from solostack.doors.process import Executor, LocalExecutor
from solostack.doors.progress import Progress, Step
from solostack.flows.deployment import HOST_CACHE, host_executors, role_recipe
from solostack.flows.parallel import run_together
from solostack.host.bundle import HOST_PACKAGES
from solostack.images.recipes import Recipe, host_recipe
from solostack.images.trees import build_tree, missing_trees, tree_path
from solostack.openstack import roles
from solostack.site.loader import LoadedSite
from solostack.site.model import Role
from solostack.site.releases import RELEASES

DEFAULT_RELEASE = "2025.1"
# A build waits for the network and for one processor, by turns.
BUILDS_AT_ONCE = 2


def cache_home() -> Path:
    """Return the cache of this machine's user, which on a host of user root is the host's."""
    return Path.home() / ".cache/solostack"


def node_recipes(release: str = DEFAULT_RELEASE) -> tuple[Recipe, ...]:
    """Return the recipes of every role's tree."""
    return tuple(role_recipe(role, release) for role in Role)


def lab_host_recipe(release: str = DEFAULT_RELEASE) -> Recipe:
    """Return the recipe of a simulated physical host: Debian with what `up` wants installed."""
    suite = RELEASES[release].debian_suite
    return host_recipe(suite, (*HOST_PACKAGES, *roles.COMPUTE_PACKAGES))


def bake_trees(
    recipes: tuple[Recipe, ...],
    progress: Progress,
    *,
    executor: Executor | None = None,
    cache: str | None = None,
) -> dict[str, str]:
    """Build what is missing; return each tree's root directory by name."""
    machine = executor or LocalExecutor()
    where = cache or str(cache_home())
    build_missing(machine, where, recipes, progress)
    return {recipe.name: tree_path(where, recipe) for recipe in recipes}


def build_missing(
    machine: Executor, cache: str, recipes: tuple[Recipe, ...], progress: Progress | Step
) -> None:
    """Build the trees that a cache has not, some at the same time, each as a step of progress."""

    def build(recipe: Recipe) -> None:
        with progress.step(f"tree {recipe.name}") as step:
            build_tree(machine, cache, recipe, step)

    missing = missing_trees(machine, cache, recipes)
    run_together([functools.partial(build, one) for one in missing], at_once=BUILDS_AT_ONCE)


def bake_on_hosts(loaded: LoadedSite, progress: Progress) -> dict[str, str]:
    """Build the trees of a site's roles on each of its hosts."""
    trees: dict[str, str] = {}
    recipes = node_recipes(loaded.site.release)
    for name, executor in host_executors(loaded).items():
        found = bake_trees(recipes, progress, executor=executor, cache=HOST_CACHE)
        trees.update({f"{name}: {tree}": path for tree, path in found.items()})
    return trees
