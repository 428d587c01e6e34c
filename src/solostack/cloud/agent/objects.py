"""Action `verify_storage`: the object store and the shared folder, in their own protocols.

Asked at the internal endpoint and with short patience: whether the store answers at all is what a
node that is off leaves open, and the answer must not take minutes.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import struct
import urllib.parse

from .opening import admin
from .report import AgentError, Wait, finding
from .rest import Body, Cloud

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 90
SERVICE = "object-store"
CONTAINER = "solostack-verify"
OBJECT = "proof"
BYTES = 65536
FOLDER_TIMEOUT_S = 20
MOVING_S = 120.0
MOVING_PAUSE_S = 3.0
NOT_THERE = (
    "solostack status must show node storage running, solostack up starts it; on it: systemctl "
    "status swift-proxy memcached; journalctl -u swift-proxy -e"
)
REFUSED = (
    "on node storage: df /srv/node/*; systemctl status solostack-disks swift-account "
    "swift-container swift-object; journalctl -u swift-proxy -u swift-object -e"
)
NO_FOLDER = (
    "solostack status must show node storage running, solostack up starts it; on it: systemctl "
    "status nfs-server; exportfs -v"
)
# RFC 5531: the last fragment, 40 bytes; a call, RPC 2, program 100003 (NFS), version 4, procedure
# 0 (null), and no credentials.
NULL_CALL = struct.pack(">11I", 0x80000028, 1, 0, 2, 100003, 4, 0, 0, 0, 0, 0)


class Store:
    """One project's account in the object store."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = parts.path.rstrip("/")

    def ask(
        self, method: str, path: str, token: str, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Make one request; return status and content. AgentError when there is no answer."""
        link = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
        try:
            link.connect()
            link.sock.settimeout(ANSWER_TIMEOUT_S)
            link.request(method, self._path + path, body, {"X-Auth-Token": token})
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = str(error) or type(error).__name__
            raise AgentError(
                f"object-store does not answer at {self._host}:{self._port}: {why}", hint=NOT_THERE
            ) from error
        finally:
            link.close()

    def need(self, method: str, path: str, token: str, body: bytes | None = None) -> bytes:
        """Make one request that must succeed; return the content."""
        status, content = self.ask(method, path, token, body)
        if status >= 400:
            text = " ".join(content.decode("utf-8", "replace").split())[:200]
            raise AgentError(f"object-store: {method} of {path}: {status} {text}", hint=REFUSED)
        return content


def verify_storage(request: Body) -> Body:
    """Make the checks that the site has something for; each is emitted as a finding.

    objects says that there is an object store, folder is {address, port} of the NFS server or None.
    """
    if request["objects"]:
        check_objects(admin(request))
    if request["folder"] is not None:
        check_folder(request["folder"])
    return {}


def check_objects(cloud: Cloud) -> None:
    """Put, get and delete an object, and have a token that nobody gave refused."""
    with finding("objects: put, get, delete") as one:
        url, token = cloud.reach(SERVICE)
        one.detail = _round(Store(url), token)
    with finding("objects: a bad token is refused") as one:
        url, _ = cloud.reach(SERVICE)
        status, _ = Store(url).ask("GET", "", secrets.token_hex(16))
        one.detail = f"status {status}"
        if status != http.client.UNAUTHORIZED:
            one.fail(f"answered with status {status} instead of 401", REFUSED)


def _make_container(store: Store, folder: str, token: str) -> None:
    """Make the container; its account may still be on the way to a disk that was added (404)."""
    wait = Wait(MOVING_S, MOVING_PAUSE_S)
    while store.ask("PUT", folder, token)[0] == http.client.NOT_FOUND:
        if not wait.left("waiting for the account, which moves to another disk"):
            break
    store.need("PUT", folder, token)


def _round(store: Store, token: str) -> str:
    folder, path = f"/{CONTAINER}", f"/{CONTAINER}/{OBJECT}"
    content = secrets.token_bytes(BYTES)
    _make_container(store, folder, token)
    store.need("PUT", path, token, content)
    if store.need("GET", path, token) != content:
        raise AgentError(
            f"object-store: what was read from {path} is not what was written", hint=REFUSED
        )
    store.need("DELETE", path, token)
    status, _ = store.ask("GET", path, token)
    if status != http.client.NOT_FOUND:
        raise AgentError(
            f"object-store: {path} answers {status} after it was deleted", hint=REFUSED
        )
    store.need("DELETE", folder, token)
    return f"{BYTES // 1024} KiB"


def check_folder(folder: Body) -> None:
    """Ask the NFS server at address and port for nothing: the null procedure of version 4."""
    with finding("shared folder answers") as one:
        address = (folder["address"], folder["port"])
        try:
            with socket.create_connection(address, FOLDER_TIMEOUT_S) as link:
                link.sendall(NULL_CALL)
                answer = link.recv(64)
        except OSError as error:
            why = str(error) or type(error).__name__
            raise AgentError(
                f"NFS does not answer at {address[0]}:{address[1]}: {why}", hint=NO_FOLDER
            ) from error
        # Fragment, transaction, reply (1), accepted (0), verifier (two words), success (0).
        if len(answer) < 28 or struct.unpack(">7I", answer[:28])[1:] != (1, 1, 0, 0, 0, 0):
            one.fail(f"this is not NFS version 4: {answer.hex()}", NO_FOLDER)
        else:
            one.detail = f"NFS version 4 at {address[0]}"
