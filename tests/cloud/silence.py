"""Why an instance is not reached, or reaches nothing: what hosts and switches say of it.

For a test that failed; some ask while it is failing, as what failed may be gone after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from solostack.doors.process import Executor
from solostack.errors import SolostackError
from tests.cloud.conftest import UP_TIMEOUT_S, Operator

# On the host. Registers twice: a guest whose processor runs but goes nowhere hangs.
_HOST = r"""
name=$1
file=$(grep -l "<nova:name>$name</nova:name>" /etc/libvirt/qemu/instance-*.xml | tail -n 1)
domain=$(basename "$file" .xml)
virsh() { command virsh -q -c qemu:///system "$@"; }
echo "== domain $domain: $(virsh domstate --reason "$domain")"
virsh domstats --vcpu --interface --balloon "$domain"
for round in 1 2 3; do
    virsh qemu-monitor-command --hmp "$domain" info registers | grep -E "^(RIP|EIP)"
    sleep 1
done
virsh qemu-monitor-command --hmp "$domain" info irq | tail -n 20
echo "== console"
tail -c 6000 "$(grep -o "/var/lib/nova/instances/[^']*/console.log" "$file" | head -n 1)"
tap=$(grep -o "target dev='tap[^']*" "$file" | cut -d"'" -f2)
echo "== tap $tap"
ip -s link show "$tap"
ovs-vsctl list Interface "$tap"
ovs-vsctl --columns=name,error --format=table list Interface
echo "== flows for it"
port=$(ovs-vsctl get Interface "$tap" ofport)
ovs-ofctl dump-flows br-int "in_port=$port"
echo "== logs"
tail -n 40 /var/log/openvswitch/ovs-vswitchd.log /var/log/ovn/ovn-controller.log
tail -n 30 "/var/log/libvirt/qemu/$domain.log"
journalctl -q -n 60 -u nova-compute -u neutron-ovn-metadata-agent -u solostack-ports \
    -u solostack-guests
"""
_SOUTHBOUND = "ovn-sbctl --format=table --columns=logical_port,up,chassis,mac list Port_Binding"
# What the way from outside passes before it comes to the host's switch.
_WAY = r"""
echo "== way into the cloud, on the host"
ip -4 route; ip -4 neigh
virsh -q -c qemu:///system domstats --vcpu network
console=/var/log/libvirt/qemu/network-console.log
[ ! -e $console ] || tail -n 5 $console
[ ! -e $console ] || grep -q "login:" $console || echo "@NO_LOGIN@"
ovs-appctl tnl/ports/show -v; ovs-appctl tnl/neigh/show; ovs-appctl ovs/route/show
ovs-appctl dpctl/dump-flows netdev@ovs-netdev
"""
NO_LOGIN = "== the network node's VM came to no login prompt"
_GATEWAY = r"""
echo "== network node"
ip -s -o link; ovs-vsctl show
tail -n 20 /var/log/ovn/ovn-controller.log
ovs-ofctl dump-flows br-int table=0; ovs-ofctl dump-flows br-ex
systemctl --failed --no-legend; systemd-analyze; systemctl is-system-running; uptime
"""
# A new router finds its gateway by ARP: who resolved what, and what was asked for by which chassis.
_ROUTERS = r"""
ovn-sbctl --format=table --columns=logical_port,type,chassis,up,datapath list Port_Binding
ovn-sbctl --format=table list MAC_Binding
"""
_SWITCH = r"""
date +%T
tail -n 30 /var/log/ovn/ovn-controller.log
ovn-appctl -t ovn-controller connection-status
ovs-ofctl dump-flows br-int | grep controller | grep -v "n_packets=0,"
ovs-appctl tnl/neigh/show; ovs-appctl ovs/route/show; ip -4 neigh
ovs-appctl dpctl/dump-flows netdev@ovs-netdev
ovs-appctl coverage/show | grep -E "drop|error|packet_in|packet_out"
"""
# Verify takes one minute; instances whose router finds no way out keep it for two more.
_SLOW_VERIFY_S = 90.0


def why_silent(cloud: Operator, server: str) -> str:
    """Return all that is known of an instance, by its name; never fails."""
    return _ask(
        server,
        (lambda: cloud.lab.host_executor("phys1"), _HOST),
        (lambda: cloud.lab.host_executor("phys1"), _WAY.replace("@NO_LOGIN@", NO_LOGIN)),
        (lambda: cloud.node("controller"), _SOUTHBOUND),
        (lambda: cloud.node("network"), _GATEWAY),
    )


def why_no_way_out(cloud: Operator) -> str:
    """Return what all know of routers and their neighbours; never fails."""
    return _ask(
        "",
        (lambda: cloud.node("controller"), _ROUTERS),
        (lambda: cloud.lab.host_executor("phys1"), _SWITCH),
        (lambda: cloud.node("network"), _SWITCH),
    )


def verify_while_looking(cloud: Operator) -> None:
    """Verify, and note what the switches know when it takes long: its router is gone afterwards."""
    told: list[str] = []
    look = threading.Timer(_SLOW_VERIFY_S, lambda: told.append(why_no_way_out(cloud)))
    look.start()
    try:
        done = cloud.run(*cloud.command("verify", "--json"), timeout_s=UP_TIMEOUT_S)
    finally:
        look.cancel()
        look.join()
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *told])


def _ask(argument: str, *asked: tuple[Callable[[], Executor], str]) -> str:
    told = []
    for executor, script in asked:
        try:
            done = executor().run(
                ("sh", "-s", "--", argument), stdin=script.encode(), check=False, timeout_s=60
            )
        except (SolostackError, OSError) as error:
            told.append(f"== not asked: {error}")
        else:
            told.append(done.text + done.stderr.decode("utf-8", "replace"))
    return "\n".join(told)
