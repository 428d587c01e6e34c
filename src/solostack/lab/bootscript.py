"""The script that stands for a host's power supply and cable, as text.

It runs outside of the host for as long as the host is on. A new network namespace for every boot is
what makes a reboot lose bridges, addresses and firewall rules as a real one does.
"""

from __future__ import annotations

import shlex

from solostack.lab.spec import NIC, LabHost, LabSpec, host_namespace, upstream_namespace
from solostack.lab.state import HostState

REBOOT_STATUS = 133
CACHE_IN_HOST = "/root/.cache/solostack"
DEVICES = ("net/tun", "kvm", "fuse", "vhost-net", "loop-control")
LOOPS = tuple(f"loop{number}" for number in range(8))

_SCRIPT = """\
#!/bin/sh
# The power supply of {host}, a simulated host of lab {lab}. It boots the host again after
# every reboot and ends when the host is powered off.
set -eu
self={self}
host={namespace}
upstream={upstream}
port={host}

# The second life of this script: in a mount namespace of its own, so that the host's root is
# mounted for the host alone and goes with it.
if [ "${{1-}}" = boot ]; then
    mount -t overlay -o {overlay} solostack-lab {root}
    set -- {nspawn}
    # Copies of the device nodes: the host changes their owners and modes when it boots.
    mount -t tmpfs -o mode=755 solostack-lab {nodes}
    for device in {devices}; do
        [ -e "/dev/$device" ] || continue
        copy={nodes}/$(basename "$device")
        cp -a "/dev/$device" "$copy"
        set -- "$@" "--bind=$copy:/dev/$device"
    done
    if [ -d /run/systemd/system ]; then
        set -- systemd-run --quiet --collect --scope --slice=machine.slice --unit="$host" \\
            --property=Delegate=yes "$@"
    fi
    # libvirt and systemd in the host want the unified hierarchy; the host may set its own
    # network sysctls, and networkd does not wait for a udev that cannot run there.
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_SECCOMP=0
    export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
    exec "$@"
fi

power_off() {{
    ip -n "$upstream" link delete "$port" 2>/dev/null || :
    ip netns delete "$host" 2>/dev/null || :
}}

power_on() {{
    power_off
    ip netns add "$host"
    ip link add {nic} address {mac} netns "$host" type veth peer name "$port" netns "$upstream"
    ip -n "$upstream" link set "$port" master lan
    if [ ! -e {unplugged} ]; then ip -n "$upstream" link set "$port" up; fi
}}

# Without systemd there is nobody who would give the host a control group of its own.
if [ ! -d /run/systemd/system ]; then
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir -p "$hierarchy/$host"
        echo $$ > "$hierarchy/$host/cgroup.procs"
    done
fi

while :; do
    power_on
    status=0
    unshare --mount --propagation slave sh "$self" boot || status=$?
    power_off
    # systemd-nspawn --keep-unit leaves starting again to whoever started it, by this status.
    [ "$status" = {reboot} ] || exit "$status"
done
"""


def render_boot_script(spec: LabSpec, host: LabHost, state: HostState) -> str:
    """Build the script that boots a host. It is run by sh, as root, without arguments."""
    overlay = f"lowerdir={host.tree},upperdir={state.upper},workdir={state.work}"
    return _SCRIPT.format(
        host=host.name,
        lab=spec.name,
        self=shlex.quote(str(state.boot_script)),
        namespace=host_namespace(spec.name, host.name),
        upstream=upstream_namespace(spec.name),
        overlay=shlex.quote(overlay),
        root=shlex.quote(str(state.root)),
        nodes=shlex.quote(str(state.nodes)),
        nspawn=_continued(_nspawn_arguments(spec, host, state)),
        devices=" ".join((*DEVICES, *LOOPS)),
        nic=NIC,
        mac=host.mac,
        unplugged=shlex.quote(str(state.unplugged)),
        reboot=REBOOT_STATUS,
    )


def _nspawn_arguments(spec: LabSpec, host: LabHost, state: HostState) -> tuple[str, ...]:
    namespace = host_namespace(spec.name, host.name)
    return (
        "systemd-nspawn",
        "--quiet",
        f"--directory={state.root}",
        f"--machine={namespace}",
        f"--hostname={host.name}",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--network-namespace-path=/run/netns/{namespace}",
        "--capability=all",
        "--property=DeviceAllow=char-* rwm",
        "--property=DeviceAllow=block-* rwm",
        "--console=read-only",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        f"--bind={state.var}:/var",
        f"--bind={spec.cache}:{CACHE_IN_HOST}",
    )


def _continued(argv: tuple[str, ...]) -> str:
    return " \\\n        ".join(shlex.quote(argument) for argument in argv)
