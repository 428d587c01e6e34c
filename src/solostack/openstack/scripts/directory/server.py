"""The server seen through its local socket, where root is the directory's manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ldap  # type: ignore[import-not-found,unused-ignore]
import ldap.sasl  # type: ignore[import-not-found,unused-ignore]

INSTANCE = "solostack"
UNIT = f"dirsrv@{INSTANCE}.service"
URI = f"ldapi://%2Frun%2Fslapd-{INSTANCE}.socket"
Values = Mapping[str, Sequence[str]]
# What people read of themselves, so that its letter case counts though LDAP compares without.
EXACT = frozenset({"cn", "sn", "mail", "displayname"})


class SetupError(Exception):
    """A failure with its kind (a word programs may act on) and what to do next."""

    def __init__(self, message: str, *, hint: str = "", kind: str = "failed") -> None:
        super().__init__(message)
        self.message, self.hint, self.kind = message, hint, kind


class Server:
    """A login as the manager. With dry_run nothing is written; changes lists what would be."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.changes: list[str] = []
        try:
            self._link = ldap.initialize(URI)
            self._link.sasl_external_bind_s()
        except ldap.LDAPError as error:
            raise SetupError(
                f"the directory server does not answer on its local socket: {reason(error)}",
                hint=f"on the directory node: systemctl status {UNIT}; journalctl -u {UNIT} -e",
                kind="down",
            ) from error

    def read(self, dn: str, attributes: Sequence[str] = ("*",)) -> dict[str, list[str]] | None:
        """Return an entry's attributes, their names in lower case; None when it is not there."""
        try:
            rows = self._link.search_s(dn, ldap.SCOPE_BASE, attrlist=list(attributes))
        except ldap.NO_SUCH_OBJECT:
            return None
        return _decoded(rows[0][1]) if rows else None

    def children(
        self, dn: str, kind: str, attributes: Sequence[str]
    ) -> list[tuple[str, dict[str, list[str]]]]:
        """Return (DN, attributes) of the entries of an object class right below an entry."""
        rows = self._link.search_s(
            dn, ldap.SCOPE_ONELEVEL, f"(objectClass={kind})", list(attributes)
        )
        return [(found, _decoded(values)) for found, values in rows]

    def ensure_entry(self, dn: str, values: Values) -> bool:
        """Add an entry unless it is there; return whether it was not."""
        if self.read(dn, ("1.1",)) is not None:
            return False
        self.changes.append(f"add {dn}")
        if not self.dry_run:
            self._link.add_s(dn, [(name, _encoded(each)) for name, each in values.items()])
        return True

    def ensure_values(self, dn: str, wanted: Values, *, tell: str = "") -> bool:
        """Give attributes exactly these values (none: no such attribute); return if that is new.

        tell is said instead of the values' names.
        """
        there = self.read(dn, tuple(wanted)) or {}
        wrong = {
            name: each
            for name, each in wanted.items()
            if _compared(name, there.get(name.lower(), [])) != _compared(name, each)
        }
        if not wrong:
            return False
        self.changes.append(f"{tell or ', '.join(wrong)} of {dn}")
        if not self.dry_run:
            self.modify(dn, wrong)
        return True

    def modify(self, dn: str, values: Values) -> None:
        """Replace attributes."""
        self._link.modify_s(
            dn, [(ldap.MOD_REPLACE, name, _encoded(each) or None) for name, each in values.items()]
        )

    def delete(self, dn: str) -> None:
        """Delete an entry."""
        self._link.delete_s(dn)


def can_bind(dn: str, password: str) -> bool:
    """Return whether a password is an account's, by a bind over the local socket."""
    link = ldap.initialize(URI)
    try:
        link.simple_bind_s(dn, password)
    except (ldap.INVALID_CREDENTIALS, ldap.UNWILLING_TO_PERFORM, ldap.NO_SUCH_OBJECT):
        return False
    finally:
        link.unbind_ext_s()
    return True


def reason(error: ldap.LDAPError) -> str:
    """Return what the server or the library said, as one line."""
    told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(told.get("info") or told.get("desc") or error).strip()


def _compared(name: str, values: Sequence[str]) -> list[str]:
    return sorted(values if name.lower() in EXACT else map(_plain, values))


def _plain(value: str) -> str:
    # Most values here compare without case (on/off, DNs), and ACIs without line ends.
    return " ".join(value.split()).lower()


def _decoded(values: Mapping[str, Sequence[bytes]]) -> dict[str, list[str]]:
    return {
        name.lower(): [each.decode("utf-8", "replace") for each in several]
        for name, several in values.items()
    }


def _encoded(values: Sequence[str]) -> list[bytes]:
    return [value.encode() for value in values]
