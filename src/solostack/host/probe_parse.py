"""What the probe script collected, to a HostObservation; and what the script is asked for. Pure."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from solostack.host.bundle import HOST_PACKAGES
from solostack.host.kvm import GuestProbe
from solostack.host.probe_network import (
    parse_chains,
    parse_libvirt,
    parse_links,
    parse_listeners,
    parse_network_file,
    parse_routes,
)
from solostack.host.probe_observation import (
    NODES_PATH,
    FileSystem,
    HostObservation,
    Kernel,
    Machine,
    Network,
    Presence,
    Session,
    System,
    Traces,
    UnitState,
)

NEEDED_PACKAGES = tuple(sorted({*HOST_PACKAGES, "nova-compute", "ovn-host"}))
"""The host's own, and two that tell whether apt's sources have OpenStack and OVN at all."""
INSTANCES_PATH = "/var/lib/nova"
CACHE_PATH = "/root/.cache/solostack"
LEDGER_PATH = "/var/lib/solostack/ledger"
APT_LISTS_PATH = "/var/lib/apt/lists"
JOURNAL = "journal.jsonl"
NODE_FILES = "/etc/solostack/nodes/*.json"
COMPUTE_ID_PATHS = ("/var/lib/nova/compute_id", "/etc/nova/compute_id")
IPV4_CONF = "/proc/sys/net/ipv4/conf"

MIB = 1024 * 1024
# statvfs(3): f_flag.
ST_RDONLY, ST_NOSUID, ST_NODEV, ST_NOEXEC = 1, 2, 4, 8

MODULES = {
    "bridge": "CONFIG_BRIDGE",
    "br_netfilter": "CONFIG_BRIDGE_NETFILTER",
    "dm_mod": "CONFIG_BLK_DEV_DM",
    "geneve": "CONFIG_GENEVE",
    "iscsi_tcp": "CONFIG_ISCSI_TCP",
    "loop": "CONFIG_BLK_DEV_LOOP",
    "nf_tables": "CONFIG_NF_TABLES",
    "nft_chain_nat": "CONFIG_NFT_NAT",
    "nft_ct": "CONFIG_NFT_CT",
    "nft_masq": "CONFIG_NFT_MASQ",
    "openvswitch": "CONFIG_OPENVSWITCH",
    "overlay": "CONFIG_OVERLAY_FS",
    "tun": "CONFIG_TUN",
    "veth": "CONFIG_VETH",
    "vhost_net": "CONFIG_VHOST_NET",
    "vxlan": "CONFIG_VXLAN",
}
UNITS = (
    "NetworkManager.service",
    "chrony.service",
    "docker.service",
    "firewalld.service",
    "ifupdown-pre.service",
    "k3s.service",
    "kubelet.service",
    "libvirtd.service",
    "networking.service",
    "nftables.service",
    "nova-compute.service",
    "ntpsec.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "ufw.service",
    "virtqemud.service",
)
FILES = (
    "/etc/hosts",
    "/etc/nftables.conf",
    "/etc/os-release",
    "/etc/resolv.conf",
    "/etc/systemd/network/*.network",
    "/etc/ufw/ufw.conf",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/net/ip_tables_names",
    "/proc/self/mounts",
    "/proc/sys/net/bridge/bridge-nf-call-arptables",
    "/proc/sys/net/bridge/bridge-nf-call-ip6tables",
    "/proc/sys/net/bridge/bridge-nf-call-iptables",
    "/proc/sys/net/ipv4/ip_forward",
    f"{IPV4_CONF}/*/arp_ignore",
    f"{IPV4_CONF}/*/proxy_arp",
    f"{IPV4_CONF}/*/rp_filter",
    "/run/reboot-required",
    "/sys/fs/selinux/enforce",
    "/sys/module/apparmor/parameters/enabled",
    "/sys/module/kvm_amd/parameters/nested",
    "/sys/module/kvm_intel/parameters/nested",
    NODE_FILES,
    *COMPUTE_ID_PATHS,
)
FOLDERS = (
    APT_LISTS_PATH,
    LEDGER_PATH,
    "/etc/netplan",
    "/run/systemd/system",
    "/var/lib/nova/instances",
)
# Without these two apt would rewrite its caches while it only looks, see apt.conf(5).
_APT_CACHE = ("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=")
_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def build_request(*, libvirt_uri: str = "qemu:///system") -> dict[str, Any]:
    """Build what the script is asked for."""
    units = ("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *UNITS)
    commands = {
        "candidates": (*_APT_CACHE, "policy", *NEEDED_PACKAGES),
        "container": ("systemd-detect-virt", "--container"),
        "dpkg": ("dpkg", "--audit"),
        "installed": ("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"),
        "links": ("ip", "-j", "-d", "addr", "show"),
        "routes": ("ip", "-j", "-4", "route", "show"),
        "tcp": ("ss", "-Hlntp"),
        "time": ("timedatectl", "show"),
        "udp": ("ss", "-Hlnup"),
        "units": units,
        "virtualization": ("systemd-detect-virt",),
    }
    return {
        "commands": commands,
        "file_systems": (NODES_PATH, INSTANCES_PATH, CACHE_PATH),
        "files": FILES,
        "folders": FOLDERS,
        "libvirt_uri": libvirt_uri,
        "modules": MODULES,
        "usage": (NODES_PATH,),
    }


def parse_observation(raw: Mapping[str, Any], *, name: str, guest: GuestProbe) -> HostObservation:
    """Read the script's answer about the host called name.

    Raises:
        ValueError, KeyError, TypeError: the answer is not what the script writes.
    """
    files: Mapping[str, str | None] = raw["files"]
    commands: Mapping[str, Mapping[str, Any] | None] = raw["commands"]
    return HostObservation(
        name=name,
        machine=_machine(raw, files, commands),
        guest=guest,
        system=_system(raw, files, commands),
        kernel=_kernel(raw["modules"], files),
        file_systems=_file_systems(raw, files),
        network=_network(raw, files, commands),
        libvirt=parse_libvirt(raw["libvirt"]),
        traces=_traces(raw["folders"], files),
        session=parse_session(raw["machine"].get("session", "")),
    )


def parse_session(text: str) -> Session | None:
    """Read $SSH_CONNECTION (ssh(1)): client, client's port, server, server's port; else None."""
    fields = text.split()
    if len(fields) != 4 or not fields[3].isdigit():
        return None
    client, server = (field.partition("%")[0] for field in (fields[0], fields[2]))
    try:
        client = str(ipaddress.ip_address(client.removeprefix("::ffff:")))
    except ValueError:
        return None
    return Session(client=client, server=server, port=int(fields[3]))


def _machine(
    raw: Mapping[str, Any],
    files: Mapping[str, str | None],
    commands: Mapping[str, Mapping[str, Any] | None],
) -> Machine:
    memory = dict(_pairs(files["/proc/meminfo"], ":"))
    processor = dict(_pairs(files["/proc/cpuinfo"], ":"))
    flags = processor.get("flags", "").split()
    nested = [files[f"/sys/module/kvm_{maker}/parameters/nested"] for maker in ("intel", "amd")]
    known = [value.strip() in {"Y", "1"} for value in nested if value is not None]
    return Machine(
        cores=raw["machine"]["cores"],
        memory_mib=_kib(memory, "MemTotal") // 1024,
        available_memory_mib=_kib(memory, "MemAvailable") // 1024,
        architecture=raw["machine"]["architecture"],
        cpu_model=processor.get("model name", "unknown"),
        cpu_flag=next((flag for flag in ("vmx", "svm") if flag in flags), ""),
        virtualization=_out(commands, "virtualization").strip() or "none",
        is_container=_out(commands, "container").strip() not in {"", "none"},
        nested=any(known) if known else None,
        kvm_device=raw["kvm"]["exists"],
        kvm_usable=raw["kvm"]["usable"],
    )


def _system(
    raw: Mapping[str, Any],
    files: Mapping[str, str | None],
    commands: Mapping[str, Mapping[str, Any] | None],
) -> System:
    release = {key: value.strip('"') for key, value in _pairs(files["/etc/os-release"], "=")}
    version = release.get("VERSION_ID", "").split(".")[0]
    hostname = raw["machine"]["hostname"]
    return System(
        hostname=hostname,
        fqdn=_fqdn(files["/etc/hosts"] or "", hostname),
        os_id=release.get("ID", "unknown"),
        os_version=int(version) if version.isdigit() else 0,
        os_text=release.get("PRETTY_NAME", "unknown"),
        kernel=raw["machine"]["kernel"],
        python=tuple(raw["machine"]["python"]),
        is_root=raw["machine"]["euid"] == 0,
        systemd=raw["folders"]["/run/systemd/system"] is not None,
        time_synchronized=_time_synchronized(_out(commands, "time")),
        reboot_required=files["/run/reboot-required"] is not None,
        selinux_enforcing=(files["/sys/fs/selinux/enforce"] or "").strip() == "1",
        apparmor=(files["/sys/module/apparmor/parameters/enabled"] or "").strip() == "Y",
        dpkg_problem=_out(commands, "dpkg").strip(),
        name_servers=tuple(_name_servers(files["/etc/resolv.conf"] or "")),
        units=dict(_units(_out(commands, "units"))),
        installed=dict(_installed(_out(commands, "installed"))),
        candidates=dict(_candidates(_out(commands, "candidates"))),
        suites=tuple(sorted(_suites(raw["folders"][APT_LISTS_PATH] or ()))),
    )


def _kernel(modules: Mapping[str, Any], files: Mapping[str, str | None]) -> Kernel:
    settings = {
        path.removeprefix("/proc/sys/net/").replace("/", "."): value.strip()
        for path, value in files.items()
        if path.startswith("/proc/sys/net/") and value is not None
    }
    return Kernel(
        modules_folder=modules["folder"],
        releases=tuple(modules["releases"]),
        features={name: _presence(seen, modules) for name, seen in modules["features"].items()},
        sysctls={key: int(value) for key, value in settings.items() if value.lstrip("-").isdigit()},
    )


def _presence(seen: Mapping[str, Any], modules: Mapping[str, Any]) -> Presence:
    if seen["builtin"] or seen["option"] == "y":
        return Presence.BUILTIN
    if seen["loaded"]:
        return Presence.LOADED
    if seen["available"]:
        return Presence.AVAILABLE
    if modules["folder"] or modules["configuration"]:
        return Presence.MISSING
    return Presence.UNKNOWN


def _file_systems(
    raw: Mapping[str, Any], files: Mapping[str, str | None]
) -> Mapping[str, FileSystem]:
    mounts = [line.split() for line in (files["/proc/self/mounts"] or "").splitlines()]
    kinds = {fields[1]: fields[2] for fields in mounts if len(fields) > 2}
    answer = {}
    for path, seen in raw["file_systems"].items():
        mount = max((m for m in kinds if _below(seen["there"], m)), key=len, default="/")
        flags = seen["flags"]
        named = {"noexec": ST_NOEXEC, "nodev": ST_NODEV, "nosuid": ST_NOSUID}
        answer[path] = FileSystem(
            path=path,
            mount=mount,
            kind=kinds.get(mount, ""),
            device=seen["device"],
            free_mib=seen["free_bytes"] // MIB,
            total_mib=seen["total_bytes"] // MIB,
            used_mib=raw["usage"].get(path, 0) // MIB,
            read_only=bool(flags & ST_RDONLY),
            restricted=tuple(name for name, bit in named.items() if flags & bit),
        )
    return answer


def _network(
    raw: Mapping[str, Any],
    files: Mapping[str, str | None],
    commands: Mapping[str, Mapping[str, Any] | None],
) -> Network:
    rules = raw["ruleset"]
    chains = parse_chains(rules["out"]) if rules and rules["status"] == 0 else None
    return Network(
        links=parse_links(_out(commands, "links")),
        routes=parse_routes(_out(commands, "routes")),
        listeners=(
            *parse_listeners(_out(commands, "tcp"), "tcp"),
            *parse_listeners(_out(commands, "udp"), "udp"),
        ),
        chains=chains,
        legacy_tables=tuple((files["/proc/net/ip_tables_names"] or "").split()),
        nftables_flushes="flush ruleset" in (files["/etc/nftables.conf"] or ""),
        networkd_files=tuple(
            parse_network_file(path, text)
            for path, text in files.items()
            if path.endswith(".network") and text
        ),
    )


def _traces(folders: Mapping[str, list[str] | None], files: Mapping[str, str | None]) -> Traces:
    nodes = NODE_FILES.split("*", maxsplit=1)[0]
    described = (text for path, text in files.items() if path.startswith(nodes) and text)
    sites = {str(json.loads(text)["site"]) for text in described}
    instances = [entry for entry in folders["/var/lib/nova/instances"] or () if _UUID.match(entry)]
    return Traces(
        sites=tuple(sorted(sites)),
        ledger=JOURNAL in (folders[LEDGER_PATH] or ()),
        netplan=bool(folders["/etc/netplan"]),
        nova_instances=tuple(instances),
        nova_compute_id=any(files[path] is not None for path in COMPUTE_ID_PATHS),
    )


def _out(commands: Mapping[str, Mapping[str, Any] | None], key: str) -> str:
    done = commands[key]
    return str(done["out"]) if done else ""


def _pairs(text: str | None, separator: str) -> Iterator[tuple[str, str]]:
    for line in (text or "").splitlines():
        key, found, value = line.partition(separator)
        if found:
            yield key.strip(), value.strip()


def _kib(memory: Mapping[str, str], key: str) -> int:
    return int(memory[key].removesuffix("kB"))


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _fqdn(hosts: str, hostname: str) -> str:
    for line in hosts.splitlines():
        names = shlex.split(line, comments=True)[1:]
        if hostname in names:
            return names[0]
    return hostname


def _name_servers(text: str) -> Iterator[str]:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver":
            yield fields[1]


def _time_synchronized(text: str) -> bool | None:
    found = dict(_pairs(text, "=")).get("NTPSynchronized")
    return None if found is None else found == "yes"


def _units(text: str) -> Iterator[tuple[str, UnitState]]:
    for block in text.split("\n\n"):
        unit = dict(_pairs(block, "="))
        if unit.get("LoadState") == "loaded":
            yield (
                unit["Id"],
                UnitState(
                    active=unit["ActiveState"] in {"active", "activating", "reloading"},
                    enabled=unit.get("UnitFileState", "").startswith("enabled"),
                ),
            )


def _installed(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0] == "installed":
            yield fields[1], fields[2]


def _suites(lists: Iterable[str]) -> set[str]:
    # As HOST_debian-security_dists_trixie-security_InRelease; asking apt-cache takes longer.
    found = (re.search(r"_dists_(.+)_(?:In)?Release$", name) for name in lists)
    return {match[1].replace("_", "/") for match in found if match}


def _candidates(text: str) -> Iterator[tuple[str, str]]:
    package = ""
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            package = line[:-1]
        elif line.startswith("  Candidate:"):
            version = line.split(":", 1)[1].strip()
            yield package, "" if version == "(none)" else version
