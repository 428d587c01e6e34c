"""Why an instance does not answer: what its host and the switch say, for a test that failed."""

from __future__ import annotations

from solostack.doors.process import Executor
from tests.cloud.conftest import Operator

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
journalctl -q -n 60 -u nova-compute -u neutron-ovn-metadata-agent -u solostack-ports
"""
_SOUTHBOUND = "ovn-sbctl --format=table --columns=logical_port,up,chassis,mac list Port_Binding"


def why_silent(cloud: Operator, server: str) -> str:
    """Return all that is known of an instance, by its name; never fails."""
    asked: tuple[tuple[Executor, str], ...] = (
        (cloud.lab.host_executor("phys1"), _HOST),
        (cloud.node("controller"), _SOUTHBOUND),
    )
    told = []
    for executor, script in asked:
        done = executor.run(("sh", "-s", "--", server), stdin=script.encode(), check=False)
        told.append(done.text + done.stderr.decode("utf-8", "replace"))
    return "\n".join(told)
