"""`bake`: trees ahead of time, on the hosts or into the cache of this machine."""

from __future__ import annotations

from pathlib import Path

from solostack.doors.process import Executor, LocalExecutor
from solostack.doors.progress import Progress
from solostack.flows.deployment import HOST_CACHE, host_executors, role_recipe
from solostack.host.bundle import HOST_PACKAGES
from solostack.images.recipes import Recipe, host_recipe
from solostack.images.trees import build_tree, missing_trees, tree_path
from solostack.openstack import roles
from solostack.site.loader import LoadedSite
from solostack.site.model import Role
from solostack.site.releases import RELEASES

DEFAULT_RELEASE = "2025.1"


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
    """Build what is missing, one after the other; return each tree's root directory by name."""
    machine = executor or LocalExecutor()
    where = cache or str(cache_home())
    for recipe in missing_trees(machine, where, recipes):
        with progress.step(f"tree {recipe.name}") as step:
            build_tree(machine, where, recipe, step)
    return {recipe.name: tree_path(where, recipe) for recipe in recipes}


def bake_on_hosts(loaded: LoadedSite, progress: Progress) -> dict[str, str]:
    """Build the trees of a site's roles on each of its hosts."""
    trees: dict[str, str] = {}
    recipes = node_recipes(loaded.site.release)
    for name, executor in host_executors(loaded).items():
        found = bake_trees(recipes, progress, executor=executor, cache=HOST_CACHE)
        trees.update({f"{name}: {tree}": path for tree, path in found.items()})
    return trees
