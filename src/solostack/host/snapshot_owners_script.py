"""The script that says which packages things came with. Shipped as text, standard library only.

host.snapshot_take sends it like snapshot_script, with the names that differ. dpkg's lists know
the files of a package; what is made when it is configured (accounts, links, folders) is found in
its maintainer scripts and in its snippets for sysusers, tmpfiles and sysctl.
"""

# For lists of many thousand paths os is several times as fast as pathlib.
# ruff: noqa: PTH113, PTH114, PTH119, PTH123, PTH207

from __future__ import annotations

import collections
import glob
import hashlib
import json
import os
import re
import subprocess
import sys

DPKG = "/var/lib/dpkg/info"
UNIT_FOLDERS = ("/usr/lib/systemd/system", "/usr/lib/systemd/user")
PAM = "/usr/share/pam-configs/"
SNIPPETS = ("/usr/lib/sysusers.d/", "/usr/lib/tmpfiles.d/", "/usr/lib/sysctl.d/", PAM)
# What pam-auth-update(8) writes from the snippets of all packages.
PAM_FILES = tuple(
    f"/etc/pam.d/common-{name}"
    for name in ("account", "auth", "password", "session", "session-noninteractive")
)
MAKES_ACCOUNTS = re.compile(r"adduser|addgroup|useradd|groupadd|sysusers")
MENTIONED = re.compile(r"/(?:etc|usr/local|var/lib)/[\w./@+:-]*\w")
SETTING = re.compile(r"^\s*-?([\w./*-]+)\s*=", re.MULTILINE)

Owners = dict[str, set[str]]


def main(request_text: str) -> None:
    """Write the owners of the request's paths, units, accounts and settings as a line of JSON."""
    request: dict[str, list[str]] = json.loads(request_text)
    raw = owners(*(set(request[key]) for key in ("paths", "units", "accounts", "sysctl")))
    answer: dict[str, object] = {
        name: {key: sorted(packages) for key, packages in one.items() if packages}
        for name, one in raw.items()
    }
    shipped = conffiles()
    answer["edited"] = sorted(
        path for path in request["paths"] if is_edited(path, shipped.get(path))
    )
    sys.stdout.write(json.dumps(answer) + "\n")


def owners(
    paths: set[str], units: set[str], accounts: set[str], settings: set[str]
) -> dict[str, Owners]:
    """Return the packages of each; mentions are paths that packages speak of without owning."""
    real = {path: os.path.realpath(path) for path in paths if os.path.islink(path)}
    places = {unit: unit_places(unit) for unit in units}
    lists = scanned({*paths, *real.values(), *(one for some in places.values() for one in some)})
    for line in text_of("/var/lib/ucf/registry").splitlines():
        package, _, path = line.partition("\t")
        if package and path:
            lists.setdefault(path.strip(), set()).add(package.strip())
    mentions, speaking, setting = spoken_of(accounts, lists)
    return {
        "paths": {one: lists.get(one) or lists.get(real.get(one, ""), set()) for one in paths},
        "mentions": {
            one: mentions.get(one, set()) | mentions.get(real.get(one, ""), set()) for one in paths
        },
        "units": {
            unit: set[str]().union(*(lists.get(place, set()) for place in some))
            for unit, some in places.items()
        },
        "accounts": speaking,
        "sysctl": {key: setting[key] for key in settings & setting.keys()},
    }


def unit_places(unit: str) -> tuple[str, ...]:
    """Return the files that a unit may come from; an instance comes from its template."""
    head, dot, kind = unit.rpartition(".")
    file = f"{head.partition('@')[0]}@{dot}{kind}" if "@" in head else unit
    return (*(f"{folder}/{file}" for folder in UNIT_FOLDERS), f"/etc/init.d/{head}")


def scanned(wanted: set[str]) -> Owners:
    """Return the packages whose lists hold the wanted paths, or snippets."""
    found: Owners = {}
    for listing in glob.glob(f"{DPKG}/*.list"):
        package = os.path.basename(listing)[: -len(".list")].partition(":")[0]
        for line in text_of(listing).splitlines():
            # Lists may still name the paths of before the merge of /lib into /usr.
            path = f"/usr{line}" if line.startswith("/lib/") else line
            if path in wanted or path.startswith(SNIPPETS):
                found.setdefault(path, set()).add(package)
    return found


def spoken_of(accounts: set[str], lists: Owners) -> tuple[Owners, Owners, Owners]:
    """Return the paths, accounts and kernel settings that packages speak of, with the packages."""
    mentions, speaking, settings = (collections.defaultdict[str, set[str]](set) for _ in range(3))
    texts: list[tuple[str, set[str]]] = [
        (path, {os.path.basename(path).rpartition(".")[0].partition(":")[0]})
        for end in ("postinst", "preinst", "config")
        for path in glob.glob(f"{DPKG}/*.{end}")
    ]
    texts += [(path, by) for path, by in lists.items() if path.startswith(SNIPPETS)]
    for path, by in texts:
        text = text_of(path)
        for mentioned in set(MENTIONED.findall(text)):
            mentions[mentioned] |= by
        for written in PAM_FILES if path.startswith(PAM) else ():
            mentions[written] |= by
        if "/sysusers.d/" in path or MAKES_ACCOUNTS.search(text):
            for name in accounts & set(re.findall(r"[A-Za-z_][\w-]*", text)):
                speaking[name] |= by
        if "/sysctl.d/" in path:
            for key in SETTING.findall(text):
                settings[key.replace("/", ".")] |= by
    return mentions, speaking, settings


def conffiles() -> dict[str, str]:
    """Return the MD5 sums of configuration files as packages shipped them."""
    try:
        done = subprocess.run(
            ("/usr/bin/dpkg-query", "-W", "-f", "${Conffiles}\n"), capture_output=True, check=False
        )
    except OSError:
        return {}
    rows = (line.split() for line in done.stdout.decode("utf-8", "replace").splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def is_edited(path: str, shipped: str | None) -> bool:
    """Return whether a configuration file is not as its package shipped it."""
    if shipped is None or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return hashlib.md5(file.read(), usedforsecurity=False).hexdigest() != shipped


def text_of(path: str) -> str:
    """Return a file's text, empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
