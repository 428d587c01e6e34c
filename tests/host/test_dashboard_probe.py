"""The visit to the dashboard that `verify` makes, against a server with TLS that plays Horizon."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gzip
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from solostack.cloud.dashboard_probe import LOGIN, PAGE, STATIC, DashboardVisit, probe_dashboard
from solostack.cloud.dashboard_visit_script import Link
from solostack.cloud.probes import Vantage
from solostack.doors.clock import SystemClock
from solostack.doors.process import LocalExecutor
from solostack.engine.certificates import issue, make_authority
from solostack.plan.certificates import WantedAuthority, WantedCertificate

pytestmark = pytest.mark.host

NAME = "cloud.example.org"
PASSWORD = "right"
SHEET = "/static/dashboard/css/output.0123456789ab.css"
LOGIN_PAGE = f"""<title>
  Login - cloud</title><link href="{SHEET}">
<input name="csrfmiddlewaretoken" value="abc"><div class="help-block alert alert-danger">%s</div>"""


@dataclasses.dataclass
class Horizon:
    """How the server behaves."""

    status: int = 200
    compressed: bool = True
    cache: str = "public, max-age=31536000, immutable"
    overview: int = 200


class Handler(http.server.BaseHTTPRequestHandler):
    horizon: Horizon

    def do_GET(self) -> None:
        if self.path == SHEET:
            self.send_sheet()
        elif self.path == "/project/" and "sessionid=s1" in self.headers["Cookie"]:
            self.answer(self.horizon.overview, b"<title>Instance Overview - cloud</title>")
        elif self.path == "/auth/login/":
            self.answer(
                self.horizon.status, (LOGIN_PAGE % "").encode(), ("Set-Cookie", "csrftoken=t")
            )
        else:
            self.answer(302, b"")

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        good = "csrftoken=t" in self.headers["Cookie"] and "csrfmiddlewaretoken=abc" in form
        good = good and self.headers["Referer"] == f"https://{self.headers['Host']}/auth/login/"
        if good and f"password={PASSWORD}" in form and "username=admin" in form:
            self.answer(302, b"", ("Set-Cookie", "sessionid=s1; HttpOnly; Secure"))
        else:
            self.answer(200, (LOGIN_PAGE % "<p>Invalid\n credentials.</p>").encode())

    def send_sheet(self) -> None:
        more = [("Cache-Control", self.horizon.cache)] if self.horizon.cache else []
        if self.horizon.compressed and self.headers["Accept-Encoding"] == "gzip":
            self.answer(200, gzip.compress(b"a {}"), ("Content-Encoding", "gzip"), *more)
        else:
            self.answer(200, b"a {}", *more)

    def answer(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for key, value in (*headers, ("Content-Length", str(len(data)))):
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, horizon: Horizon) -> Iterator[DashboardVisit]:
    now = datetime.datetime.now(datetime.UTC)
    loopback = ipaddress.IPv4Address("127.0.0.1")
    authority = make_authority(WantedAuthority(title="test", dns=(NAME,), networks=()), now)
    wanted = WantedCertificate(
        name="door", title="front door", dns=(NAME,), addresses=(), used="the server below"
    )
    pem = folder / "door.pem"
    pem.write_text(issue(authority, wanted, now).text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    handler = type("OneHandler", (Handler,), {"horizon": horizon})
    with http.server.ThreadingHTTPServer((str(loopback), 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield DashboardVisit(
                url=f"https://{NAME}:{server.server_port}",
                address=loopback,
                trusted=authority.certificate,
                user="admin",
                password=PASSWORD,
                domain="Default",
            )
        finally:
            server.shutdown()
            thread.join()


def visit(folder: Path, horizon: Horizon, **changes: Any) -> dict[str, tuple[str, str]]:
    """Return each check with its outcome and what was seen."""
    with served(folder, horizon) as well:
        vantage = Vantage(executor=LocalExecutor(), clock=SystemClock())
        results = probe_dashboard(vantage, dataclasses.replace(well, **changes))
    for result in results:
        assert bool(result.hint) == (not result.ok and not result.skipped)
    outcomes = {True: "ok", False: "failed"}
    return {
        one.name: ("skipped" if one.skipped else outcomes[one.ok], one.detail) for one in results
    }


def test_all_is_well(tmp_path: Path) -> None:
    told = visit(tmp_path, Horizon())
    assert {outcome for outcome, _ in told.values()} == {"ok"}
    assert told[LOGIN.name][1] == "Instance Overview - cloud"


def test_an_error_page_ends_the_visit(tmp_path: Path) -> None:
    told = visit(tmp_path, Horizon(status=500))
    assert told[PAGE.name] == ("failed", "status 500: Login - cloud")
    assert told[STATIC.name][0] == told[LOGIN.name][0] == "skipped"


@pytest.mark.parametrize(
    ("horizon", "why"),
    [
        (Horizon(compressed=False), "is not compressed"),
        (Horizon(cache=""), "may not be kept by browsers: no rule"),
        (Horizon(cache="max-age=60"), "may not be kept by browsers: max-age=60"),
    ],
)
def test_a_static_file_as_it_should_not_be(tmp_path: Path, horizon: Horizon, why: str) -> None:
    outcome, detail = visit(tmp_path, horizon)[STATIC.name]
    assert outcome == "failed"
    assert why in detail


def test_a_refused_login_says_what_the_page_says(tmp_path: Path) -> None:
    told = visit(tmp_path, Horizon(), password="wrong")
    assert told[LOGIN.name] == ("failed", "status 200: Invalid credentials.")


def test_an_overview_that_fails(tmp_path: Path) -> None:
    told = visit(tmp_path, Horizon(overview=503))
    assert told[LOGIN.name] == ("failed", "overview: status 503: Instance Overview - cloud")


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    outcome, detail = visit(tmp_path, Horizon(), trusted="")[PAGE.name]
    assert outcome == "failed"
    assert "CERTIFICATE_VERIFY_FAILED" in detail


def test_the_doors_own_certificate_may_be_what_is_trusted(tmp_path: Path) -> None:
    with served(tmp_path, Horizon()) as well:
        pem = (tmp_path / "door.pem").read_text().partition("-----BEGIN PRIVATE")[0]
        vantage = Vantage(executor=LocalExecutor(), clock=SystemClock())
        results = probe_dashboard(vantage, dataclasses.replace(well, trusted=pem))
    assert all(result.ok for result in results), results


def test_nobody_listens(tmp_path: Path) -> None:
    told = visit(tmp_path, Horizon(), url=f"https://{NAME}:1")
    assert told[PAGE.name][0] == "failed"
    assert "refused" in told[PAGE.name][1]


def test_the_server_ends_when_the_visit_breaks(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), served(tmp_path, Horizon()):
        raise ZeroDivisionError
    left = [each for each in threading.enumerate() if each not in before]
    assert left == []


def test_a_certificate_may_be_of_an_authority_of_the_old_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.13 is strict by default, and refuses those without Authority Key Identifier."""

    def strict() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    monkeypatch.setattr(ssl, "create_default_context", strict)
    link = Link({"url": f"https://{NAME}", "address": "127.0.0.1", "limit_s": 1, "trusted": ""})
    assert not link._trust.verify_flags & ssl.VERIFY_X509_STRICT
    assert link._trust.verify_mode is ssl.CERT_REQUIRED
