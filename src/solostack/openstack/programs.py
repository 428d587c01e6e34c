"""The programs of scripts/ as files for a node."""

from __future__ import annotations

import importlib.resources

from solostack.engine.operations import File

DIRECTORY = "/usr/local/lib/solostack"


def program(name: str) -> File:
    """Return scripts/NAME.py as a file of the node."""
    source = importlib.resources.files("solostack.openstack.scripts") / f"{name}.py"
    return File(path=f"{DIRECTORY}/{name}.py", content=source.read_text(encoding="utf-8"))
