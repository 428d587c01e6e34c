"""A client of the object store with nothing but Python: Keystone tokens, Swift, S3 with SigV4.

Runs alone on any machine that reaches the APIs: python3 object_client.py REQUEST, where REQUEST is
JSON with ``do`` (a name in ACTIONS) and what that needs; the answer is JSON on standard output.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import json
import ssl
import sys
import time
import urllib.parse
from typing import Any

Body = dict[str, Any]
TIMEOUT_S = 300
BLOCK = 1 << 20


class Answer:
    """What came back: status, headers in lower case, content, seconds."""

    def __init__(self, response: http.client.HTTPResponse, start_s: float) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.content = response.read()
        self.seconds = round(time.monotonic() - start_s, 2)

    def short(self) -> Body:
        return {
            "status": self.status,
            "bytes": len(self.content),
            "md5": hashlib.md5(self.content, usedforsecurity=False).hexdigest(),
            "text": self.content[:300].decode("utf-8", "replace"),
            "seconds": self.seconds,
        }


def ask(
    method: str, url: str, headers: Body | None = None, body: bytes | None = None, ca: str = ""
) -> Answer:
    """Make one request; ca is a PEM text, needed for https."""
    parts = urllib.parse.urlsplit(url)
    host, start_s = parts.hostname or "", time.monotonic()
    link: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cadata=ca)
        link = http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=context)
    else:
        link = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        link.request(method, target, body, headers or {})
        return Answer(link.getresponse(), start_s)
    finally:
        link.close()


class Login:
    """A token of a user in a project, with the ids and the catalogue that came with it."""

    def __init__(self, request: Body) -> None:
        self.ca = request.get("ca", "")
        self.auth_url = request["auth_url"]
        user = {
            "name": request["user"],
            "domain": {"id": "default"},
            "password": request["password"],
        }
        scope = {"project": {"name": request["project"], "domain": {"id": "default"}}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": scope,
            }
        }
        answer = self.call("POST", "/auth/tokens", body)
        self.token = answer.headers["x-subject-token"]
        token = json.loads(answer.content)["token"]
        self.user_id, self.project_id = token["user"]["id"], token["project"]["id"]
        self.catalog = token["catalog"]

    def call(self, method: str, path: str, body: Body | None = None) -> Answer:
        headers = {"Content-Type": "application/json"}
        if hasattr(self, "token"):
            headers["X-Auth-Token"] = self.token
        data = json.dumps(body).encode() if body is not None else None
        answer = ask(method, self.auth_url + path, headers, data, self.ca)
        assert answer.status < 300, (method, path, answer.status, answer.content[:500])
        return answer

    def endpoint(self, kind: str, interface: str) -> str:
        (service,) = [one for one in self.catalog if one["type"] == kind]
        (found,) = [one for one in service["endpoints"] if one["interface"] == interface]
        return str(found["url"])

    def ec2(self) -> tuple[str, str]:
        """Make a pair of keys for S3."""
        path = f"/users/{self.user_id}/credentials/OS-EC2"
        made = json.loads(self.call("POST", path, {"tenant_id": self.project_id}).content)
        return made["credential"]["access"], made["credential"]["secret"]


def sign_v4(
    method: str, url: str, body: bytes, keys: tuple[str, str], region: str = "regionOne"
) -> Body:
    """Return the headers of a request signed as AWS Signature Version 4 says (header form)."""
    access, secret = keys
    parts = urllib.parse.urlsplit(url)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    headers = {"host": parts.netloc, "x-amz-content-sha256": payload, "x-amz-date": now}
    names = ";".join(sorted(headers))
    query = "&".join(
        f"{urllib.parse.quote(key, safe='')}={urllib.parse.quote(value, safe='')}"
        for key, value in sorted(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    )
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join((method, parts.path or "/", query, lines, names, payload))
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", now, scope, digest))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )
    return headers


def blob(size: int) -> bytes:
    """Return bytes that do not compress and are the same every time."""
    state, out = hashlib.sha256(b"solostack").digest(), bytearray()
    while len(out) < size:
        state = hashlib.sha256(state).digest()
        out += state * 2048
    return bytes(out[:size])


def put_get(request: Body) -> Body:
    """Put an object of size bytes, get it, and delete it if asked to."""
    login = Login(request)
    url = request.get("url") or login.endpoint("object-store", request["interface"])
    url = url.replace("{project}", login.project_id)
    headers = {"X-Auth-Token": login.token}
    folder, path = f"{url}/{request['container']}", f"{url}/{request['container']}/o"
    told: Body = {"url": url}
    if request.get("put", True):
        data = blob(request["size"])
        told["container"] = ask("PUT", folder, headers, ca=login.ca).short()
        told["put"] = ask("PUT", path, headers, data, login.ca).short()
        told["sent"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    told["got"] = ask("GET", path, headers, ca=login.ca).short()
    told["bad"] = ask("GET", path, {"X-Auth-Token": "f" * 32}, ca=login.ca).short()
    told["none"] = ask("GET", path, ca=login.ca).short()
    if request.get("delete", True):
        told["delete"] = ask("DELETE", path, headers, ca=login.ca).short()
        told["gone"] = ask("GET", path, headers, ca=login.ca).short()
        told["emptied"] = ask("DELETE", folder, headers, ca=login.ca).short()
    return told


def s3(request: Body) -> Body:
    """Use the store as an S3 client does: bucket, object, listing, multipart, wrong key."""
    login = Login(request)
    keys = login.ec2()
    base = (request.get("url") or login.endpoint("s3", request["interface"])).rstrip("/")

    def call(method: str, path: str, body: bytes = b"", keys: tuple[str, str] = keys) -> Answer:
        url = f"{base}/{request['bucket']}{path}"
        return ask(method, url, sign_v4(method, url, body, keys), body or None, login.ca)

    data = blob(request["size"])
    told: Body = {"url": base, "sent": hashlib.md5(data, usedforsecurity=False).hexdigest()}
    told["bucket"] = call("PUT", "").short()
    told["put"] = call("PUT", "/o", data).short()
    told["got"] = call("GET", "/o").short()
    told["list"] = call("GET", "?list-type=2&prefix=o").short()
    told["wrong"] = call("GET", "/o", keys=(keys[0], "0" * 32)).short()
    # The same object by Swift's own API, in the account of the same project.
    native = login.endpoint("object-store", request["interface"])
    headers = {"X-Auth-Token": login.token}
    told["native"] = ask("GET", f"{native}/{request['bucket']}/o", headers, ca=login.ca).short()
    told |= multipart(call, blob(5 * BLOCK), blob(BLOCK))
    told["deleted"] = [call("DELETE", path).status for path in ("/o", "/parts", "")]
    return told


def multipart(call: Any, first: bytes, second: bytes) -> Body:
    """Upload one object in two parts; all but the last must have 5 MiB."""
    begun = call("POST", "/parts?uploads=").content.decode()
    upload = begun.partition("<UploadId>")[2].partition("<")[0]
    xml = ""
    for number, part in enumerate((first, second), start=1):
        sent = call("PUT", f"/parts?partNumber={number}&uploadId={upload}", part)
        xml += f"<Part><PartNumber>{number}</PartNumber><ETag>{sent.headers['etag']}</ETag></Part>"
    whole = f"<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>".encode()
    completed = call("POST", f"/parts?uploadId={upload}", whole)
    got = call("GET", "/parts")
    return {
        "completed": completed.short(),
        "whole": got.content == first + second,
    }


def public(request: Body) -> Body:
    """Open a container to everybody, read it without a token, and by a signed URL."""
    login = Login(request)
    url = login.endpoint("object-store", request["interface"])
    headers = {"X-Auth-Token": login.token}
    folder, path = f"{url}/{request['container']}", f"{url}/{request['container']}/page"
    ask("PUT", folder, headers, ca=login.ca)
    ask("PUT", path, headers, b"hello", login.ca)
    told: Body = {"closed": ask("GET", path, ca=login.ca).short()}
    ask("POST", url, {**headers, "X-Account-Meta-Temp-URL-Key": "k3y"}, ca=login.ca)
    # What is signed is the path that Swift sees, without what the front door puts before it.
    seen = "/v1/" + urllib.parse.urlsplit(path).path.partition("/v1/")[2]
    until = int(time.time()) + 3600
    text = f"GET\n{until}\n{seen}".encode()
    signature = hmac.new(b"k3y", text, hashlib.sha256).hexdigest()
    signed = f"{path}?temp_url_sig={signature}&temp_url_expires={until}"
    told["signed"] = ask("GET", signed, ca=login.ca).short()
    told["forged"] = ask(
        "GET", signed.replace("temp_url_sig=", "temp_url_sig=00"), ca=login.ca
    ).short()
    ask("POST", folder, {**headers, "X-Container-Read": ".r:*"}, ca=login.ca)
    told["opened"] = ask("GET", path, ca=login.ca).short()
    told["write"] = ask("PUT", path, body=b"evil", ca=login.ca).short()
    for target in (path, folder):
        ask("DELETE", target, headers, ca=login.ca)
    return told


def info(request: Body) -> Body:
    """Return what the store says it can do."""
    answer = ask("GET", request["url"], ca=request.get("ca", ""))
    return dict(json.loads(answer.content))


ACTIONS = {"put_get": put_get, "s3": s3, "public": public, "info": info}


def main() -> None:
    """Do what the request says."""
    request = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(ACTIONS[request["do"]](request)) + "\n")


if __name__ == "__main__":
    main()
