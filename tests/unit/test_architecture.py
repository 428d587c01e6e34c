"""The rules of docs/architecture.md and CONTRIBUTING.md that a machine can check.

Everything is read from the source text; nothing of the package is run. A rule that has exceptions
lists them here, by name and with the reason.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from solostack import errors
from solostack.errors import ExitCode, SolostackError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "solostack"

# From the top down. A module imports from layers below its own, and from its own package.
# Packages in one row are siblings and never import each other.
LAYERS = (
    ("cli",),
    ("lab",),
    ("flows",),
    ("openstack", "images", "seed", "host", "machines", "cloud", "inventory", "picture"),
    ("engine",),
    ("plan",),
    ("site",),
    ("doors",),
    ("errors",),
)
RANKS = {package: rank for rank, row in enumerate(reversed(LAYERS)) for package in row}
PURE_LAYERS = ("site", "plan", "openstack", "picture")

# Shipped as text and run alone on other machines, so they have their own ways out.
TARGET_SCRIPTS = (
    "engine/agent/",
    "cloud/agent.py",
    "cloud/agent/",
    "cloud/dashboard_visit_script.py",
    "openstack/scripts/",
    "host/directory_probe_script.py",
    "host/guard_agent/",
    "host/method_probe_script.py",
    "host/probe_boot.py",
    "host/probe_script.py",
    "host/snapshot_owners_script.py",
    "host/snapshot_script.py",
    "lab/target/",
)
# What is packed beside a shipped script, by host.directory_probe.
PACKED = {"host/directory_probe_script.py": ("ldap3",)}
# Where a shipped script runs inside OpenStack's own Python, it may use what is there.
ON_CONTROLLER = ("cloud/", "openstack/scripts/")
ONE_DOOR = {
    "subprocess": ("doors/process.py", "lab/", *TARGET_SCRIPTS),
    "time": ("doors/clock.py", "lab/", *TARGET_SCRIPTS),
    "libvirt": ("doors/hypervisor.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
}
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
IMPURE = {"os", "time", "random", "secrets", "socket", "subprocess", "tempfile", "shutil"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
BROAD = {"Exception", "BaseException"}
# The edge turns everything into a text; bounded hands it on to the thread that waits.
MAY_CATCH_ALL = ("cli/edge.py", "doors/bounded.py")


@dataclasses.dataclass(frozen=True, slots=True)
class Module:
    """One source file: its path below the package, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The layer it belongs to; "" for the root's own modules."""
        head, _, rest = self.path.partition("/")
        return head if rest else head.removesuffix(".py")

    def is_one_of(self, places: tuple[str, ...]) -> bool:
        """Return whether the path is one of places; a place that ends in / is a folder."""
        return any(
            self.path.startswith(place) if place.endswith("/") else self.path == place
            for place in places
        )


@functools.cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        found.append(Module(path.relative_to(SOURCE).as_posix(), text, ast.parse(text)))
    return tuple(found)


def imports(module: Module) -> Iterator[tuple[str, int]]:
    """Yield every imported module by its full name, with its line; late imports too."""
    folder = ["solostack", *module.path.split("/")[:-1]]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            if name == "solostack" or node.module is None:
                yield from ((f"{name}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield name, node.lineno


def imports_go_downward_only(module: Module) -> Iterator[str]:
    if module.path in ("__init__.py", "__main__.py"):
        return
    for name, line in imports(module):
        parts = name.split(".")
        if parts[0] != "solostack" or len(parts) < 2 or parts[1] == module.package:
            continue
        if RANKS.get(parts[1], len(LAYERS)) >= RANKS[module.package]:
            yield f"{module.path}:{line} imports {name}"


def each_way_out_has_one_door(module: Module) -> Iterator[str]:
    for name, line in imports(module):
        doors = ONE_DOOR.get(name.split(".")[0])
        if doors is not None and not module.is_one_of(doors):
            yield f"{module.path}:{line} imports {name}; only {', '.join(doors)} may"


def deciding_is_pure(module: Module) -> Iterator[str]:
    """site, plan and openstack see no clock, randomness, environment, process or network."""
    if module.package not in PURE_LAYERS or module.is_one_of(TARGET_SCRIPTS):
        return
    for name, line in imports(module):
        if name.split(".")[0] in IMPURE or name.startswith("solostack.doors"):
            yield f"{module.path}:{line} imports {name}"


def shipped_scripts_run_alone(module: Module) -> Iterator[str]:
    if not module.is_one_of(TARGET_SCRIPTS):
        return
    own = ".".join(["solostack", *module.path.split("/")[:-1]])
    for name, line in imports(module):
        standard = name.split(".")[0] in sys.stdlib_module_names
        sibling = module.path.count("/") > 1 and name.startswith(own)
        there = module.is_one_of(ON_CONTROLLER) and not name.startswith("solostack")
        packed = name.split(".")[0] in PACKED.get(module.path, ())
        if not (standard or sibling or there or packed):
            yield f"{module.path}:{line} imports {name}"


def only_the_command_line_prints(module: Module) -> Iterator[str]:
    if module.package == "cli" or module.is_one_of(TARGET_SCRIPTS):
        return
    for node in ast.walk(module.tree):
        name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if name in ("print", "input", "exit"):
            yield f"{module.path}:{node.lineno} calls {name}"


def modules_and_functions_are_short(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines >= MAX_MODULE_LINES:
        yield f"{module.path} has {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length >= MAX_FUNCTION_LINES:
                yield f"{module.path}:{node.lineno} {node.name} has {length} lines"


def names_say_what_is_in_a_module(module: Module) -> Iterator[str]:
    for name in set(module.path.removesuffix(".py").split("/")) & VAGUE_NAMES:
        yield f"{module.path}: {name}"


def nothing_is_caught_that_is_not_expected(module: Module) -> Iterator[str]:
    """It must get to the edge, or be raised again after cleaning up."""
    if module.is_one_of(MAY_CATCH_ALL + TARGET_SCRIPTS):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises_again(node):
            yield f"{module.path}:{node.lineno}"


def every_module_says_what_it_is(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield module.path


def _is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


RULES = (
    imports_go_downward_only,
    each_way_out_has_one_door,
    deciding_is_pure,
    shipped_scripts_run_alone,
    only_the_command_line_prints,
    modules_and_functions_are_short,
    names_say_what_is_in_a_module,
    nothing_is_caught_that_is_not_expected,
    every_module_says_what_it_is,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    breaches = [breach for module in modules() for breach in rule(module)]
    assert not breaches, "\n".join(breaches)


def test_every_package_has_a_layer_and_every_layer_a_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(RANKS) - {"errors"}


def test_the_rules_find_what_they_are_for() -> None:
    """A rule that never bites would pass for ever."""
    bad = (
        """
import subprocess, time, rich, os
from solostack.cli import main
from . import x
def f():
    print(1)
    try:
        pass
    except Exception:
        pass
"""
        + "    pass\n" * MAX_MODULE_LINES
    )
    module = Module("plan/utils.py", bad, ast.parse(bad))
    script = "import solostack.errors\nimport pydantic\n"
    shipped = Module("engine/agent/x.py", script, ast.parse(script))

    silent = [rule.__name__ for rule in RULES if not [*rule(module), *rule(shipped)]]

    assert not silent


@pytest.mark.parametrize("package", [name for row in LAYERS[:-1] for name in row])
def test_every_package_says_what_it_owns_and_must_not_know(package: str) -> None:
    text = ast.get_docstring(ast.parse((SOURCE / package / "__init__.py").read_text())) or ""
    assert re.search(r"\bowns?\b", text, re.IGNORECASE), text
    assert re.search(r"\b(must not|may not|knows? nothing)\b", text, re.IGNORECASE), text


def test_no_machine_of_a_developer_is_named() -> None:
    """No absolute path of a check-out, no package index: both differ from machine to machine."""
    wrong = re.compile("/work/" + "main|" + "py" + r"pi\.(org|python)|files\.python" + "hosted")
    checked = [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    for folder in ("src", "tests", "docs", "bench", "examples"):
        checked += (ROOT / folder).rglob("*.*")
    suffixes = {".py", ".md", ".toml", ".lock", ".txt", ".yaml", ".sh", ".svg", ""}
    named = [
        str(path.relative_to(ROOT))
        for path in checked
        # In a second work tree .git is a file that names the first.
        if path.is_file()
        and path.name != ".git"
        and path.suffix in suffixes
        and wrong.search(path.read_text())
    ]
    assert not named


def test_the_lock_names_every_file_by_its_hash_and_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    pins = re.findall(r"^([a-z0-9-]+)==\S+ \\$", text, re.MULTILINE)
    assert {"pydantic", "rich", "ruamel-yaml", "typer", "pytest", "ruff", "mypy"} <= set(pins)
    assert len(pins) == len(re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE))


def error_classes() -> list[type[SolostackError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, SolostackError)
    ]


def test_exit_codes_are_unique_and_documented() -> None:
    assert len(ExitCode.__members__) == len({int(code) for code in ExitCode})
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", page, re.MULTILINE))
    assert rows == {str(int(code)): code.name for code in ExitCode}


def test_every_error_class_is_documented() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    missing = [kind.__name__ for kind in error_classes() if f"`{kind.__name__}`" not in page]
    assert not missing


def test_error_classes_do_not_share_exit_codes() -> None:
    """Scripts tell failures apart by the status; only the general ones share FAILED."""
    own = [kind.exit_code for kind in error_classes() if kind.exit_code is not ExitCode.FAILED]
    assert len(own) == len(set(own))
