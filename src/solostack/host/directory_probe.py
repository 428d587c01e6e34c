"""How an external directory looks from a host: ships the script that asks it, reads its answer.

The control nodes reach out through the host, so what it can reach they can. Judges nothing;
host.check_directory does.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import importlib.util
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from solostack.doors.process import Executor
from solostack.errors import CommandError, HostError
from solostack.site.ldap import ldap_names, starts_tls
from solostack.site.services import ExternalDirectory

# Whole seconds: ldap3 packs them into an integer.
TIMEOUT_S = 5
LIMIT_S = 60.0
# Pure Python, so they run there as they are here.
LIBRARIES = ("ldap3", "pyasn1")
SCRIPT = "directory_probe_script"
# The archive holds a password: it is kept in memory (memfd_create(2)) and is gone with the process.
BOOT = f"""
import os, sys
archive = os.memfd_create("solostack")
while data := os.read(0, 1 << 20):
    while data:
        data = data[os.write(archive, data):]
path = "/proc/self/fd/%d" % archive
sys.path.insert(0, path)
import json, zipfile
import {SCRIPT}
with zipfile.ZipFile(path) as packed:
    request = json.loads(packed.read("request.json"))
{SCRIPT}.main(request)
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Users or groups found: how many, whether those are all, how many lack each attribute."""

    count: int
    all: bool
    lacking: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySeen:
    """What came of asking. step is the one that failed, "" when none did; said is the reason.

    Steps: resolve, connect, tls, bind, user tree, users, group tree, groups; and credentials, when
    what is needed to ask could not be read here.
    """

    step: str
    kind: str = ""
    said: str = ""
    users: Entries | None = None
    groups: Entries | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the site's files hold. ca is PEM text, empty for the system's authorities."""

    password: str = dataclasses.field(repr=False)
    ca: str


def probe_directory(
    executor: Executor, external: ExternalDirectory, credentials: Credentials
) -> DirectorySeen:
    """Ask an external directory from a host; changes nothing anywhere.

    Raises:
        ConnectError: the host cannot be reached.
        HostError: the script does not run there, or says what cannot be read.
    """
    archive = pack(build_request(external, credentials))
    try:
        done = executor.run(("python3", "-I", "-c", BOOT), stdin=archive, timeout_s=LIMIT_S)
    except CommandError as error:
        raise HostError(
            f"{executor.name}: nobody could ask the directory from there: {error.message}",
            details=error.details,
            hint=f"see that python3 (3.11 or newer) works on {executor.name}: apt install python3",
        ) from error
    return parse_seen(done.text, executor.name)


def build_request(external: ExternalDirectory, credentials: Credentials) -> dict[str, object]:
    """Build what the script is asked, in the words of its module."""
    names = ldap_names(external)
    return {
        "url": external.url,
        "start_tls": starts_tls(external.url),
        "ca": credentials.ca,
        "bind_dn": external.bind_dn,
        "password": credentials.password,
        "user_tree": external.user_tree,
        "user_filter": names.users_query,
        "user_attributes": list(names.user_attributes),
        "group_tree": external.group_tree or "",
        "group_filter": names.groups_query,
        "group_attributes": list(names.group_attributes),
        "timeout_s": TIMEOUT_S,
    }


def pack(request: Mapping[str, object]) -> bytes:
    """Pack the script, what it imports and its request into a zip archive."""
    buffer = io.BytesIO()
    script = importlib.resources.files("solostack.host") / f"{SCRIPT}.py"
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{SCRIPT}.py", script.read_text(encoding="utf-8"))
        archive.writestr("request.json", json.dumps(request))
        for library in LIBRARIES:
            folder = _folder(library)
            for path in sorted(folder.rglob("*.py")):
                archive.write(path, f"{library}/{path.relative_to(folder)}")
    return buffer.getvalue()


def parse_seen(text: str, name: str) -> DirectorySeen:
    """Read what the script wrote on the host called name.

    Raises:
        HostError: it is not what the script writes.
    """
    try:
        result = json.loads(text.strip().splitlines()[-1])["result"]
        return DirectorySeen(
            step=str(result["step"]),
            kind=str(result["kind"]),
            said=str(result["said"]),
            users=_entries(result.get("users")),
            groups=_entries(result.get("groups")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise HostError(
            f"{name}: what the directory said cannot be read: {type(error).__name__}: {error}",
            hint=f"log in to {name} and see what python3 -I prints besides",
        ) from error


def _entries(raw: Mapping[str, Any] | None) -> Entries | None:
    if raw is None:
        return None
    lacking = {str(name): int(count) for name, count in raw["lacking"].items()}
    return Entries(count=int(raw["count"]), all=bool(raw["all"]), lacking=lacking)


def _folder(library: str) -> Path:
    # Not importlib.resources, which would import the library, and that takes a while.
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        raise HostError(
            f"the Python library {library} is not installed here",
            hint="make setup, where solostack was cloned",
        )
    return Path(spec.origin).parent
