"""Everything on this machine by which a lab can be recognised."""

from __future__ import annotations

import os
from pathlib import Path


def find_traces(name: str, directory: Path) -> list[str]:
    """Return what is left of a lab in namespaces, processes, mounts, groups, links and files.

    Mounts are looked for in every process's mount namespace: a copy in one of them would keep a
    network namespace alive that no list shows any more.
    """
    mark = f"solostack-lab-{name}-"
    texts = (mark.encode(), f"{directory}/".encode())
    found = [f"namespace {entry}" for entry in _entries("/run/netns") if entry.startswith(mark)]
    # Not rglob(): it fails when somebody else's group goes away meanwhile.
    groups = (path for path, _, _ in os.walk("/sys/fs/cgroup"))
    found += [f"group {path}" for path in groups if Path(path).name.startswith(mark)]
    found += [
        f"link {link}"
        for link in _entries("/sys/class/net")
        if link == "lan" or link.startswith(("phys", "peth"))
    ]
    own = str(os.getpid())
    if directory.exists():
        found.append(f"directory {directory}")
    for process in Path("/proc").iterdir():
        # A process without a command line is a zombie: it waits to be noticed, and holds nothing.
        if process.name.isdigit() and process.name != own and _read(process / "cmdline"):
            for file in ("cmdline", "cgroup", "mountinfo"):
                content = _read(process / file)
                if any(text in content for text in texts):
                    found.append(f"{file} of process {process.name}")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _entries(directory: str) -> list[str]:
    return os.listdir(directory) if Path(directory).is_dir() else []  # noqa: PTH208
