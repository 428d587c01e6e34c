"""The dashboard in tests, as the operator's end of the wire has it.

``SOLOSTACK_PICTURES=FOLDER`` keeps the pictures that are taken on the way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.conftest import Operator

BROWSE = Path(__file__).with_name("browse.py")
BROWSE_TIMEOUT_S = 900
LOCAL = "Default (accounts of this cloud)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The dashboard as the operator's end of the wire has it."""

    operator: Operator
    url: str
    secrets: dict[str, str]
    pictures: Path

    def browse(self, *steps: dict[str, Any]) -> list[dict[str, Any]]:
        """Let a person with a browser do something."""
        request = {"url": self.url, "folder": str(self.pictures), "steps": steps}
        done = subprocess.run(
            self.operator.argv(sys.executable, str(BROWSE)),
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=BROWSE_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr[-3000:]}\nsee {self.pictures}/failed.png"
        told: list[dict[str, Any]] = json.loads(done.stdout)
        return told

    def on_controller(self, script: str) -> str:
        """Run a script as root on the controller."""
        done = self.operator.node("controller").run(
            ("sh", "-eu"), stdin=script.encode(), timeout_s=300
        )
        return done.text

    def api(self, method: str, path: str, token: str = "", body: Any = None) -> tuple[str, Any]:
        """Ask Keystone through the front door; return the token given out, and the answer."""
        argv = ["curl", "-sk", "-D", "-", "-X", method, f"{self.url}/identity/v3{path}", "-d", "@-"]
        argv += ["-H", "Content-Type: application/json", "-H", f"X-Auth-Token: {token}"]
        done = subprocess.run(
            self.operator.argv(*argv),
            input="" if body is None else json.dumps(body),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        head, _, text = done.stdout.replace("\r", "").rpartition("\n\n")
        assert re.match(r"HTTP/\S+ 20[0-4]", head), done.stdout
        given = re.search(r"^x-subject-token: (\S+)$", head, re.MULTILINE | re.IGNORECASE)
        return given[1] if given else "", json.loads(text) if text.strip() else None

    def admin_token(self) -> str:
        domain = {"id": "default"}
        user = {"name": "admin", "domain": domain, "password": self.secrets["admin_password"]}
        identity = {"methods": ["password"], "password": {"user": user}}
        scope = {"project": {"name": "admin", "domain": domain}}
        token, _ = self.api(
            "POST", "/auth/tokens", body={"auth": {"identity": identity, "scope": scope}}
        )
        return token


def open_dashboard(full: Operator, temporary: pytest.TempPathFactory) -> Dashboard:
    """Return the dashboard of the full site."""
    kept = os.environ.get("SOLOSTACK_PICTURES")
    found = re.search(r"^name: (\S+)", full.site.read_text(), re.MULTILINE)
    assert found is not None
    secrets = full.state_home / "solostack" / "sites" / found[1] / "secrets.json"
    return Dashboard(
        operator=full,
        url=f"https://{full.lab.spec().host('phys1').address}",
        secrets=json.loads(secrets.read_text()),
        pictures=Path(kept) if kept else temporary.mktemp("pictures"),
    )


def log_in(dashboard: Dashboard, user: str = "demo", **more: Any) -> dict[str, Any]:
    """The step of a user of this cloud's own accounts."""
    password = dashboard.secrets[f"{user}_password"]
    return {"do": "log_in", "user": user, "password": password, "domain": LOCAL, **more}
