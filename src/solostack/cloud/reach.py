"""Whether an address is reached from a machine: ping, and TCP port 80. Asked in one command.

Where the packets start is the executor's business: the physical host, or the operator's machine.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json

from solostack.doors.process import Executor

HTTP_PORT = 80
GRACE_S = 30.0

# Prints one JSON object. Tries until the address has answered as wanted or the time is over: with
# a page wanted that is a ping and this page; without, a ping or any word of TCP (a refusal too).
# Plain sockets, so that no proxy of the environment gets in between.
_REACH = """
import http.client, json, socket, subprocess, sys, time
address, page, limit = json.loads(sys.argv[1])
start, told = time.monotonic(), {"ping": False, "tcp": "no answer", "page": ""}
quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
def ping():
    command = ["ping", "-n", "-q", "-c", "1", "-W", "1", address]
    return subprocess.run(command, **quiet).returncode == 0
def ask():
    told["tcp"] = "no answer"
    try:
        link = http.client.HTTPConnection(address, 80, timeout=2)
        link.connect()
        told["tcp"] = "open, no page"
        link.request("GET", "/")
        told["page"] = link.getresponse().read(200).decode("utf-8", "replace").strip()
        told["tcp"] = "open"
    except ConnectionRefusedError:
        told["tcp"] = "refused"
    except TimeoutError:
        pass
    except (OSError, http.client.HTTPException) as error:
        if told["tcp"] == "no answer":
            told["tcp"] = str(error) or type(error).__name__
while True:
    told["ping"] = told["ping"] or ping()
    if told["ping"] or not page:
        ask()
    if page:
        done = told["ping"] and told["page"].startswith(page)
    else:
        done = told["ping"] or told["tcp"].split(",")[0] in ("open", "refused")
    if done or time.monotonic() - start >= limit:
        break
    time.sleep(0.3)
print(json.dumps({**told, "done": done, "seconds": round(time.monotonic() - start, 3)}))
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What came back. tcp is open, refused, or what else came of it; page what port 80 serves."""

    done: bool
    ping: bool
    tcp: str
    page: str
    seconds: float

    @property
    def text(self) -> str:
        """What came back, in words."""
        shown = f"TCP {HTTP_PORT} {self.tcp}" + (f' "{self.page}"' if self.page else "")
        return f"ping {'answered' if self.ping else 'without answer'}, {shown}"


def probe_reach(
    executor: Executor, address: ipaddress.IPv4Address, *, page: str = "", limit_s: float
) -> Reach:
    """Try an address for up to limit_s until it answers.

    With page, the beginning of the page it must serve, ping and HTTP are both needed: another
    instance that answers in its place is no proof. Raises what the executor raises.
    """
    request = json.dumps([str(address), page, limit_s])
    done = executor.run(
        ("python3", "-I", "-", request), stdin=_REACH.encode(), timeout_s=limit_s + GRACE_S
    )
    return Reach(**json.loads(done.text))
