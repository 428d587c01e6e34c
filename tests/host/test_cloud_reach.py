"""An address is tried with real ping and real sockets, in a network namespace of the test's own."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from solostack.cloud.reach import probe_reach
from solostack.doors.process import Executor, LocalExecutor, PrefixExecutor

pytestmark = pytest.mark.host

GOOD, SHY, REFUSING, SILENT, MUTE = (
    ipaddress.IPv4Address(f"198.51.100.{number}") for number in (1, 2, 3, 4, 5)
)
SET_UP = f"""
ip link set lo up
for address in {GOOD} {SHY} {REFUSING} {MUTE}; do ip address add $address/32 dev lo; done
nft add table inet t
nft add chain inet t in '{{ type filter hook input priority 0; }}'
nft add rule inet t in ip daddr {SHY} meta l4proto icmp drop
nft add rule inet t in ip daddr {MUTE} tcp dport 80 drop
ip route add blackhole {SILENT}
"""
SERVER = """
import http.server, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"solostack verify-addresses i-0000002a\\n")
    def log_message(self, *_):
        pass
servers = [http.server.HTTPServer((address, 80), Page) for address in sys.argv[1:]]
import threading
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
"""
PAGE = "solostack verify-addresses "


@pytest.fixture(scope="module")
def machine() -> Iterator[Executor]:
    name = f"solostack-reach-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    local = LocalExecutor()
    with contextlib.ExitStack() as stack:
        local.run(("ip", "netns", "add", name))
        stack.callback(local.run, ("ip", "netns", "delete", name))
        executor = PrefixExecutor(local, inside, name)
        executor.run(("sh", "-e"), stdin=SET_UP.encode())
        addresses = [str(address) for address in (GOOD, SHY, MUTE)]
        process = subprocess.Popen((*inside, sys.executable, "-c", SERVER, *addresses))
        stack.callback(process.wait)
        stack.callback(process.terminate)
        end_s = time.monotonic() + 20
        while len(executor.run(("ss", "-Hltn")).text.splitlines()) < len(addresses):
            assert time.monotonic() < end_s
            time.sleep(0.1)
        yield executor


def test_ping_and_the_right_page(machine: Executor) -> None:
    reach = probe_reach(machine, GOOD, page=PAGE, limit_s=10)
    assert reach.done
    assert reach.text == 'ping answered, TCP 80 open "solostack verify-addresses i-0000002a"'
    assert reach.seconds < 5


def test_another_instance_that_answers_in_its_place_is_no_proof(machine: Executor) -> None:
    reach = probe_reach(machine, GOOD, page="solostack other ", limit_s=1)
    assert not reach.done
    assert reach.ping


def test_a_test_instance_must_answer_pings_and_http(machine: Executor) -> None:
    assert not probe_reach(machine, SHY, page=PAGE, limit_s=1).done
    mute = probe_reach(machine, MUTE, page=PAGE, limit_s=1)
    assert not mute.done
    assert mute.text == "ping answered, TCP 80 no answer"


@pytest.mark.parametrize(
    ("address", "tcp"), [(GOOD, "open"), (SHY, "open"), (REFUSING, "refused"), (MUTE, "no answer")]
)
def test_anything_that_comes_back_shows_that_a_held_address_works(
    machine: Executor, address: ipaddress.IPv4Address, tcp: str
) -> None:
    reach = probe_reach(machine, address, limit_s=5)
    assert reach.done
    assert reach.tcp == tcp


def test_silence_is_told_when_the_time_is_over(machine: Executor) -> None:
    reach = probe_reach(machine, SILENT, limit_s=1)
    assert not reach.done
    assert not reach.ping
    assert reach.page == ""
