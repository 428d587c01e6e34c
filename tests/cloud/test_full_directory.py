"""Users in a directory, on the full site: who gets in, who does not, a directory that is off."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from solostack.errors import ExitCode
from tests.cloud.conftest import Operator
from tests.cloud.login import PROJECT, login, roles_of

pytestmark = [pytest.mark.cloud, pytest.mark.lane("full site")]

PASSWORD = "aGoodOne1234"
# Keystone waits 3 s for a directory that does not answer; the rest is a busy machine.
SOON_S = 20.0
BACK_S = 120.0
# Those given in the same second as the revocation fall under it.
A_SECOND_S = 1.5
# Asks for the catalogue of a token's own project: its status.
USE = """
import sys, urllib.error, urllib.request
headers = {"X-Auth-Token": sys.stdin.read()}
request = urllib.request.Request("http://172.16.0.11:5000/v3/auth/catalog", headers=headers)
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
SHOW = """
export OS_AUTH_URL=http://172.16.0.11:5000/v3 OS_IDENTITY_API_VERSION=3 OS_INTERFACE=internal
export OS_USERNAME=ada OS_USER_DOMAIN_NAME=users OS_PROJECT_NAME=demo
export OS_PROJECT_DOMAIN_NAME=Default OS_PASSWORD=@password@
openstack network list -f json
"""


def secrets(full: Operator) -> dict[str, str]:
    name = full.lab.name
    path = full.state_home / "solostack/sites" / name / "secrets.json"
    values: dict[str, str] = json.loads(path.read_text())
    return values


def use(full: Operator, token: str) -> int:
    """Return the status with which Keystone answers a token."""
    done = full.node("controller").run(("python3", "-c", USE), stdin=token.encode(), timeout_s=90)
    return int(done.text)


def users(full: Operator, *words: str, given: str = "") -> Any:
    """Run `solostack users`, with a line of standard input; the answer has the status too."""
    command = (sys.executable, "-m", "solostack", "users", *words, "-f", str(full.site), "--json")
    feed = ("sh", "-c", 'printf "%s\\n" "$0" | "$@"', given, *command)
    done = full.run(*feed, timeout_s=420)
    assert "Traceback" not in done.stdout + done.stderr
    return json.loads(done.stdout) | {"status": done.returncode}


def given(full: Operator, user: str, password: str) -> str:
    """Log in, and return a token that is good."""
    status, answer, _ = login(full, user, password)
    assert status == 201
    token: str = answer["given"]
    assert use(full, token) == 200
    return token


def first_password(full: Operator, user: str) -> str:
    return secrets(full)[f"directory_user_{user}"]


def test_a_user_of_the_site_works_in_the_groups_project(full: Operator) -> None:
    status, answer, _ = login(full, "ada", first_password(full, "ada"))
    assert status == 201
    assert "member" in roles_of(answer)
    assert "admin" not in roles_of(answer)
    script = SHOW.replace("@password@", first_password(full, "ada"))
    done = full.node("controller").run(("sh", "-eu"), stdin=script.encode(), timeout_s=180)
    assert {row["Name"] for row in json.loads(done.text)} >= {PROJECT}


def test_who_is_disabled_or_has_a_wrong_password_is_refused(full: Operator) -> None:
    assert login(full, "mallory", first_password(full, "mallory"))[0] == 401
    assert login(full, "ada", "wrong")[0] == 401
    assert login(full, "nobody", "wrong")[0] == 401


def test_a_user_by_command_from_beginning_to_end(full: Operator) -> None:
    weak = users(full, "add", "eve", "--stdin", given="short")
    assert weak["status"] == ExitCode.USAGE
    assert "at least 10 characters" in weak["error"]["message"]
    added = users(full, "add", "eve", "--group", "makers", "--stdin", given=PASSWORD)
    assert added["status"] == 0, added
    old = given(full, "eve", PASSWORD)
    answer = users(full, "passwd", "eve", "--generate")
    assert answer["status"] == 0, answer
    made = answer["password"]
    assert login(full, "eve", PASSWORD)[0] == 401
    assert use(full, old) == 401, "who is logged in by an old password is out too"
    time.sleep(A_SECOND_S)
    token, others = given(full, "eve", made), given(full, "ada", first_password(full, "ada"))
    disabled = users(full, "disable", "eve")
    assert disabled["status"] == 0, disabled
    assert login(full, "eve", made)[0] == 401
    assert (use(full, token), use(full, others)) == (401, 200)
    rows = {row["name"]: row for row in users(full, "list")["users"]}
    assert rows["eve"]["enabled"] is False
    assert rows["eve"]["groups"] == ["makers"]
    # Nothing of this is for `up` to put right.
    assert full.solostack("up", "--yes") == {"pending": []}
    removed = users(full, "remove", "eve", "--yes")
    assert removed["status"] == 0, removed
    assert "eve" not in {row["name"] for row in users(full, "list")["users"]}


def test_without_the_directory_the_administrator_works_and_the_error_is_clear(
    full: Operator,
) -> None:
    host = full.lab.host_executor("phys1")
    unit = "solostack-node@directory.service"
    host.run(("systemctl", "stop", unit), timeout_s=180)
    try:
        status, answer, duration_s = login(full, "ada", first_password(full, "ada"))
        assert status == 500
        assert answer["error"]["title"] == "Internal Server Error"
        assert duration_s < SOON_S
        admin = secrets(full)["admin_password"]
        status, _, duration_s = login(full, "admin", admin, "Default", "admin")
        assert status == 201
        assert duration_s < SOON_S
        told = users(full, "list")
        assert told["status"] == ExitCode.CONNECT
        assert "the directory node does not answer" in told["error"]["message"]
        assert "solostack up" in told["error"]["hint"]
    finally:
        host.run(("systemctl", "start", unit), timeout_s=180)
    end_s = time.monotonic() + BACK_S
    while login(full, "ada", first_password(full, "ada"))[0] != 201:
        assert time.monotonic() < end_s
        time.sleep(2)
