"""The front door: HAProxy on the controller, the one TLS entry to APIs, dashboard and consoles.

HAProxy decides in the order of the lines. All that the outside claims about itself is taken away
first. Only what HAProxy 2.6 (Debian 12) and later know is used.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from solostack.engine.operations import File, Operation, Unit, secret
from solostack.openstack import auth, novaconf
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import BANNER
from solostack.plan.model import FRONT_DOOR_REDIRECT_PORT as REDIRECT_PORT
from solostack.plan.model import FRONT_DOOR_TLS_PORT as TLS_PORT
from solostack.plan.model import FrontDoorPlan, NodePlan, Plan

PACKAGES = ("haproxy",)
UNITS = ("haproxy.service",)
CONF = "/etc/haproxy/haproxy.cfg"
DROPIN = "/etc/systemd/system/haproxy.service.d/solostack.conf"
CERTIFICATE_SECRET = "tls_front_door"  # noqa: S105  a name, not a value
CERTIFICATE = "/etc/haproxy/front_door.pem"
IDENTITY = "/identity"
OBJECTS = "/object-store"
_STORES = frozenset({"/image", OBJECTS})
DASHBOARD = "127.0.0.1:8010"

_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
)  # fmt: skip
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325, 4.2)."""

# The path without its query, in which consoles and temporary URLs have their tokens (%HPO).
_LOG_FORMAT = "%ci %ft %b %ST %HM %HPO %B B %Ta ms %tsc %sslv"

_HEAD = f"""\
global
    log stderr format short daemon
    chroot /var/lib/haproxy
    user haproxy
    group haproxy
    maxconn 2000
    nbthread 1
    hard-stop-after 12h
    # Without this, browsers open consoles over HTTP/2, which few have tried.
    h2-workaround-bogus-websocket-clients
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
    ssl-default-bind-ciphers {":".join(_CIPHERS)}

defaults
    mode http
    log global
    log-format "{_LOG_FORMAT}"
    option dontlognull
    option http-ignore-probes
    option clitcpka
    retries 1
    timeout connect 3s
    timeout check 3s
    timeout queue 10s
    # A request's head must come at once; afterwards either side may pause.
    timeout http-request 10s
    timeout http-keep-alive 30s
    timeout client 1m
    timeout client-fin 30s
    timeout server 5m
    timeout tunnel 12h
    default-server check inter 3s fall 2 rise 1
"""
_SLOW = "timeout server 30m"
"""Storing a large image or object takes long after its last byte came."""


def front_door_operations(
    plan: Plan, node: NodePlan, catalog: Sequence[CatalogService]
) -> tuple[Operation, ...]:
    """Return the configuration and the certificate; none where the site has no front door."""
    if plan.front_door is None:
        return ()
    return (
        File(path=CERTIFICATE, content=secret(CERTIFICATE_SECRET), mode=0o600),
        File(path=CONF, content=render_config(plan, plan.front_door, node, catalog)),
        File(path=DROPIN, content=render_dropin()),
    )


def front_door_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the unit; off where the site has no front door.

    It is reloaded, not restarted: the old process ends when its connections have (haproxy(1)).
    """
    if plan.front_door is None:
        return tuple(Unit(name=name, enabled=False, running=False) for name in UNITS)
    files = (CERTIFICATE, CONF)
    return tuple(Unit(name=name, running=running, restart_on=files, reload=True) for name in UNITS)


def ports(plan: Plan) -> tuple[int, ...]:
    """Return the TCP ports it answers at; it does so before what is behind it is there."""
    return () if plan.front_door is None else (REDIRECT_PORT, TLS_PORT)


def render_dropin() -> str:
    """Render an addition to Debian's unit.

    The address to listen on may come up after the unit is tried; it must not give up then.
    """
    return "[Unit]\nStartLimitIntervalSec=0\n\n[Service]\nRestart=always\nRestartSec=2\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An API behind the door: its path there, and where it listens."""

    path: str
    server: str

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.path.removeprefix("/")


def build_apis(plan: Plan, catalog: Sequence[CatalogService]) -> tuple[Api, ...]:
    """Return the APIs of a catalogue that have a path of their own; Keystone comes first."""
    urls = [(auth.keystone_url(plan), auth.public_url(plan, IDENTITY))]
    urls += [(service.url, service.public_url) for service in catalog]
    paths = {}
    for internal, public in urls:
        first = urlsplit(public).path.strip("/").partition("/")[0]
        if first:
            paths[f"/{first}"] = urlsplit(internal).netloc
    return tuple(Api(path=path, server=server) for path, server in paths.items())


def render_config(
    plan: Plan, door: FrontDoorPlan, node: NodePlan, catalog: Sequence[CatalogService]
) -> str:
    """Render haproxy.cfg; node is the controller."""
    listed = build_apis(plan, catalog)
    objects = _s3_server(plan, listed)
    sections = [
        _HEAD,
        _block("frontend http", _plain(door, node)),
        _block("frontend https", _door(door, node, listed, s3=objects is not None)),
        *(_block(f"backend {api.name}", _api(api, door)) for api in listed),
    ]
    if objects is not None:
        sections.append(_block("backend s3", _s3(objects)))
    sections.append(_block("backend console", _console(plan)))
    sections.append(_block("backend dashboard", _dashboard(plan, listed, door)))
    return BANNER + "\n" + "\n".join(sections)


def _s3_server(plan: Plan, listed: tuple[Api, ...]) -> Api | None:
    if plan.storage is None or plan.storage.swift is None or not plan.storage.swift.s3:
        return None
    return next((api for api in listed if api.path == OBJECTS), None)


def _block(title: str, lines: Iterable[str]) -> str:
    return f"{title}\n" + "".join(f"    {line}\n" for line in lines)


def _plain(door: FrontDoorPlan, node: NodePlan) -> Iterator[str]:
    yield f"bind {node.data_address}:{REDIRECT_PORT}"
    # 308 keeps the method (RFC 9110, 15.4.9). Not to the host that the client names.
    yield f"http-request redirect prefix {door.url} code 308"


def _door(
    door: FrontDoorPlan, node: NodePlan, listed: tuple[Api, ...], *, s3: bool
) -> Iterator[str]:
    yield f"bind {node.data_address}:{TLS_PORT} ssl crt {CERTIFICATE} alpn h2,http/1.1"
    # WSGI does not tell _ from - in a header's name.
    yield "http-request del-header ^(x[-_]forwarded|forwarded|x[-_]real[-_]ip|proxy$) -m reg"
    yield "http-after-response set-header X-Content-Type-Options nosniff"
    if door.own_certificate and door.hostname:
        yield 'http-after-response set-header Strict-Transport-Security "max-age=15768000"'
    yield "use_backend console if { req.hdr(Upgrade) -i websocket }"
    yield "use_backend console if { path_beg /novnc/ }"
    if s3:
        yield "use_backend s3 if { req.hdr(Authorization) -m beg -i AWS }"
        yield "use_backend s3 if { url_param(X-Amz-Signature) -m found }"
        yield "use_backend s3 if { url_param(AWSAccessKeyId) -m found }"
    for api in listed:
        condition = f"{{ path {api.path} }} || {{ path_beg {api.path}/ }}"
        yield f"use_backend {api.name} if {condition}"
    yield "default_backend dashboard"


def _api(api: Api, door: FrontDoorPlan) -> Iterator[str]:
    """The door's own host, not the client's: links are the catalogue's, whatever was asked for."""
    host = door.url.removeprefix("https://")
    yield "http-request set-header X-Forwarded-Proto https"
    yield f"http-request set-header X-Forwarded-Host {host}"
    yield f"http-request set-header X-Forwarded-Prefix {api.path}"
    yield "http-request set-header X-Forwarded-For %[src]"
    yield rf"http-request replace-path ^{api.path}/?(.*)$ /\1"
    # Glance and others name a path of their own, without the prefix they do not know of.
    yield (
        rf"http-response replace-header Location ^(?:https?://(?:{_quoted(host)}|"
        rf"{_quoted(api.server)}))?(?!{api.path}(?:[/?]|$))(/.*)$ {door.url}{api.path}\1"
    )
    yield from _foreign_content()
    yield from _errors_as_json(api)
    if api.path in _STORES:
        yield _SLOW
    yield f"server {api.name} {api.server}"


def _s3(objects: Api) -> Iterator[str]:
    """S3 signs host and path, so neither is changed."""
    yield "http-request set-header X-Forwarded-Proto https"
    yield "http-request set-header X-Forwarded-For %[src]"
    yield from _foreign_content()
    yield _SLOW
    yield f"server s3 {objects.server}"


def _foreign_content() -> Iterator[str]:
    # Objects and images are what users put there, under the dashboard's very origin: a page among
    # them must run no script with its cookies.
    yield "http-after-response set-header Content-Security-Policy sandbox"


def _console(plan: Plan) -> Iterator[str]:
    """The page of noVNC and its websocket.

    No forwarded protocol: Nova would believe that instead of the Origin's (websocketproxy.py). Not
    checked: its server forks for each connection.
    """
    yield "http-request set-header X-Forwarded-For %[src]"
    yield r"http-request replace-path ^/novnc/(.*)$ /\1 unless { req.hdr(Upgrade) -i websocket }"
    yield "http-after-response set-header X-Frame-Options SAMEORIGIN"
    # The address has the console's token in its query.
    yield "http-after-response set-header Referrer-Policy no-referrer"
    yield from _errors_as_page("The consoles do not answer", "nova-novncproxy does not run.")
    yield f"server console {auth.controller_address(plan)}:{novaconf.CONSOLE_PORT} no-check"


def _dashboard(plan: Plan, listed: tuple[Api, ...], door: FrontDoorPlan) -> Iterator[str]:
    if plan.dashboard is None:
        text = f"This is the front door of the cloud {plan.site}. It has no dashboard.\n\nAPIs:\n"
        text += "".join(f"  {door.url}{api.path}\n" for api in listed)
        escaped = text.replace("\n", "\\n")
        yield (
            f'http-request return status 404 content-type "text/plain; charset=utf-8" '
            f'string "{escaped}"'
        )
        return
    yield "http-request set-header X-Forwarded-Proto https"
    yield "http-request set-header X-Forwarded-For %[src]"
    yield (
        "http-after-response set-header X-Frame-Options SAMEORIGIN "
        "unless { res.hdr(X-Frame-Options) -m found }"
    )
    yield from _errors_as_page("The dashboard does not answer", "Horizon does not run.")
    yield f"server dashboard {DASHBOARD}"


def _errors_as_json(api: Api) -> Iterator[str]:
    for status, words in ((502, "ended"), (503, "does not answer"), (504, "takes too long")):
        body = {"error": {"code": status, "message": f"the {api.name} API {words}"}}
        yield (
            f"http-error status {status} content-type application/json "
            f"string '{json.dumps(body)}' hdr Retry-After 5"
        )


def _errors_as_page(title: str, why: str) -> Iterator[str]:
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<h1>{title}</h1><p>{why} It may be starting: try again in a minute. "
        "The operator sees more with: solostack status</p></html>"
    )
    for status in (502, 503, 504):
        yield (
            f'http-error status {status} content-type "text/html; charset=utf-8" '
            f"string '{page}' hdr Retry-After 5"
        )


def _quoted(text: str) -> str:
    return text.replace(".", r"\.")
