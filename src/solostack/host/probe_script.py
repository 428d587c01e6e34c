"""The script that looks at a host. Shipped as text, standard library only, changes nothing.

host.facts sends this file over standard input of ``python3 -I -`` with a call of ``main`` behind
it. It only collects: files, folders, command outputs, kernel modules, file systems, sizes. What
they mean is decided where it can be tested, in host.probe_parse and host.check.
"""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE_LIMIT = 1024 * 1024
COMMAND_TIMEOUT_S = 60
DOMAIN_LIMIT = 200


def main(request_text: str) -> None:
    """Collect what the request asks for and write it as one line of JSON."""
    request = json.loads(request_text)
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    options = kernel_options(platform.release())
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        slow: dict[str, concurrent.futures.Future[Any]] = {
            "commands": pool.submit(commands, request, pool),
            "libvirt": pool.submit(libvirt, request["libvirt_uri"]),
            "usage": pool.submit(usage, request["usage"]),
            "ruleset": pool.submit(ruleset, options),
        }
        answer: dict[str, Any] = {
            "machine": machine(),
            "files": {path: read(path) for path in matches(request["files"])},
            "folders": {path: names(path) for path in request["folders"]},
            "file_systems": {path: file_system(path) for path in request["file_systems"]},
            "modules": modules(request["modules"], options),
            "kvm": kvm_device(),
        }
        answer.update((key, future.result()) for key, future in slow.items())
    sys.stdout.write(json.dumps(answer) + "\n")


def machine() -> dict[str, Any]:
    """Return what Python itself knows of the machine and of us on it."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "hostname": platform.node(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": list(sys.version_info[:3]),
        "euid": os.geteuid(),
        "session": os.environ.get("SSH_CONNECTION", ""),
    }


def matches(patterns: list[str]) -> list[str]:
    """Return the paths of the patterns; a plain path stays even when there is no such file."""
    found: list[str] = []
    for pattern in patterns:
        inside = sorted(str(path) for path in Path("/").glob(pattern[1:]))
        found += inside if "*" in pattern else [pattern]
    return found


def read(path: str) -> str | None:
    """Return the start of a file's text, None when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(FILE_LIMIT).decode("utf-8", "replace")
    except OSError:
        return None


def names(path: str) -> list[str] | None:
    """Return the names in a folder, None when there is none."""
    try:
        return sorted(entry.name for entry in Path(path).iterdir())
    except OSError:
        return None


def file_system(path: str) -> dict[str, Any]:
    """Describe the file system where path is or would be."""
    there = Path(path)
    while not there.exists():
        there = there.parent
    stat = os.statvfs(there)
    return {
        "there": str(there),
        "free_bytes": stat.f_bavail * stat.f_frsize,
        "total_bytes": stat.f_blocks * stat.f_frsize,
        "flags": stat.f_flag,
        "device": there.stat().st_dev,
    }


def usage(folders: list[str]) -> dict[str, int]:
    """Return the bytes on disk below each folder."""
    return {folder: size_on_disk(folder) for folder in folders}


def size_on_disk(folder: str) -> int:
    """Add up a folder's files on its own file system; hard links count once."""
    top = status(folder)
    total = 0
    seen: set[int] = set()
    for path, subfolders, files in os.walk(folder):
        for name in files:
            entry = status(f"{path}/{name}")
            if entry and entry.st_ino not in seen:
                seen.add(entry.st_ino)
                total += entry.st_blocks * 512
        entries = {name: status(f"{path}/{name}") for name in subfolders}
        subfolders[:] = [n for n, e in entries.items() if e and top and e.st_dev == top.st_dev]
    return total


def status(path: str) -> os.stat_result | None:
    """Return lstat's answer, None for what has just gone: nodes run while we count."""
    try:
        return Path(path).lstat()
    except OSError:
        return None


def run(argv: list[str]) -> dict[str, Any] | None:
    """Run a command that only reads; None when there is no such command."""
    try:
        done = subprocess.run(  # noqa: S603 (argv is ours, no shell)
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired:
        return {"status": -1, "out": "", "err": f"no end within {COMMAND_TIMEOUT_S} s"}
    return {
        "status": done.returncode,
        "out": done.stdout.decode("utf-8", "replace"),
        "err": done.stderr.decode("utf-8", "replace")[-2000:],
    }


def commands(
    request: dict[str, Any], pool: concurrent.futures.ThreadPoolExecutor
) -> dict[str, Any]:
    """Run the request's commands side by side."""
    wanted = request["commands"]
    return dict(zip(wanted, pool.map(run, wanted.values()), strict=True))


def ruleset(options: dict[str, str]) -> dict[str, Any] | None:
    """Return nftables' rules, none where the kernel has not loaded it: asking would load it."""
    if options.get("CONFIG_NF_TABLES") != "y" and not Path("/sys/module/nf_tables").exists():
        return {"status": 0, "out": "", "err": ""}
    return run(["nft", "-j", "list", "ruleset"])


def libvirt(uri: str) -> dict[str, Any] | None:
    """Return libvirt's networks and domains as their XML, over a read-only connection."""
    virsh = ["virsh", "-r", "-q", "-c", uri]
    listed = run([*virsh, "net-list", "--all", "--name"])
    if listed is None:
        return None
    if listed["status"] != 0:
        return {"error": listed["err"].strip(), "networks": [], "domains": []}
    active = lines(run([*virsh, "net-list", "--name"]))
    running = lines(run([*virsh, "list", "--name"]))
    networks = [
        {"name": name, "active": name in active, "xml": xml([*virsh, "net-dumpxml", name])}
        for name in lines(listed)
    ]
    domains = [
        {"name": name, "running": name in running, "xml": xml([*virsh, "dumpxml", name])}
        for name in lines(run([*virsh, "list", "--all", "--name"]))[:DOMAIN_LIMIT]
    ]
    return {"error": "", "networks": networks, "domains": domains}


def lines(done: dict[str, Any] | None) -> list[str]:
    """Return a command's lines that are not empty."""
    return [line.strip() for line in done["out"].splitlines() if line.strip()] if done else []


def xml(argv: list[str]) -> str:
    """Return a command's output; empty when the object has just gone."""
    done = run(argv)
    return done["out"] if done and done["status"] == 0 else ""


def modules(wanted: dict[str, str], options: dict[str, str]) -> dict[str, Any]:
    """Return what is known of kernel features, by module name and configuration option."""
    folder = f"/lib/modules/{platform.release()}"
    builtin = basenames(read_whole(f"{folder}/modules.builtin"))
    available = basenames(read_whole(f"{folder}/modules.dep"))
    return {
        "folder": Path(folder).is_dir(),
        "releases": names("/lib/modules") or [],
        "configuration": bool(options),
        "features": {
            name: {
                "loaded": Path(f"/sys/module/{name}").is_dir(),
                "builtin": name in builtin,
                "available": name in available,
                "option": options.get(option, ""),
            }
            for name, option in wanted.items()
        },
    }


def read_whole(path: str) -> str:
    """Return a file's text, empty when it cannot be read."""
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def basenames(text: str) -> set[str]:
    """Return the module names of modules.dep or modules.builtin, in the spelling of lsmod."""
    found = set()
    for line in text.splitlines():
        name = line.split(":")[0].rsplit("/", 1)[-1]
        found.add(name.split(".ko")[0].replace("-", "_"))
    return found


def kernel_options(release: str) -> dict[str, str]:
    """Return the running kernel's configuration, empty when it is kept nowhere."""
    text = read_whole(f"/boot/config-{release}")
    if not text:
        try:
            with gzip.open("/proc/config.gz", "rt") as file:
                text = file.read()
        except OSError:
            return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_"))
    return {key: value.strip() for key, value in pairs}


def kvm_device() -> dict[str, Any]:
    """Describe /dev/kvm."""
    entry = status("/dev/kvm")
    if entry is None:
        return {"exists": False, "usable": False, "mode": 0}
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return {"exists": True, "usable": usable, "mode": entry.st_mode & 0o777}
