"""What a site gives in files about an external directory: the account's password, the CA."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from solostack.errors import SiteError
from solostack.host.directory_probe import Credentials
from solostack.openstack.auth import DIRECTORY_BIND_PASSWORD
from solostack.openstack.keystone_domain import EXTERNAL_CA
from solostack.site.loader import LoadedSite
from solostack.site.services import ExternalDirectory

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_credentials(loaded: LoadedSite, external: ExternalDirectory) -> Credentials:
    """Read both files, relative to the site file's folder.

    Raises:
        SiteError: a file cannot be read, or is no certificate, is empty, or others can read the
            password.
    """
    password = _read_password(_path(loaded, external.bind_password_file))
    ca = "" if external.ca is None else _read(_path(loaded, external.ca), "directory.external.ca")
    if external.ca is not None and "-----BEGIN CERTIFICATE-----" not in ca:
        raise SiteError(
            f"directory.external.ca: {external.ca} holds no certificate",
            hint="give a PEM file, which begins with -----BEGIN CERTIFICATE-----",
        )
    return Credentials(password=password, ca=ca)


def external_secrets(loaded: LoadedSite) -> Mapping[str, str]:
    """Return what Keystone's files hold of an external directory, by name; nothing without one.

    A $ is doubled, for oslo.config puts other options in at a single one. Raises SiteError.
    """
    external = None if loaded.site.directory is None else loaded.site.directory.external
    if external is None:
        return {}
    read = read_credentials(loaded, external)
    return {DIRECTORY_BIND_PASSWORD: read.password.replace("$", "$$"), EXTERNAL_CA: read.ca}


def _read_password(path: Path) -> str:
    setting = "directory.external.bind_password_file"
    text = _read(path, setting)
    if path.stat().st_mode & OTHERS:
        raise SiteError(f"{setting}: others may read {path}", hint=f"chmod 600 {path}")
    password = text.rstrip("\r\n")
    if not password or "\n" in password:
        raise SiteError(
            f"{setting}: {path} must hold the password on one line",
            hint=f"write the password, and nothing else, into {path}",
        )
    return password


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SiteError(
            f"{setting}: cannot read {path}: {why}", hint=f"make the file {path}"
        ) from error


def _path(loaded: LoadedSite, text: str) -> Path:
    return loaded.path.parent.resolve() / Path(text).expanduser()
