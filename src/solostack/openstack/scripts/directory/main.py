"""The entry: ensure or check the whole, or one action on accounts.

Usage: main ensure WANTED.json | check WANTED.json | accounts WANTED.json <REQUEST.json

check ends with status 1 when ensure would change something. accounts answers with one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ldap  # type: ignore[import-not-found,unused-ignore]

from . import accounts, certificate, instance
from .entries import ensure_entries
from .server import Server, SetupError, reason
from .settings import ensure_settings

Wanted = Mapping[str, Any]


def main() -> int:
    """Run the verb of the command line; return the exit status."""
    verb, path = sys.argv[1:]
    wanted: Wanted = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        match verb:
            case "ensure":
                _ensure(wanted)
            case "check":
                return _check(wanted)
            case _:
                return _accounts(wanted)
    except SetupError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 1
    except ldap.LDAPError as error:
        sys.stderr.write(f"the directory server refused: {reason(error)}\n")
        return 1
    return 0


def _ensure(wanted: Wanted) -> None:
    if not instance.is_made():
        instance.build(wanted["name"], wanted["suffix"])
    _require_suffix(wanted)
    instance.start()
    served = certificate.is_served()
    if not served:
        certificate.install()
    if ensure_settings(Server(dry_run=False)) or not served:
        instance.restart()
    ensure_entries(Server(dry_run=False), wanted)


def _check(wanted: Wanted) -> int:
    if not (instance.is_made() and instance.is_running()):
        return 1
    _require_suffix(wanted)
    server = Server(dry_run=True)
    ensure_settings(server)
    if not server.changes:
        ensure_entries(server, wanted)
    sys.stdout.write("".join(f"{line}\n" for line in server.changes))
    return 0 if not server.changes and certificate.is_served() else 1


def _require_suffix(wanted: Wanted) -> None:
    made = instance.suffix_made()
    if made != wanted["suffix"]:
        raise SetupError(
            f"the directory's suffix is {made} and cannot become {wanted['suffix']}",
            hint=f"put directory.suffix: {made} into the site file",
        )


def _accounts(wanted: Wanted) -> int:
    request = json.load(sys.stdin)
    try:
        answer = accounts.act(wanted, request)
    except SetupError as error:
        answer = {"error": {"kind": error.kind, "message": error.message, "hint": error.hint}}
    except ldap.LDAPError as error:
        told = f"the directory server refused: {reason(error)}"
        answer = {"error": {"kind": "failed", "message": told, "hint": ""}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0
