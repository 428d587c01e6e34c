"""What every control node is before it is anything else: name, network, login, logs."""

from __future__ import annotations

from solostack.engine.operations import Directory, File, Operation, Step, Unit
from solostack.openstack.ini import BANNER
from solostack.openstack.logs import journal_only
from solostack.plan.model import Interface, NodePlan, Plan
from solostack.site.model import Runtime

PACKAGES = ("chrony", "openssh-server")
MANAGER = "/etc/systemd/system.conf.d/solostack.conf"
UNITS = ("chrony.service",)
NETWORK = "/etc/systemd/network"
JOURNALD = "/etc/systemd/journald.conf.d/solostack.conf"
SSHD = "/etc/ssh/sshd_config.d/solostack.conf"
WAIT_ONLINE = "/etc/systemd/system/systemd-networkd-wait-online.service.d/solostack.conf"
UNWANTED_TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")
TUNNEL_BRIDGE = "br-phy"


def base_operations(plan: Plan, node: NodePlan, *, authorized_key: str) -> tuple[Operation, ...]:
    """Return the base of a node. authorized_key is one line of authorized_keys (sshd(8))."""
    return (
        *_names(plan, node),
        *_network(plan, node),
        *_login(plan, authorized_key),
        *_housekeeping(),
        *_manager(),
        *(_clock() if node.runtime is Runtime.VM and plan.host(node.host).kvm else ()),
    )


def _manager() -> tuple[Operation, ...]:
    # Python services of few threads: one malloc arena each and early trimming save about 5 %
    # (mallopt(3)). Services started before take it at their next start.
    return (
        File(
            path=MANAGER,
            content="[Manager]\n"
            "DefaultEnvironment=MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=65536\n",
        ),
        Step(name="manager settings", run="systemctl daemon-reexec\n", when_changed=(MANAGER,)),
    )


def _clock() -> tuple[Operation, ...]:
    """Return what keeps a VM's clock at its host's, without any server (ptp_kvm, chrony.conf(5)).

    A container has its host's clock. Only enabled here: a seed is a container too.
    """
    return (
        File(path="/etc/modules-load.d/solostack.conf", content="ptp_kvm\n"),
        File(
            path="/etc/chrony/conf.d/solostack.conf",
            content="refclock PHC /dev/ptp_kvm poll 3 dpoll -2\nmakestep 1 3\n",
        ),
        File(
            path="/etc/systemd/system/chrony.service.d/solostack.conf",
            content="[Unit]\nConditionVirtualization=vm\nAfter=systemd-modules-load.service\n"
            "[Service]\nRestart=on-failure\nRestartSec=5\n",
        ),
        Step(
            name="clock",
            run="systemctl -q enable chrony.service\n",
            unless="systemctl -q is-enabled chrony.service\n",
        ),
    )


def _names(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    return (
        File(path="/etc/hostname", content=f"{node.name}\n"),
        File(path="/etc/hosts", content=render_hosts(plan)),
        Step(
            name="host name",
            run=f"hostname {node.name}\n",
            unless=f'read -r name </proc/sys/kernel/hostname && [ "$name" = {node.name} ]\n',
        ),
        Step(
            name="time zone",
            run="ln -sfn /usr/share/zoneinfo/Etc/UTC /etc/localtime\n",
            unless="[ /etc/localtime -ef /usr/share/zoneinfo/Etc/UTC ]\n",
        ),
    )


def _network(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    files = [File(path="/etc/resolv.conf", content=render_resolv_conf(plan))]
    for card in node.interfaces:
        files.append(File(path=f"{NETWORK}/10-{card.name}.link", content=render_link(card)))
        files.append(
            File(path=f"{NETWORK}/20-{card.name}.network", content=render_network(plan, node, card))
        )
    if not node.kernel_datapath and len(node.interfaces) > 1:
        bridge = render_tunnel_bridge(plan, node.interfaces[0])
        files.append(File(path=f"{NETWORK}/30-{TUNNEL_BRIDGE}.network", content=bridge))
    files.append(File(path=WAIT_ONLINE, content=render_wait_online()))
    paths = tuple(file.path for file in files if file.path.startswith(NETWORK))
    return (*files, Unit(name="systemd-networkd.service", restart_on=paths))


def _login(plan: Plan, authorized_key: str) -> tuple[Operation, ...]:
    # sshd since 9.8 refuses addresses that connected too often without a login (sshd_config(5)):
    # the host, which asks whether the node is ready, must not lock its operator out by that.
    return (
        Directory(path="/root/.ssh", mode=0o700),
        File(path="/root/.ssh/authorized_keys", content=authorized_key.strip() + "\n", mode=0o600),
        File(
            path=SSHD,
            content="PasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
            f"PerSourcePenaltyExemptList {plan.data.network}\n",
        ),
        Unit(name="ssh.service", restart_on=(SSHD,), reload=True),
    )


def _housekeeping() -> tuple[Operation, ...]:
    return (
        File(
            path=JOURNALD,
            content="[Journal]\nStorage=persistent\nSystemMaxUse=200M\nSystemMaxFileSize=25M\n",
        ),
        Unit(name="systemd-journald.service", enabled=None, restart_on=(JOURNALD,)),
        journal_only(),
        *(Unit(name=name, enabled=False, running=False) for name in UNWANTED_TIMERS),
    )


def render_hosts(plan: Plan) -> str:
    """Render /etc/hosts with every node and host: Nova and OVN compare host names."""
    rows = [("127.0.0.1", "localhost")]
    rows += [(str(node.data_address), node.name) for node in plan.nodes]
    rows += [(str(host.data_address.ip), host.name) for host in plan.hosts]
    return BANNER + "".join(f"{address}\t{name}\n" for address, name in rows)


def render_resolv_conf(plan: Plan) -> str:
    """Render /etc/resolv.conf; without a way out there is no name server to ask."""
    servers = plan.demo.dns if plan.egress and plan.demo is not None else ()
    return BANNER + "".join(f"nameserver {server}\n" for server in servers)


def render_link(card: Interface) -> str:
    """Render the systemd.link file that gives a virtual machine's card its name (udev)."""
    return f"[Match]\nMACAddress={card.mac}\n\n[Link]\nName={card.name}\n"


def render_network(plan: Plan, node: NodePlan, card: Interface) -> str:
    """Render a card's systemd.network file: its address, or just up (for a bridge of OVN's)."""
    bridged = not node.kernel_datapath and len(node.interfaces) > 1
    match = f"[Match]\nMACAddress={card.mac}\nName={card.name}\n"
    if card.address is None or bridged:
        return f"{match}\n[Link]\nMTUBytes={card.mtu}\nRequiredForOnline=no\n\n{_NO_ADDRESS}"
    return f"{match}\n[Link]\nMTUBytes={card.mtu}\n\n{_addressed(plan, card)}"


def render_tunnel_bridge(plan: Plan, card: Interface) -> str:
    """Render the network file of the userspace datapath's bridge, which has the card's address."""
    return f"[Match]\nName={TUNNEL_BRIDGE}\n\n[Link]\nMTUBytes={card.mtu}\n\n" + _addressed(
        plan, card
    )


_NO_ADDRESS = "[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n"


def _addressed(plan: Plan, card: Interface) -> str:
    # ConfigureWithoutCarrier: services listen on the address while the other end is still down.
    lines = [f"[Network]\nAddress={card.address}"]
    # Answers through the front door leave by the host, which alone decides what else may.
    if (plan.egress or plan.front_door is not None) and card.gateway is not None:
        lines.append(f"Gateway={card.gateway}")
    lines += ["LinkLocalAddressing=no", "IPv6AcceptRA=no", "LLDP=no", "ConfigureWithoutCarrier=yes"]
    return "\n".join(lines) + "\n"


def render_wait_online() -> str:
    """Render the wait for the network: any card will do, and nothing waits longer than 20 s."""
    return """\
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any --timeout=20
"""
