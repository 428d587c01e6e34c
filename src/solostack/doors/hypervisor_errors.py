"""What libvirt's failures mean: pure translation of its codes and texts into our errors.

Owns the wording of every failure of a libvirt connection. Must not import libvirt: it is given the
number and the text of an error, so that each translation can be tested without the daemon for it.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from solostack.errors import ConnectError, SolostackError

# Drivers of libvirt 0.1 to 11 (libvirt.org/drivers.html); only used to suggest a nearest name.
DRIVERS = (
    "bhyve", "ch", "esx", "gsx", "hyperv", "lxc", "openvz", "parallels", "qemu", "test", "vbox",
    "vmwarefusion", "vmwareplayer", "vmwarews", "vpx", "vz", "xen",
)  # fmt: skip
EXAMPLES = "qemu:///system, qemu+ssh://root@host/system, test:///default, lxc:///"


class ConnectFailure(enum.StrEnum):
    """Why a libvirt connection could not be opened."""

    LIBRARY = "library missing"
    DAEMON = "daemon not there"
    PERMISSION = "no permission"
    URI = "bad URI"
    DRIVER = "driver missing"
    UNREACHABLE = "host unreachable"
    HOST_KEY = "host key"
    AUTHENTICATION = "not authenticated"
    TIMEOUT = "timeout"
    LOST = "connection lost"
    OTHER = "other"


class HypervisorConnectError(ConnectError):
    """A libvirt connection cannot be opened, or broke; failure says why, for scripts."""

    def __init__(
        self,
        message: str,
        *,
        failure: ConnectFailure,
        details: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, details=details, hint=hint)
        self.failure = failure


class HypervisorError(SolostackError):
    """libvirt refused or failed a call on an open connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class UriParts:
    """A libvirt URI in its parts (libvirt.org/uri.html); empty where the URI has nothing."""

    driver: str
    transport: str
    user: str
    host: str
    port: int | None
    path: str
    query: tuple[tuple[str, str], ...]

    @property
    def is_remote(self) -> bool:
        """Whether the URI names another machine."""
        return bool(self.host)

    @property
    def is_ssh(self) -> bool:
        """Whether the connection goes through SSH."""
        return self.transport in ("ssh", "libssh", "libssh2")

    @property
    def known_host(self) -> str:
        """The host's name in known_hosts (sshd(8): in brackets when it has a port)."""
        return self.host if self.port in (None, 22) else f"[{self.host}]:{self.port}"

    @property
    def ssh_command(self) -> str:
        """The ssh command that reaches the same account by hand."""
        port = f"-p {self.port} " if self.port else ""
        user = f"{self.user}@" if self.user else ""
        return f"ssh {port}{user}{self.host or 'localhost'}"


def split_uri(uri: str) -> UriParts | None:
    """Return the parts of a libvirt URI; None when it is no URI, or an alias of libvirt.conf."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or not uri[len(parts.scheme) :].startswith(":/"):
        return None
    driver, _, transport = parts.scheme.partition("+")
    return UriParts(
        driver=driver,
        transport=transport,
        user=parts.username or "",
        host=parts.hostname or "",
        port=port,
        path=parts.path,
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
    )


def unattended_uri(uri: str) -> str:
    """Return uri so that ssh never asks at a terminal: a question would look like a hang.

    libvirt's no_tty=1 is ssh's BatchMode=yes (libvirt.org/uri.html); a value that is there stays.
    """
    parts = split_uri(uri)
    if parts is None or parts.transport != "ssh" or any(key == "no_tty" for key, _ in parts.query):
        return uri
    query = urlencode((*parts.query, ("no_tty", "1")), quote_via=quote)
    return urlsplit(uri)._replace(query=query).geturl()


def explain_open_failure(uri: str, text: str) -> HypervisorConnectError:
    """Build the error for a connection that libvirt could not open, from libvirt's own text."""
    parts = split_uri(uri)
    failure = _classify(text, parts)
    return HypervisorConnectError(
        f"{uri}: {_headline(failure, text, parts)}",
        failure=failure,
        details=tuple(line.strip() for line in text.splitlines() if line.strip()),
        hint=_hint(failure, uri, text, parts),
    )


def explain_timeout(uri: str, what: str, timeout_s: float) -> HypervisorConnectError:
    """Build the error for a call of libvirt that did not come back in time."""
    parts = split_uri(uri)
    if parts is not None and parts.is_remote:
        hint = f"see whether the host answers: {_reach_command(parts)}; or allow more time"
    else:
        hint = "see whether the daemon hangs: systemctl status libvirtd virtqemud"
    return HypervisorConnectError(
        f"{uri}: no answer within {timeout_s:g} s while {what}",
        failure=ConnectFailure.TIMEOUT,
        hint=hint,
    )


def explain_lost(uri: str, text: str) -> HypervisorConnectError:
    """Build the error for a connection that broke while it was in use."""
    return HypervisorConnectError(
        f"{uri}: the connection broke",
        failure=ConnectFailure.LOST,
        details=(text,),
        hint="run it again; if it breaks again: journalctl -u libvirtd -u virtqemud on that host",
    )


def explain_missing_library() -> HypervisorConnectError:
    """Build the error for a Python without libvirt's binding."""
    return HypervisorConnectError(
        "Python's libvirt module is not installed",
        failure=ConnectFailure.LIBRARY,
        hint="apt install python3-libvirt (a virtual environment needs --system-site-packages)",
    )


# The first rule that matches wins. libvirt has hardly any number of its own for these: nearly all
# are VIR_ERR_SYSTEM_ERROR (38), so the text is what tells them apart. The texts are untranslated: a
# Python process has LC_MESSAGES=C unless the program itself calls locale.setlocale.
_RULES: tuple[tuple[ConnectFailure, str], ...] = (
    (ConnectFailure.HOST_KEY, r"host key|HOST IDENTIFICATION HAS CHANGED|hostkey"),
    (
        ConnectFailure.URI,
        r"parse URI|does not include a driver name|transport in URL not recognised"
        r"|unexpected .* URI path|no .*path specified"
        r"|failed to parse xml document|failed to open file|invalid URI|missing .* in URI",
    ),
    (ConnectFailure.DRIVER, r"no connection driver available"),
    (
        ConnectFailure.UNREACHABLE,
        r"Could not resolve hostname|Unable to resolve address|IP address lookup for host"
        r"|No route to host|Network is unreachable|Connection timed out|Operation timed out"
        r"|unable to connect to server at|connect to host .* port",
    ),
    # Who is let in locally is polkit's to say, over the system bus.
    (ConnectFailure.PERMISSION, r"polkit|system bus"),
    (
        ConnectFailure.AUTHENTICATION,
        r"Permission denied \(|Permission denied, please try again|Too many authentication"
        r"|authentication (failed|cancelled|unavailable)|no agent is available to authenticate"
        r"|Cannot read (CA )?certificate|certificate"
        r"|Failed to start SASL|Username/Password",
    ),
    (
        ConnectFailure.PERMISSION,
        r"Permission denied|Operation not permitted|access denied|not authorized"
        r"|operation .* forbidden|need to be root",
    ),
    (
        ConnectFailure.DAEMON,
        r"Failed to connect socket|Connection refused|Cannot connect to|cannot connect to"
        r"|unable to connect socket|virt-ssh-helper|End of file while reading data"
        r"|nc: |netcat|command not found",
    ),
)


def _classify(text: str, parts: UriParts | None) -> ConnectFailure:
    matching = (kind for kind, pattern in _RULES if re.search(pattern, text, re.IGNORECASE))
    failure = next(matching, ConnectFailure.OTHER)
    # libvirt takes an empty or odd text for its default; what was asked for is still no URI.
    odd = parts is None and failure is not ConnectFailure.PERMISSION
    # An unknown driver is a mistake in the URI, a known one is missing in the daemon.
    unknown = failure is ConnectFailure.DRIVER and parts and parts.driver not in DRIVERS
    return ConnectFailure.URI if odd or unknown else failure


def _headline(failure: ConnectFailure, text: str, parts: UriParts | None) -> str:
    where = f" on {parts.host}" if parts is not None and parts.is_remote else ""
    match failure:
        case ConnectFailure.DAEMON:
            return f"the libvirt daemon is not there{where}"
        case ConnectFailure.PERMISSION:
            return f"no permission to use the libvirt daemon{where}"
        case ConnectFailure.URI:
            return "not a URI that libvirt can open"
        case ConnectFailure.DRIVER:
            return f"the libvirt daemon{where} has no driver for {parts.driver if parts else ''}"
        case ConnectFailure.UNREACHABLE:
            return f"the host {parts.host if parts else ''} cannot be reached".replace("  ", " ")
        case ConnectFailure.HOST_KEY:
            what = "has changed" if _key_changed(text) else "is unknown"
            return f"the SSH host key of {parts.host if parts else 'the host'} {what}"
        case ConnectFailure.AUTHENTICATION:
            return f"not authenticated{where}"
        case _:
            return "cannot connect"


def _hint(failure: ConnectFailure, uri: str, text: str, parts: UriParts | None) -> str:
    if parts is None or failure is ConnectFailure.URI:
        return _uri_hint(uri, parts)
    match failure:
        case ConnectFailure.DAEMON:
            return _daemon_hint(parts)
        case ConnectFailure.DRIVER:
            return f"install libvirt's driver for {parts.driver} there, or use another URI"
        case ConnectFailure.PERMISSION:
            return _permission_hint(parts)
        case ConnectFailure.UNREACHABLE:
            return f"see whether the host answers: {_reach_command(parts)}"
        case ConnectFailure.HOST_KEY if _key_changed(text):
            return (
                "find out why before anything else; if the host was really reinstalled: "
                f"ssh-keygen -R '{parts.known_host}', then {parts.ssh_command} true"
            )
        case ConnectFailure.HOST_KEY:
            return f"compare its fingerprint and accept it once: {parts.ssh_command} true"
        case ConnectFailure.AUTHENTICATION:
            return _authentication_hint(parts)
        case _:
            return f"try it by hand: virsh -c '{uri}' list --all"


def _key_changed(text: str) -> bool:
    return "HAS CHANGED" in text or "has changed" in text


def _uri_hint(uri: str, parts: UriParts | None) -> str:
    driver = parts.driver if parts else re.split(r"[+:/]", uri, maxsplit=1)[0]
    nearest = difflib.get_close_matches(driver, DRIVERS, n=1, cutoff=0.6)
    if driver not in DRIVERS and nearest:
        return f"did you mean the driver {nearest[0]}? URIs look like {EXAMPLES}"
    return f"URIs look like {EXAMPLES}"


def _daemon_hint(parts: UriParts) -> str:
    if parts.driver not in DRIVERS:
        nearest = difflib.get_close_matches(parts.driver, DRIVERS, n=1, cutoff=0.6)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"{parts.driver} is no driver of libvirt{meant} URIs look like {EXAMPLES}"
    if parts.driver == "test":
        return "test:///default needs no daemon"
    on_host = f"{parts.ssh_command} " if parts.is_ssh and parts.is_remote else ""
    where = "" if on_host or not parts.is_remote else f" on {parts.host}"
    return (
        f"start it{where}: {on_host}systemctl start libvirtd; "
        f"if it is not installed: {on_host}apt install libvirt-daemon-system"
    )


def _permission_hint(parts: UriParts) -> str:
    on_host = f" on {parts.host}" if parts.is_remote else ""
    return (
        f"run it as root, or join the group once{on_host}: "
        'usermod -aG libvirt "$USER" (then log in again); listing needs only a read-only connection'
    )


def _authentication_hint(parts: UriParts) -> str:
    if parts.is_ssh:
        return f"make this work without a question first: {parts.ssh_command} true"
    if parts.transport == "tls":
        return "install the client certificate as libvirt.org/kbase/tlscerts.html says"
    return "run it as root, or as a user in the group libvirt"


def _reach_command(parts: UriParts) -> str:
    if parts.is_ssh:
        return f"{parts.ssh_command} true"
    port = f":{parts.port}" if parts.port else ""
    return f"ping -c 3 {parts.host} (and its port{port} must be open)"
