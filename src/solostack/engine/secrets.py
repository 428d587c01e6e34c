"""The deployment's secrets: made once, by name, kept in one private file, never shown."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from solostack.errors import StateError

FILE_NAME = "secrets.json"
LENGTH = 32
ALPHABET = string.ascii_letters + string.digits
# Names with these beginnings get another form than letters and digits.
HEX_PREFIX = "hex_"
HEX_BYTES = 32


class SecretStore:
    """The secrets of one deployment, in directory/secrets.json (0600; the directory 0700).

    Safe to use from several processes at once (flock(2)). Its text form shows nothing.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def __repr__(self) -> str:
        return f"SecretStore({str(self._path)!r})"

    def ensure(self, names: Iterable[str]) -> Mapping[str, str]:
        """Make the secrets that do not exist yet and return all; none is ever made anew.

        A secret is 32 letters and digits (190 bits), safe in URLs, configuration files and sh; a
        name beginning with ``hex_`` gives 64 hexadecimal digits. Raises StateError when the file
        cannot be read or written.
        """
        with self._locked():
            values = self._load()
            missing = sorted(set(names) - values.keys())
            if missing:
                values |= {name: generate_secret(name) for name in missing}
                self._save(values)
        return values

    def values(self) -> Mapping[str, str]:
        """Return all secrets by name; none when there is no file. Raises StateError."""
        return self._load()

    def _load(self) -> dict[str, str]:
        try:
            values: dict[str, str] = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # Not "from error": the text of a ValueError may quote what is in the file.
            raise StateError(
                f"cannot read the secrets in {self._path}: {type(error).__name__}",
                hint=f"put {self._path} back from a backup; without it the cloud is lost",
            ) from None
        return values

    def _save(self, values: Mapping[str, str]) -> None:
        beside = self._path.with_name(f".{FILE_NAME}.new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory / f".{FILE_NAME}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {directory}: {error.strerror}",
                hint=f"make {directory} a directory that you may write to",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def generate_secret(name: str) -> str:
    """Return a new random secret of the form that its name asks for."""
    if name.startswith(HEX_PREFIX):
        return secrets.token_hex(HEX_BYTES)
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
