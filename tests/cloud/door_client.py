"""A client outside, with nothing but clouds.yaml, the SDK and a socket; prints one JSON object.

Runs in a tree that has openstacksdk, in the provider's network: python3 - CLOUD WHAT [ARGUMENT...]
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any

import openstack  # type: ignore[import-not-found,unused-ignore]

UPLOAD_MIB = 120


def links(value: Any) -> Iterator[str]:
    """Yield every link in a body."""
    if isinstance(value, dict):
        found = value.get("href")
        if isinstance(found, str):
            yield found
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from links(one)


def ask(cloud: Any, kind: str, path: str, verb: str = "get", **more: Any) -> Any:
    """Make a request to a service's public endpoint."""
    where = {"service_type": kind, "interface": "public"}
    return getattr(cloud.session, verb)(path, endpoint_filter=where, **more)


def answers(cloud: Any) -> dict[str, Any]:
    """Follow links page by page, and see what locations new objects are said to have."""
    pages = {
        "compute": "/flavors?limit=1",
        "network": "/v2.0/networks?limit=1",
        "identity": "/projects",
        "placement": "/resource_providers",
    }
    seen = {kind: list(links(ask(cloud, kind, path).json())) for kind, path in pages.items()}
    paged = {
        "flavors": len(list(cloud.compute.flavors(limit=1))),
        "networks": len(list(cloud.network.networks(limit=1))),
    }
    whole = {
        "flavors": len(list(cloud.compute.flavors())),
        "networks": len(list(cloud.network.networks())),
    }
    kinds = {"OpenStack-API-Version": "placement 1.39"}
    body = {"name": "door-test"}
    provider = ask(cloud, "placement", "/resource_providers", "post", json=body, headers=kinds)
    ask(cloud, "placement", f"/resource_providers/{provider.json()['uuid']}", "delete")
    return {
        "catalogue": {
            service["type"]: {one["interface"]: one["url"] for one in service["endpoints"]}
            for service in cloud.service_catalog
        },
        "links": seen,
        "paged": paged,
        "whole": whole,
        "location": provider.headers["Location"],
    }


def upload(cloud: Any) -> dict[str, Any]:
    """Store an image and read it back."""
    body = {"name": "door-test", "disk_format": "raw", "container_format": "bare"}
    made = ask(cloud, "image", "/v2/images", "post", json=body)
    path = f"/v2/images/{made.json()['id']}"
    data = os.urandom(1 << 20) * UPLOAD_MIB
    try:
        kind = {"Content-Type": "application/octet-stream"}
        ask(cloud, "image", f"{path}/file", "put", data=io.BytesIO(data), headers=kind)
        back = ask(cloud, "image", f"{path}/file").content
    finally:
        ask(cloud, "image", path, "delete")
    same = hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    return {"same": same, "location": made.headers["Location"]}


def console(cloud: Any, name: str) -> dict[str, Any]:
    """Open an instance's console as a browser does: its page, then the websocket the page opens."""
    server = cloud.compute.find_server(name)
    url = cloud.compute.create_console(server, console_type="novnc")["url"]
    parts = urllib.parse.urlsplit(url)
    page = cloud.session.get(url, authenticated=False)
    path = urllib.parse.parse_qs(parts.query)["path"][0]
    heard = {
        origin: talk(cloud, parts, path, origin)
        for origin in (f"https://{parts.netloc}", "https://evil.example")
    }
    return {"url": url, "page": page.status_code, "frame": page.headers["X-Frame-Options"], **heard}


def talk(cloud: Any, parts: urllib.parse.SplitResult, path: str, origin: str) -> str:
    """Return the first words of the console, or how the websocket was refused."""
    context = ssl.create_default_context(cafile=cloud.config.get_requests_verify_args()[0])
    key = base64.b64encode(os.urandom(16)).decode()
    with (
        socket.create_connection((parts.hostname, parts.port or 443), 30) as raw,
        context.wrap_socket(raw, server_hostname=parts.hostname) as link,
    ):
        link.settimeout(30)
        link.sendall(
            f"GET /novnc/vnc_auto.html{path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: binary\r\n"
            f"Origin: {origin}\r\n\r\n".encode()
        )
        answer = link.makefile("rb")
        status = answer.readline().decode().strip()
        while answer.readline().strip():
            pass
        # One frame: two bytes of head, then the protocol's version (RFC 6455, RFC 6143).
        words = answer.read(14)
    return f"{status} {words[2:].decode('latin-1').strip()}"


def main() -> None:
    """Do what is asked."""
    name, what, *arguments = sys.argv[1:]
    cloud = openstack.connect(cloud=name)
    told = {"answers": answers, "upload": upload, "console": console}[what](cloud, *arguments)
    print(json.dumps(told))  # noqa: T201


main()
