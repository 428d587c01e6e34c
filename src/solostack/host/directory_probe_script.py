"""The script that asks a directory everything Keystone will ask. Runs alone on a host.

host.directory_probe packs it with ldap3 and a request into an archive that comes over standard
input and stays in memory, for the request has a password. It goes on step by step as a login does,
so that the first step that fails is the one to mend; the last line it writes says which.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import sys
import urllib.parse
from collections import Counter
from collections.abc import Mapping
from typing import Any

import ldap3  # type: ignore[import-untyped]
from ldap3.core import exceptions  # type: ignore[import-untyped]

SAMPLE = 200
"""So many entries are looked at: enough to see what is missing, and any server sends them."""
# An extended request for StartTLS (RFC 4511, 4.12 and 4.14.1), message 1.
START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
EXTENDED_RESPONSE, SUCCESS = 0x78, b"\x0a\x01\x00"
# openssl's x509_vfy.h
EXPIRED, NOT_YET, HOSTNAME, ADDRESS = 10, 9, 62, 64

Request = Mapping[str, Any]


class StepError(Exception):
    """The step that failed, a word for the kind of failure, and what was said."""

    def __init__(self, step: str, kind: str, said: object) -> None:
        super().__init__(str(said))
        self.step, self.kind, self.said = step, kind, str(said)


def main(request: Request) -> None:
    """Go through the steps and write one line of JSON."""
    answer: dict[str, object] = {"step": "", "kind": "", "said": ""}
    try:
        answer |= look(request)
    except StepError as stop:
        answer |= {"step": stop.step, "kind": stop.kind, "said": stop.said}
    sys.stdout.write(json.dumps({"result": answer}) + "\n")


def look(request: Request) -> dict[str, object]:
    """Connect, check the certificate, bind, search; return what users and groups there are."""
    url = urllib.parse.urlsplit(request["url"])
    host, secure = url.hostname or "", url.scheme == "ldaps"
    port = url.port or (636 if secure else 389)
    check_certificate(host, port, request)
    link = bind(host, port, request)
    require_entry(link, "user tree", request["user_tree"])
    users = search(link, "users", request["user_tree"], request["user_filter"],
                   request["user_attributes"])  # fmt: skip
    if not users:
        raise StepError("users", "none", seen_instead(link, request["user_tree"]))
    found: dict[str, object] = {"users": summary(users, request["user_attributes"])}
    if request["group_tree"]:
        require_entry(link, "group tree", request["group_tree"])
        groups = search(link, "groups", request["group_tree"], request["group_filter"],
                        request["group_attributes"])  # fmt: skip
        found["groups"] = summary(groups, request["group_attributes"])
    return found


class Tls(ldap3.Tls):  # type: ignore[misc]
    """TLS as check_certificate has it, names and addresses checked by the ssl module itself."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context, self._host = context, host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002
        """Secure an open connection (ldap3 calls it so)."""
        del do_handshake
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


def make_context(request: Request) -> ssl.SSLContext:
    """Build the context. Not strict, as libldap is not: many a company's CA lacks extensions."""
    context = ssl.create_default_context(cadata=request["ca"] or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def check_certificate(host: str, port: int, request: Request) -> None:
    """Connect and check the certificate as a client does; says what exactly is wrong with it."""
    link = connect(host, port, request["timeout_s"])
    context = make_context(request)
    with link:
        if request["start_tls"]:
            begin_tls(link)
        try:
            with context.wrap_socket(link, server_hostname=host):
                return
        except ssl.SSLCertVerificationError as error:
            kinds = {EXPIRED: "expired", NOT_YET: "not yet", HOSTNAME: "name", ADDRESS: "name"}
            raise StepError(
                "tls", kinds.get(error.verify_code, "ca"), error.verify_message
            ) from error
        except TimeoutError as error:
            raise StepError("tls", "silent", "no TLS answer") from error
        except OSError as error:
            raise StepError("tls", "protocol", getattr(error, "reason", None) or error) from error


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Resolve and connect; telling a name that is unknown from a server that does not answer."""
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StepError("resolve", "name", error.strerror or error) from error
    try:
        return socket.create_connection((host, port), timeout_s)
    except TimeoutError as error:
        raise StepError("connect", "timeout", f"no answer within {timeout_s} s") from error
    except ConnectionRefusedError as error:
        raise StepError("connect", "refused", "connection refused") from error
    except OSError as error:
        raise StepError("connect", "unreachable", error.strerror or error) from error


def begin_tls(link: socket.socket) -> None:
    """Ask for StartTLS on a fresh connection."""
    try:
        link.sendall(START_TLS)
        answer = link.recv(1024)
    except OSError as error:
        raise StepError("tls", "silent", error) from error
    if EXTENDED_RESPONSE not in answer or SUCCESS not in answer:
        raise StepError("tls", "start", "the server refuses StartTLS")


def bind(host: str, port: int, request: Request) -> ldap3.Connection:
    """Log in as Keystone will; the certificate is checked again on this connection."""
    tls = Tls(make_context(request), host)
    # ldap3 takes an address in brackets for a name.
    name = host if is_address(host) or ":" not in host else f"[{host}]"
    server = ldap3.Server(name, port, use_ssl=not request["start_tls"], tls=tls,
                          connect_timeout=request["timeout_s"], get_info=ldap3.NONE)  # fmt: skip
    link = ldap3.Connection(
        server, request["bind_dn"], request["password"], receive_timeout=request["timeout_s"],
        read_only=True, auto_referrals=False, raise_exceptions=True, check_names=False,
    )  # fmt: skip
    try:
        link.open()
        if request["start_tls"]:
            link.start_tls()
        link.bind()
    except exceptions.LDAPInvalidCredentialsResult as error:
        raise StepError("bind", "credentials", described(error)) from error
    except exceptions.LDAPOperationResult as error:
        raise StepError("bind", "refused", described(error)) from error
    except exceptions.LDAPExceptionError as error:
        raise StepError("bind", "failed", error) from error
    return link


def is_address(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def require_entry(link: ldap3.Connection, step: str, dn: str) -> None:
    """Read one entry; it may be absent, or hidden from this account."""
    try:
        link.search(dn, "(objectClass=*)", search_scope=ldap3.BASE, attributes=["objectClass"])
    except exceptions.LDAPNoSuchObjectResult as error:
        raise StepError(step, "absent", described(error)) from error
    except exceptions.LDAPOperationResult as error:
        raise StepError(step, "refused", described(error)) from error
    except exceptions.LDAPExceptionError as error:
        raise StepError(step, "failed", error) from error
    # What an account may not see looks to it as if it were not there.
    if not entries(link):
        raise StepError(step, "absent", "no such entry, or none that this account may see")


def entries(link: ldap3.Connection) -> list[dict[str, Any]]:
    """Return the entries of the last search, without referrals."""
    return [row for row in link.response or [] if row["type"] == "searchResEntry"]


def search(
    link: ldap3.Connection, step: str, tree: str, query: str, attributes: list[str]
) -> list[dict[str, Any]]:
    """Return up to SAMPLE entries; a server that sends fewer than all is no failure."""
    try:
        link.search(tree, query, attributes=attributes, size_limit=SAMPLE)
    except exceptions.LDAPSizeLimitExceededResult:
        pass
    except exceptions.LDAPOperationResult as error:
        raise StepError(step, "refused", described(error)) from error
    except exceptions.LDAPExceptionError as error:
        raise StepError(step, "filter", error) from error
    return entries(link)


def seen_instead(link: ldap3.Connection, tree: str) -> str:
    """Return the object classes below a tree, the most frequent first: the filter fits none."""
    rows = search(link, "users", tree, "(objectClass=*)", ["objectClass"])
    classes = Counter(
        str(name) for row in rows for name in row["attributes"].get("objectClass", ())
    )
    return ", ".join(f"{name} ({count})" for name, count in classes.most_common(8))


def summary(rows: list[dict[str, Any]], attributes: list[str]) -> dict[str, object]:
    """Return how many entries there are, and per attribute how many of them lack it."""
    lacking = {name: sum(not has(row["attributes"], name) for row in rows) for name in attributes}
    return {"count": len(rows), "all": len(rows) < SAMPLE, "lacking": lacking}


def has(values: Mapping[str, Any], name: str) -> bool:
    """Return whether an entry has an attribute; names have no case."""
    return any(key.lower() == name.lower() and value for key, value in values.items())


def described(error: Any) -> str:  # noqa: ANN401  an exception of ldap3, which has no types
    """Return what the server said."""
    return " ".join(f"{error.description} {error.message or ''}".split())
