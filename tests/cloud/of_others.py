"""What else may live on somebody's only server: a machine, a container engine's network, rules."""

from __future__ import annotations

from solostack.doors.process import Executor

_SCRIPT = """set -e
cat >/root/theirs.xml <<'END'
<domain type='qemu'><name>theirs</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64'>hvm</type></os></domain>
END
virsh -q -c qemu:///system define /root/theirs.xml
virsh -q -c qemu:///system start theirs
ip link add docker0 type bridge
ip address add 172.17.0.1/16 dev docker0
ip link set docker0 up
ip route add 192.168.77.0/24 dev docker0
ip rule add from 192.168.77.0/24 lookup 77 priority 7700
ip neighbour add 172.17.0.9 lladdr 02:42:ac:11:00:09 dev docker0 nud permanent
nft -f - <<'END'
table ip filter {
    chain DOCKER-USER { return
    }
    chain FORWARD { type filter hook forward priority filter; policy accept; jump DOCKER-USER
    }
}
table ip nat {
    chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
        oifname != "docker0" ip saddr 172.17.0.0/16 masquerade
    }
}
table inet theirs {
    set banned { type ipv4_addr; elements = { 192.0.2.66 }
    }
    chain input { type filter hook input priority filter; policy accept; ip saddr @banned drop
    }
}
END
sysctl -q -w net.ipv4.tcp_keepalive_time=600 net.ipv4.conf.peth0.arp_announce=1
"""


def put(console: Executor) -> None:
    """Put it there."""
    console.run(("sh",), stdin=_SCRIPT.encode(), timeout_s=60)


def check(console: Executor) -> None:
    """Assert that it still is, and runs."""
    domain = ("virsh", "-c", "qemu:///system", "domstate", "theirs")
    assert console.run(domain).text.split() == ["running"]
    assert "192.0.2.66" in console.run(("nft", "list", "table", "inet", "theirs")).text
    assert "192.168.77.0/24" in console.run(("ip", "route")).text
