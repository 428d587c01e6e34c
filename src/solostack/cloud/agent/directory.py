"""Action `verify_directory`: the way of a login, step by step.

The steps are made with what Keystone itself uses (its domain's file), so that the first one that
fails says what Keystone's own "internal error" does not.
"""

from __future__ import annotations

import configparser
import datetime
import socket
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

from .grants import domain_id
from .opening import admin
from .report import AgentError, finding
from .rest import Body

TIMEOUT_S = 5
EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED of openssl's x509_vfy.h
LDAP_PORT, LDAPS_PORT = 389, 636
Domain = configparser.SectionProxy


def verify_directory(request: Body) -> Body:
    """Make the checks of the directory; each is a finding, and the first failure ends them.

    users are {"enabled": {name, password}, "locked": {...}}, or None where none can be made.
    """
    domain = read_domain(request["domain_file"])
    checks: tuple[tuple[str, Any], ...] = (
        ("directory: answers", lambda: check_answers(domain)),
        ("directory: certificate", lambda: check_certificate(domain)),
        ("directory: Keystone's account", lambda: check_bind(domain)),
        ("directory: users listed", lambda: _check_listed(request)),
    )
    if request["users"] is not None:
        checks += (
            ("directory: a user logs in", lambda: _check_login(request)),
            ("directory: a locked user is refused", lambda: _check_locked(request)),
        )
    for name, check in checks:
        with finding(name) as one:
            one.detail = check()
        if not one.ok:
            break
    return {}


def read_domain(path: str) -> Domain:
    """Read the [ldap] section of a domain's file of Keystone."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(Path(path).read_text(encoding="utf-8"))
        return parser["ldap"]
    except (OSError, configparser.Error, KeyError) as error:
        raise AgentError(f"cannot read {path}: {error}", hint="run solostack up") from error


def check_answers(domain: Domain) -> str:
    """Connect as Keystone does."""
    with _connect(domain):
        return f"{domain['url']} answers"


def _connect(domain: Domain) -> socket.socket:
    url = urllib.parse.urlsplit(domain["url"])
    port = url.port or (LDAPS_PORT if url.scheme == "ldaps" else LDAP_PORT)
    try:
        return socket.create_connection((url.hostname or "", port), TIMEOUT_S)
    except OSError as error:
        why = error.strerror or error
        raise AgentError(f"nothing answers at {domain['url']}: {why}") from error


def check_certificate(domain: Domain) -> str:
    """Look at the certificate as Keystone does; return until when it is good."""
    url = urllib.parse.urlsplit(domain["url"])
    if url.scheme != "ldaps":
        return "looked at when StartTLS begins"
    context = ssl.create_default_context(cafile=domain["tls_cacertfile"])
    # As libldap, which knows no such strictness.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with (
            _connect(domain) as link,
            context.wrap_socket(link, server_hostname=url.hostname) as secured,
        ):
            return "good until " + str((secured.getpeercert() or {})["notAfter"])
    except ssl.SSLCertVerificationError as error:
        raise AgentError(_bad_certificate(url.hostname or "", error)) from error
    except OSError as error:
        raise AgentError(f"no TLS with {domain['url']}: {error}") from error


def _bad_certificate(host: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == EXPIRED:
        today = datetime.datetime.now(tz=datetime.UTC).date()
        return f"the certificate of {host} has expired (today is {today})"
    return f"the certificate of {host} is not accepted: {error.verify_message}"


def check_bind(domain: Domain) -> str:
    """Log in with Keystone's account and read one entry."""
    import ldap  # type: ignore[import-not-found,unused-ignore]

    ldap.set_option(ldap.OPT_NETWORK_TIMEOUT, TIMEOUT_S)
    ldap.set_option(ldap.OPT_X_TLS_CACERTFILE, domain["tls_cacertfile"])
    ldap.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
    user = domain["user"].replace("$$", "$")
    try:
        link = ldap.initialize(domain["url"])
        if domain.getboolean("use_tls", fallback=False):
            link.start_tls_s()
        link.simple_bind_s(user, domain["password"][1:-1].replace("$$", "$"))
        link.search_s(domain["user_tree_dn"].replace("$$", "$"), ldap.SCOPE_BASE,
                      attrlist=["1.1"])  # fmt: skip
    except ldap.INVALID_CREDENTIALS as error:
        raise AgentError(
            f"the directory refuses the password that Keystone has for {user}"
        ) from error
    except ldap.LDAPError as error:
        told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        why = told.get("info") or told.get("desc") or error
        raise AgentError(f"the directory refuses {user}: {why}") from error
    return f"{user} may read"


def _check_listed(request: Body) -> str:
    cloud = admin(request)
    query = {"domain_id": domain_id(cloud, request["domain"])}
    if request["users"] is None:
        # A directory of somebody else may be large; one question proves the way.
        rows = cloud.list("identity", "users", **query, name=request["absent_name"])
        return f"Keystone asks the directory, {len(rows)} answers"
    names = sorted(row["name"] for row in cloud.list("identity", "users", **query))
    if request["users"]["enabled"]["name"] not in names:
        raise AgentError("a user that was just made is not among " + ", ".join(names[:10]))
    return f"{len(names)} users in domain {request['domain']}"


def _check_login(request: Body) -> str:
    refused = login(request, request["users"]["enabled"])
    if refused:
        raise AgentError(f"refused: {refused}")
    return "a user of the directory gets a token"


def _check_locked(request: Body) -> str:
    refused = login(request, request["users"]["locked"])
    if not refused:
        raise AgentError("a locked user gets a token")
    return "no token for a locked user"


def login(request: Body, user: Body) -> str:
    """Log in as a user of the directory, without a project; return why not, "" when it worked.

    Raises AgentError when Keystone fails instead of refusing.
    """
    from keystoneauth1 import (  # type: ignore[import-not-found,unused-ignore]
        exceptions,
        session,
    )
    from keystoneauth1.identity import v3  # type: ignore[import-not-found,unused-ignore]

    auth = v3.Password(
        request["access"]["auth_url"],
        username=user["name"],
        password=user["password"],
        user_domain_name=request["domain"],
        unscoped=True,
    )
    try:
        session.Session(auth=auth, timeout=60).get_token()
    except exceptions.Unauthorized as error:
        return str(error)
    except exceptions.ClientException as error:
        raise AgentError(f"Keystone fails at a login: {error}") from error
    return ""
