"""Trees: built once per recipe, kept in a cache on the machine where they are used."""

from __future__ import annotations

import importlib.resources
import re
import shlex

from solostack.doors.process import Executor
from solostack.doors.progress import Step
from solostack.errors import CommandError, ImageError
from solostack.images.recipes import Recipe

# On an old disk with a slow mirror; the build machine needs 150 s for the largest.
BUILD_TIMEOUT_S = 3600
# In namespaces of its own, a killed build takes its mounts and all its processes with it.
_CAGE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# apt looks at the size of a file that is there already, dpkg-deb(1) at all of it.
_DAMAGED = "dpkg-deb: error"
_DROP_DAMAGED = """
for deb in "$1"/debs/*.deb
do
    if [ -e "$deb" ] && ! dpkg-deb --fsys-tarfile "$deb" >/dev/null 2>&1
    then
        rm -f "$deb"
        echo "${deb##*/}"
    fi
done
"""
_UNPACKING = re.compile(r"^(Unpacking|Setting up) ([^ ]+)")


def tree_path(cache: str, recipe: Recipe) -> str:
    """Return where a recipe's root directory is, once built, below the folder ``cache``."""
    return f"{cache}/trees/{recipe.directory}/root"


def missing_trees(
    executor: Executor, cache: str, recipes: tuple[Recipe, ...]
) -> tuple[Recipe, ...]:
    """Return the recipes that have no finished tree on executor's machine (one round trip)."""
    script = "".join(
        f"[ -d {shlex.quote(tree_path(cache, recipe))} ] || echo {shlex.quote(recipe.name)}\n"
        for recipe in recipes
    )
    done = executor.run(("sh",), stdin=script.encode() + b"exit 0\n")
    names = done.text.split()
    return tuple(recipe for recipe in recipes if recipe.name in names)


def build_tree(executor: Executor, cache: str, recipe: Recipe, step: Step) -> None:
    """Build a tree unless it is there; another process building the same one is waited for.

    An interrupted build leaves nothing that looks finished: the folder gets its name last.
    Packages that are kept in the cache and were damaged there are fetched anew.
    Raises ImageError with the end of the log.
    """
    lines: list[str] = []
    try:
        try:
            _build(executor, cache, recipe, step, lines)
        except CommandError:
            if not any(_DAMAGED in line for line in lines) or not _drop_damaged(executor, cache):
                raise
            step.say("packages in the cache were damaged: fetching them anew")
            lines.clear()
            _build(executor, cache, recipe, step, lines)
    except CommandError as error:
        raise ImageError(
            f"the tree for {recipe.name} could not be built on {executor.name}",
            details=[*lines[-15:], *error.stderr.splitlines()[-5:]],
            hint="see that apt-get update works there, then run the same command again",
        ) from error


def _build(executor: Executor, cache: str, recipe: Recipe, step: Step, lines: list[str]) -> None:
    script = importlib.resources.files("solostack.images").joinpath("tree_build.sh").read_text()

    def follow(line: str) -> None:
        lines.append(line)
        step.say(_summary(line))

    what = (recipe.suite, ",".join(recipe.packages), " ".join(recipe.disabled_units))
    command = (*_CAGE, "sh", "-c", script, "sh", cache, recipe.directory, *what)
    executor.run(command, timeout_s=BUILD_TIMEOUT_S, on_line=follow)


def _drop_damaged(executor: Executor, cache: str) -> bool:
    """Remove the damaged packages from the cache; return whether there were any."""
    command = ("sh", "-c", _DROP_DAMAGED, "sh", cache)
    return bool(executor.run(command, timeout_s=BUILD_TIMEOUT_S).text)


def _summary(line: str) -> str:
    match = _UNPACKING.match(line)
    if match:
        return f"{match[1].lower()} {match[2]}"
    return line.removeprefix("I: ")[:100]
