"""Somebody logs in at Keystone, asked on the controller: no client, and nothing but Keystone."""

from __future__ import annotations

import json
from typing import Any

from tests.cloud.conftest import Operator

DOMAIN, PROJECT = "users", "demo"
# On the controller, where the name of the directory is of no use: only Keystone is asked.
_LOGIN = """
import json, sys, time, urllib.error, urllib.request
user, password, domain, project = json.load(sys.stdin)
identity = {"methods": ["password"], "password": {"user": {
    "name": user, "domain": {"name": domain}, "password": password}}}
scope = {"project": {"name": project, "domain": {"name": "Default"}}}
body = json.dumps({"auth": {"identity": identity, "scope": scope}}).encode()
request = urllib.request.Request(
    "http://172.16.0.11:5000/v3/auth/tokens", body, {"Content-Type": "application/json"})
start_s = time.monotonic()
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        status, text = answer.status, answer.read().decode()
        token = answer.headers["X-Subject-Token"]
except urllib.error.HTTPError as error:
    status, text, token = error.code, error.read().decode(), ""
answer = json.loads(text) | {"given": token}
print(json.dumps([status, answer, time.monotonic() - start_s]))
"""


def login(
    operator: Operator, user: str, password: str, domain: str = DOMAIN, project: str = PROJECT
) -> tuple[int, Any, float]:
    """Return the status, the answer with the token under `given`, and how long it took in s."""
    wanted = json.dumps([user, password, domain, project]).encode()
    controller = operator.node("controller")
    done = controller.run(("python3", "-c", _LOGIN), stdin=wanted, timeout_s=90)
    status, answer, duration_s = json.loads(done.text)
    return status, answer, duration_s


def roles_of(answer: Any) -> set[str]:
    """Return the names of the roles that a login gave."""
    return {role["name"] for role in answer["token"]["roles"]}
