"""A host and its provider as two network namespaces, with the guard installed and watched.

The guard is what guard_operations() installs, in a folder of the test; a loop plays systemd's part
and starts the watcher again whatever ends it. Namespaces and processes go with the box.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from solostack.engine.operations import File
from solostack.host import guard

NIC = "nic0"
MAC = "52:54:00:00:00:01"
HOST = "203.0.113.2"
CLIENT = "198.51.100.200"
PORT = 2222
CONNECTION = f"{CLIENT} 40000 {HOST} 22"
SETTINGS = r"^net\.(ipv[46]\.(conf|neigh\..*proxy_delay|ip_forward)|bridge)"
# ``sh`` lines for the host's namespace and the provider's. In the first the host is alone in a /32
# and its gateway outside of it, as on rented servers; in the second both are in one /24.
LONELY = (
    f"ip address add {HOST}/32 dev {NIC}; ip route add default via 192.0.2.1 dev {NIC} onlink",
    f"ip address add 192.0.2.1/32 dev wire; ip route add {HOST}/32 dev wire src {CLIENT}",
)
SHARED = (
    f"ip address add {HOST}/24 dev {NIC}; ip route add default via 203.0.113.1 dev {NIC}",
    f"ip address add 203.0.113.1/24 dev wire; ip route add {HOST}/32 dev wire src {CLIENT}",
)
# A host that lives: rules of its own, a second table, a neighbour proxy, settings.
OWN = f"""sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.{NIC}.rp_filter=2
ip link add br0 type bridge; ip address add 10.99.0.1/24 dev br0; ip link set br0 up
ip neigh add proxy 198.51.100.7 dev {NIC}
ip route add blackhole 198.51.100.0/28 metric 4000
ip route add 10.5.0.0/16 via 10.99.0.9 dev br0 table 77; ip rule add from 10.5.0.0/16 lookup 77
nft -f - <<'END'
table inet own {{
    set seen {{ type ipv4_addr; flags dynamic,timeout; timeout 1h; }}
    chain input {{
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname {{ "lo", "br0" }} accept
        tcp dport {{ 22, {PORT} }} counter add @seen {{ ip saddr }} accept
        meta l4proto {{ icmp, ipv6-icmp }} accept
    }}
}}
table arp own {{
    chain input {{
        type filter hook input priority filter; policy accept;
        arp operation request arp daddr ip 10.99.0.1 counter drop
    }}
}}
END
"""
# The provider lets only the NIC's own MAC through, as many do.
FILTER = f"""nft -f - <<'END'
table netdev provider {{
    chain ports {{
        type filter hook ingress device "wire" priority -500; policy accept;
        ether saddr != {MAC} drop
    }}
}}
END
"""
SERVER = f"""
import socket
server = socket.create_server(("0.0.0.0", {PORT}))
while True:
    server.accept()[0].close()
"""


class GuardBox:
    """One host with its provider; use as a context manager."""

    def __init__(self, folder: Path, shape: tuple[str, str]) -> None:
        self.folder = folder
        self.files = folder / "files"
        self._shape = shape
        name = f"guard-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._host, self._provider = f"{name}-h", f"{name}-p"
        self._server: subprocess.Popen[bytes] | None = None
        self.watcher: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep_watching, daemon=True)
        self._boot = folder / "boot_id"

    def __enter__(self) -> GuardBox:
        self._install()
        try:
            for name in (self._host, self._provider):
                subprocess.run(["ip", "netns", "add", name], check=True)
            # Looking for duplicates of IPv6 addresses would cost each box two seconds.
            self.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
            subprocess.run(
                ["ip", "-n", self._host, "link", "add", NIC, "address", MAC,
                 "type", "veth", "peer", "name", "wire", "netns", self._provider],
                check=True,
            )  # fmt: skip
            own, theirs = self._shape
            self.sh(f"ip link set lo up; ip link set {NIC} up; {own}\n{OWN}")
            self._sh(
                self._provider,
                f"ip link set lo up; ip address add {CLIENT}/32 dev lo; ip link set wire up\n"
                f"sysctl -qw net.ipv4.ip_forward=1; {theirs}\n{FILTER}",
            )
            self._server = subprocess.Popen(self._inside(self._host, sys.executable, "-c", SERVER))
            self.wait_reached(10)
            # Duplicate address detection of IPv6 is over, nothing moves any more.
            self._wait_settled()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # With nothing armed the watcher, and whoever just starts one, ends by itself.
        (self.folder / "state" / "armed.json").unlink(missing_ok=True)
        if self._keeper.is_alive():
            self._keeper.join(timeout=10)
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        for name in (self._host, self._provider):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def sh(self, script: str) -> str:
        """Run a script in the host's namespace."""
        return self._sh(self._host, script)

    def provider_sh(self, script: str) -> str:
        """Run a script in the provider's namespace."""
        return self._sh(self._provider, script)

    def guard(
        self, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Run a command of the guard on the host and return its answer."""
        done = subprocess.run(
            self._command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        assert done.returncode in {0, 3}, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 3) is ("refused" in answer)
        return answer

    def arm(self, timeout_s: float, *files: Path, identity: str = "one") -> dict[str, Any]:
        """Arm the guard, then let "systemd" start the watcher."""
        request = json.dumps({"what": "a test", "files": [str(path) for path in files]})
        answer = self.guard(
            "arm", identity, "--timeout", str(timeout_s), "--nic", NIC, stdin=request
        )
        if not self._keeper.is_alive() and "refused" not in answer:
            self._keeper.start()
        return answer

    def applied(self, identity: str = "one") -> dict[str, Any]:
        """Note that the change is made."""
        return self.guard("applied", identity)

    def confirm(
        self, *, connection: str = CONNECTION, wait_s: float = 0, identity: str = "one"
    ) -> subprocess.Popen[str]:
        """Confirm from below a process called sshd-session, which begins wait_s before."""
        session = self.folder / "sshd-session"
        session.write_text('#!/bin/sh\nsleep "$1"; shift; "$@"\n')
        session.chmod(0o755)
        return subprocess.Popen(
            [str(session), str(wait_s), *self._command("confirm", identity)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SSH_CONNECTION": connection},
        )

    def kill_watcher(self) -> None:
        """End the watcher with SIGKILL, as soon as there is one."""
        end = time.monotonic() + 10
        while self.watcher is None:
            assert time.monotonic() < end, "no watcher was started"
            time.sleep(0.05)
        self.watcher.kill()

    def wait_ended(self, limit_s: float = 30) -> dict[str, Any]:
        """Wait until nothing is armed and return how it ended."""
        end = time.monotonic() + limit_s
        while (self.folder / "state" / "armed.json").exists():
            assert time.monotonic() < end, "still armed"
            time.sleep(0.05)
        last: dict[str, Any] = json.loads((self.folder / "state" / "last.json").read_text())
        return last

    def reached(self, limit_s: float = 1) -> bool:
        """Whether a TCP connection from beyond the provider comes about."""
        knock = f"exec 3<>/dev/tcp/{HOST}/{PORT}"
        argv = self._inside(self._provider, "timeout", str(limit_s), "bash", "-c", knock)
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0

    def wait_reached(self, limit_s: float) -> None:
        """Wait until the host is reached from beyond the provider."""
        end = time.monotonic() + limit_s
        while not self.reached():
            assert time.monotonic() < end, "the host is not reached"
            time.sleep(0.1)

    def state(self) -> dict[str, list[str]]:
        """Everything that counts, as Debian's tools print it; carrier and lifetimes left out."""
        script = f"""
            ip -o -d link | sed -e 's/ state [A-Z]*//' -e 's/qlen.*ether/ether/'
            echo ---; ip -o address | sed 's/ valid_lft.*//;s/ tentative//'
            echo ---; for f in 4 6; do ip -$f route show table all | sort; done
            echo ---; for f in 4 6; do ip -$f rule; done
            echo ---; ip neigh show proxy; ip neigh show nud permanent
            echo ---; nft -s list ruleset | grep -v elements
            echo ---; sysctl -a --pattern '{SETTINGS}' 2>/dev/null | grep -v stable_secret
        """
        parts = self.sh(script).split("---\n")
        names = ("links", "addresses", "routes", "rules", "neighbours", "nftables", "sysctls")
        lines = [
            [" ".join(line.replace("linkdown", "").split()) for line in part.splitlines()]
            for part in parts
        ]
        lines[5] = sorted(parts[5].strip().replace("}\ntable", "}\0table").split("\0"))
        lines[0] = [_link(line) for line in lines[0]]
        lines[1] = sorted(lines[1]) if "inet6" in parts[1] else lines[1]
        return dict(zip(names, lines, strict=True))

    def wait_state(self, wanted: dict[str, list[str]], limit_s: float = 6) -> dict[str, list[str]]:
        """Return the state; IPv6 looks for duplicates for a moment after an address came back."""
        end = time.monotonic() + limit_s
        while (state := self.state()) != wanted and time.monotonic() < end:
            time.sleep(0.3)
        return state

    def reboot(self) -> None:
        """Let this be another boot, as far as the guard can tell."""
        self._boot.write_text(uuid.uuid4().hex)

    def _wait_settled(self) -> None:
        end = time.monotonic() + 10
        while "tentative" in self.sh("ip address") and time.monotonic() < end:
            time.sleep(0.1)

    def _install(self) -> None:
        self.files.mkdir(parents=True)
        self.reboot()
        for operation in guard.guard_operations():
            if isinstance(operation, File) and operation.path.startswith(guard.FOLDER):
                path = self.folder / "lib" / operation.path.removeprefix(f"{guard.FOLDER}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(operation.content.replace(guard.FOLDER, str(self.folder / "lib")))
                path.chmod(operation.mode)

    def _command(self, *arguments: str) -> list[str]:
        return self._inside(
            self._host,
            str(self.folder / "lib" / "guard"),
            *("--folder", str(self.folder / "state"), "--no-units"),
            *("--boot-id-path", str(self._boot)),
            *arguments,
        )

    def _keep_watching(self) -> None:
        while not self._ended.is_set():
            if (self.folder / "state" / "armed.json").exists():
                subprocess.run(self._command("boot"), check=False, capture_output=True)
                with (self.folder / "watch.log").open("ab") as log:
                    self.watcher = subprocess.Popen(self._command("watch"), stdout=log, stderr=log)
                self.watcher.wait()
            self._ended.wait(0.05)

    def _sh(self, namespace: str, script: str) -> str:
        done = subprocess.run(
            self._inside(namespace, "sh", "-eu"), input=script, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    @staticmethod
    def _inside(namespace: str, *argv: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{namespace}", "--", *argv]


def _link(line: str) -> str:
    """Name, flags that are set by hand, MTU, master and MAC of a line of ``ip -o -d link``."""
    words = line.split()
    flags = set(words[2].strip("<>").split(",")) & {"UP", "NOARP", "MULTICAST"}
    kept = [words[words.index(key) + 1] for key in ("mtu", "master", "link/ether") if key in words]
    return " ".join([words[1], *sorted(flags), *kept])
