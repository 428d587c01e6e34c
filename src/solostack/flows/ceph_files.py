"""The operator's Ceph files for volumes: read here, where solostack runs, and checked."""

from __future__ import annotations

import base64
import binascii
import configparser
import stat
from pathlib import Path

from solostack.errors import SiteError
from solostack.openstack import ceph
from solostack.site.document import parse_document
from solostack.site.loader import LoadedSite
from solostack.site.problems import Problem, dotted
from solostack.site.services import Rbd

_RBD = ("storage", "cinder", "rbd")
_MONITORS = ("mon_host", "mon host", "mon-host")


def read_ceph_files(loaded: LoadedSite) -> dict[str, str]:
    """Return the secrets that the site's Ceph files hold, by name; none where it names none.

    Paths are relative to the site file's folder. SiteError, with file:line, for a file that cannot
    be read, that others can read, or that does not hold what it must.
    """
    storage = loaded.site.storage
    rbd = storage.cinder.rbd if storage is not None and storage.cinder is not None else None
    if rbd is None:
        return {}
    problems: list[Problem] = []
    conf = _read(loaded, rbd.conf, "conf", problems)
    keyring = _read(loaded, rbd.keyring, "keyring", problems)
    key = ""
    if conf is not None:
        problems += _conf_problems(conf, rbd.conf)
    if keyring is not None:
        _require_private(loaded, rbd, problems)
        key = _key(keyring, rbd, problems)
    if problems:
        raise _error(loaded, problems)
    values = (conf or "", keyring or "", key)
    return dict(zip(ceph.SECRET_NAMES, values, strict=True))


def _path(loaded: LoadedSite, text: str) -> Path:
    return loaded.path.parent.resolve() / Path(text).expanduser()


def _read(loaded: LoadedSite, name: str, key: str, problems: list[Problem]) -> str | None:
    path = _path(loaded, name)
    try:
        return path.read_text("utf-8").rstrip("\n") + "\n"
    except UnicodeDecodeError:
        found = f"{path}, which is no text"
    except OSError as error:
        found = f"{path}: {error.strerror}"
    problems.append(_problem(key, "a file that can be read", found))
    return None


def _require_private(loaded: LoadedSite, rbd: Rbd, problems: list[Problem]) -> None:
    path = _path(loaded, rbd.keyring)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        problems.append(
            _problem(
                "keyring",
                "a file that only its owner can read",
                f"{path} with mode {mode:04o}",
                suggestion=f"chmod 600 {path}",
            )
        )


def _conf_problems(text: str, name: str) -> list[Problem]:
    sections = _sections(text)
    if sections is None:
        return [_problem("conf", "a ceph.conf", f"{name}, which is no ini file")]
    if not any(key in sections.get("global", {}) for key in _MONITORS):
        return [_problem("conf", "mon_host under [global]", f"none in {name}")]
    return []


def _key(text: str, rbd: Rbd, problems: list[Problem]) -> str:
    section = f"client.{rbd.user}"
    key = (_sections(text) or {}).get(section, {}).get("key", "")
    try:
        good = bool(key) and bool(base64.b64decode(key, validate=True))
    except binascii.Error:
        good = False
    if not good:
        found = f"none in {rbd.keyring}" if not key else f"a key in {rbd.keyring} that is no base64"
        problems.append(_problem("keyring", f"[{section}] with a key", found))
    return key


def _sections(text: str) -> dict[str, dict[str, str]] | None:
    parser = configparser.RawConfigParser(strict=False, default_section="(none)")
    # Ceph's files are often indented.
    unindented = "\n".join(line.strip() for line in text.splitlines())
    try:
        parser.read_string(unindented)
    except configparser.Error:
        return None
    return {name: dict(parser[name]) for name in parser.sections()}


def _problem(key: str, expected: str, found: str, suggestion: str = "") -> Problem:
    return Problem(location=(*_RBD, key), expected=expected, found=found, suggestion=suggestion)


def _error(loaded: LoadedSite, problems: list[Problem]) -> SiteError:
    document = parse_document(loaded.text)
    lines = [
        f"{loaded.path}:{document.line_of(each.location)}: {dotted(each.location)}: {each.text()}"
        for each in problems
    ]
    return SiteError(
        f"the Ceph files of {loaded.path} cannot be used",
        details=lines,
        hint="correct the lines above and run the command again",
    )
