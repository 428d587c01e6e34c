"""The probes from outside against real sockets, in a network namespace of the test's own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from solostack.cloud import probes
from solostack.cloud.probes import Vantage
from solostack.doors.clock import SystemClock
from solostack.doors.process import LocalExecutor, PrefixExecutor

pytestmark = pytest.mark.host

ADDRESS = ipaddress.IPv4Address("198.51.100.0")
SILENT = ipaddress.IPv4Address("198.51.100.9")
BLOCKED, CLOSED = 8080, 8081
SET_UP = f"""
ip link set lo up
ip address add {ADDRESS}/32 dev lo
nft add table inet t
nft add chain inet t in '{{ type filter hook input priority 0; }}'
nft add rule inet t in tcp dport {BLOCKED} drop
ip route add blackhole {SILENT}
"""


@pytest.fixture(scope="module")
def vantage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vantage]:
    name = f"solostack-probes-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    local = LocalExecutor()
    with contextlib.ExitStack() as stack:
        local.run(("ip", "netns", "add", name))
        stack.callback(local.run, ("ip", "netns", "delete", name))
        executor = PrefixExecutor(local, inside, name)
        executor.run(("sh", "-e"), stdin=SET_UP.encode())
        pages = tmp_path_factory.mktemp("pages")
        (pages / "index.html").write_text("solostack one i-0000002a\n")
        for port in (80, BLOCKED):
            stack.enter_context(server(inside, pages, port))
        yield Vantage(executor=executor, clock=SystemClock())


@contextlib.contextmanager
def server(inside: tuple[str, ...], pages: Path, port: int) -> Iterator[None]:
    command = (*inside, "python3", "-m", "http.server", "-d", str(pages), str(port))
    with (pages / f"{port}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        listening = (*inside, "ss", "-Hltn", f"sport = :{port}")
        end_s = time.monotonic() + 20
        while not subprocess.run(listening, check=True, capture_output=True).stdout:
            assert time.monotonic() < end_s
            time.sleep(0.1)
        yield
        process.terminate()
        process.wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PING_TIMEOUT_S", 0.0)
    monkeypatch.setattr(probes, "HTTP_TIMEOUT_S", 0.0)
    monkeypatch.setattr(probes, "CLOSED_TIMEOUT_S", 1)


def test_an_address_that_answers(vantage: Vantage) -> None:
    result = probes.probe_ping(vantage, ADDRESS)
    assert result.ok, result.detail
    assert result.detail.startswith("rtt")
    assert result.name == "ping 198.51.100.0"


@pytest.mark.usefixtures("impatient")
def test_an_address_that_does_not_answer(vantage: Vantage) -> None:
    result = probes.probe_ping(vantage, SILENT)
    assert not result.ok
    assert result.detail
    assert "tcpdump" in result.hint


def test_the_page_of_the_test_image(vantage: Vantage, monkeypatch: pytest.MonkeyPatch) -> None:
    # The operator's proxy must not get in between.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    result = probes.probe_http(vantage, ADDRESS)
    assert result.ok
    assert result.detail == "200 solostack one i-0000002a"


@pytest.mark.usefixtures("impatient")
def test_a_web_server_that_is_not_there(vantage: Vantage) -> None:
    result = probes.probe_http(vantage, SILENT)
    assert not result.ok
    assert result.hint == probes.HTTP.hint


@pytest.mark.usefixtures("impatient")
def test_only_silence_is_blocked(vantage: Vantage) -> None:
    assert probes.probe_closed(vantage, ADDRESS, BLOCKED).ok
    refused = probes.probe_closed(vantage, ADDRESS, CLOSED)
    assert not refused.ok
    assert refused.detail == "the connection is refused"
    opened = probes.probe_closed(vantage, ADDRESS, 80)
    assert not opened.ok
    assert opened.detail == "the connection is open"
