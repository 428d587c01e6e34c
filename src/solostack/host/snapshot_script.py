"""The script that writes down a host's state. Shipped as text, standard library only.

host.snapshot_take sends this file over standard input of ``python3 -I -`` with a call of ``main``
behind it. ``keep`` puts the state of before on the host itself, ``after`` prints it beside the
state of now. A section is a mapping of names to one line or text each; what cannot be looked at is
``{"unknown": why}``. It starts no service and keeps of a file's content its hash only.
"""

# For thousands of paths os is several times as fast as pathlib.
# ruff: noqa: PTH103, PTH108, PTH110, PTH115, PTH120, PTH123, PTH207, PTH208

from __future__ import annotations

import collections
import concurrent.futures
import glob
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

FORMAT = 1
STATE = "/var/lib/solostack"
BEFORE = f"{STATE}/before/state.json"
COMMAND_TIMEOUT_S = 20
LONGEST_SETTING = 500
INSTANCES = "/var/lib/nova/instances"
# net.ipv4.tcp_fastopen_key and the seed of IPv6 addresses are secrets; vm.stat_refresh works
# when it is read.
SETTINGS_LEFT_OUT = ("tcp_fastopen_key", "stable_secret", "stat_refresh")
PSEUDO_FILE_SYSTEMS = re.compile(
    "autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|fusectl|hugetlbfs|"
    "mqueue|nsfs|proc|pstore|ramfs|rpc_pipefs|securityfs|selinuxfs|sysfs|tmpfs|tracefs"
)
ROUTE_NOISE = re.compile(r" (linkdown|dead|offload|rt_offload|trap|rt_trap|(expires|nhid) \S+)")
KERNEL_ROUTE = re.compile(r"(local|broadcast|anycast|multicast|fe80::/64) .*\bproto kernel\b")
# One of {key=value, "other key"="a value, with a comma"}, as ovs-vsctl(8) prints maps.
SETTING = re.compile(r'"?([\w.:/-]+)"?=("(?:[^"\\]|\\.)*"|[^,}\s]+)')

Items = dict[str, str]


class UnknownError(Exception):
    """A section that cannot be looked at, and why."""


class MissingError(Exception):
    """The program that could have made anything of this section is not there, so nothing is."""


def main(verb: str) -> None:
    """Keep the state of before, or print it with that of now, as one line of JSON."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["LC_ALL"] = "C.UTF-8"
    if verb == "keep":
        answer: object = {"kept": keep()}
    elif verb == "after":
        answer = {"before": kept_state(), "after": take(), **ledger()}
    else:
        answer = take()
    sys.stdout.write(json.dumps(answer) + "\n")


def keep() -> str:
    """Keep the state of now as that of before: "now", unless it is there, or too late for it."""
    if os.path.exists(BEFORE):
        return "already"
    if os.path.exists(f"{STATE}/ledger/journal.jsonl") or os.path.exists(f"{STATE}/nodes"):
        return "late"
    os.makedirs(os.path.dirname(BEFORE), mode=0o700, exist_ok=True)
    content = json.dumps(take()).encode()
    handle, path = tempfile.mkstemp(dir=os.path.dirname(BEFORE))  # mode 0600
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # link(2) is exclusive: what is kept is never replaced.
        os.link(path, BEFORE)
    except FileExistsError:
        return "already"
    finally:
        os.unlink(path)
    folder = os.open(os.path.dirname(BEFORE), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return "now"


def kept_state() -> object:
    """Return the state of before, None when none was kept."""
    try:
        with open(BEFORE, "rb") as file:
            return json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def ledger() -> dict[str, list[str]]:
    """Return the packages and paths that we brought; also of a ledger just put away."""
    packages: set[str] = set()
    paths: set[str] = set()
    for path in glob.glob(f"{STATE}/ledger/**/journal.jsonl", recursive=True):
        for line in text_of(path).splitlines():
            try:
                entry = json.loads(line)
                packages.update(entry.get("names") or ())
                if (entry.get("prior") or {}).get("kind") == "absent" and "path" in entry:
                    paths.add(entry["path"])
            except (ValueError, AttributeError):
                continue
    return {"installed": sorted(packages), "made": sorted(paths)}


def take() -> dict[str, Any]:
    """Look at everything, side by side."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        looks = {name: pool.submit(guarded, make) for name, make in SECTIONS.items()}
        return {
            "format": FORMAT,
            "sections": {name: look.result() for name, look in looks.items()},
        }


def guarded(make: Callable[[], Items]) -> dict[str, Any]:
    """Return a section's items, or why there are none."""
    try:
        return {"items": make()}
    except MissingError:
        return {"items": {}}
    except (UnknownError, OSError, ValueError, KeyError, TypeError) as error:
        return {"unknown": str(error) or type(error).__name__}


def run(*argv: str) -> str:
    """Return the output of a command that only reads."""
    try:
        done = subprocess.run(  # noqa: S603 (argv is ours, no shell)
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise UnknownError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnknownError(f"{argv[0]}: no end within {COMMAND_TIMEOUT_S} s") from None
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UnknownError(f"{argv[0]}: {last[0] if last else f'status {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")


def need(tool: str) -> None:
    """Stop where a tool is not installed, and with it nothing that it would show."""
    if not any(os.access(f"{folder}/{tool}", os.X_OK) for folder in os.environ["PATH"].split(":")):
        raise MissingError


def text_of(path: str) -> str:
    """Return a file's text, empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def listed(lines: Iterable[str]) -> Items:
    """Return lines that are there or not as items; the value counts those there more than once."""
    counted = collections.Counter(" ".join(line.split()) for line in lines if line.strip())
    return {line: "" if count == 1 else f"{count} times" for line, count in counted.items()}


def nft() -> Items:
    """Return every table, chain, set and other object with what is in it, without counters."""
    return nft_items(run("nft", "-s", "-n", "list", "ruleset"))


def nft_items(text: str) -> Items:
    """Split what nft lists into objects; see nft(8) for the form."""
    items: Items = {}
    table = name = ""
    for line in text.splitlines():
        if line.startswith("table "):
            table = name = line[len("table ") :].rstrip(" {")
            items[table] = ""
        elif line.startswith("\t\t"):
            items[name] += line.strip() + "\n"
        elif line.startswith("\t") and line.endswith("{"):
            name = f"{table} {line.strip()[:-1].strip()}"
            items[name] = ""
        elif line.startswith("\t") and line != "\t}":
            items[table] += line.strip() + "\n"
    return {name: without_elements(body).strip() for name, body in items.items()}


def without_elements(body: str) -> str:
    """Return a set's text without elements that packets put in and time takes out."""
    if re.search(r"^(flags .*\b(dynamic|timeout)\b|timeout )", body, re.MULTILINE):
        return body.partition("elements = ")[0]
    return body


def links() -> Items:
    """Return every interface's kind, MAC, MTU, master and whether it is up."""
    found = {}
    for link in json.loads(run("ip", "-j", "-d", "link", "show")):
        name = link["ifname"]
        info = link.get("linkinfo", {})
        words = [info.get("info_kind") or link.get("link_type", "")]
        # 1 is random, 2 taken from a member: both are others after a reboot.
        if text_of(f"/sys/class/net/{name}/addr_assign_type").strip() not in ("1", "2"):
            words.append(f"mac {link.get('address', '')}")
        words.append(f"mtu {link['mtu']}")
        if "id" in info.get("info_data", {}):
            words.append(f"id {info['info_data']['id']}")
        if link.get("master"):
            words.append(f"master {link['master']}")
        words.append("up" if "UP" in link["flags"] else "down")
        found[name] = " ".join(words)
    return found


def addresses() -> Items:
    """Return every address that is not made by the kernel or by a temporary lease of IPv6."""
    found = {}
    for link in json.loads(run("ip", "-j", "address", "show")):
        for one in link.get("addr_info", ()):
            if one.get("temporary") or one.get("protocol") == "kernel_ll" or "local" not in one:
                continue
            words = [f"scope {one.get('scope', '')}"]
            for key, word in (("address", "peer"), ("broadcast", "broadcast"), ("label", "label")):
                if one.get(key) and one[key] != link["ifname"]:
                    words.append(f"{word} {one[key]}")
            words += ["noprefixroute"] if one.get("noprefixroute") else []
            found[f"{link['ifname']} {one['local']}/{one['prefixlen']}"] = " ".join(words)
    return found


def families() -> tuple[tuple[str, str], ...]:
    """Return the families of addresses that the kernel has, with ip's option for each."""
    six = (("inet6", "-6"),) if os.path.exists("/proc/net/if_inet6") else ()
    return (("inet", "-4"), *six)


def ip_lines(*arguments: str) -> list[str]:
    """Return the lines of an ip command for every family."""
    return [
        f"{family} {line}".replace("\\", " ")
        for family, option in families()
        for line in run("ip", "-o", option, *arguments).splitlines()
    ]


def routes() -> Items:
    """Return the routes of all tables, but for those that only follow from addresses."""
    lines = (ROUTE_NOISE.sub("", f"{line} ") for line in ip_lines("route", "show", "table", "all"))
    return listed(line for line in lines if not KERNEL_ROUTE.match(line.partition(" ")[2]))


def rules() -> Items:
    """Return the routing rules."""
    return listed(ip_lines("rule", "show"))


def neighbours() -> Items:
    """Return neighbour entries that somebody made: permanent ones and proxies."""
    proxies = ip_lines("neighbour", "show", "proxy")
    return listed([*ip_lines("neighbour", "show", "nud", "permanent"), *proxies])


def namespaces() -> Items:
    """Return the named network namespaces."""
    return dict.fromkeys(names_in("/run/netns"), "")


def names_in(folder: str) -> list[str]:
    """Return the names in a folder, none when it is not there."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def settings() -> Items:
    """Return the kernel's settings below net, kernel and vm, as sysctl(8) spells them."""
    found = {}
    for branch in ("net", "kernel", "vm"):
        for folder, _, names in os.walk(f"/proc/sys/{branch}"):
            for name in names:
                path = f"{folder}/{name}"
                if name in SETTINGS_LEFT_OUT or not os.lstat(path).st_mode & stat.S_IRUSR:
                    continue
                key = path[len("/proc/sys/") :].translate(str.maketrans("/.", "./"))
                try:
                    with open(path, "rb") as file:
                        value = file.read().decode("utf-8", "replace")
                except OSError:
                    continue
                found[key] = " ".join(value.split())[:LONGEST_SETTING]
    return found


def files() -> Items:
    """Return every path of the machine's configuration: kind, mode, owner, hash or target."""
    return {path: described(path) for root in ("/etc", "/usr/local") for path in below(root, 64)}


def folders_of_state() -> Items:
    """Return what is in /var/lib, two levels deep: what services keep there changes by itself."""
    return {
        path: described(path, content=False)
        for path in below("/var/lib", 2)
        if path != STATE and not path.startswith(f"{STATE}/")
    }


def below(root: str, depth: int) -> Iterator[str]:
    """Yield the paths below root on its file system, so many levels deep."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        device = os.lstat(root).st_dev
    except OSError:
        return
    for entry in entries:
        try:
            info = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if depth > 1 and stat.S_ISDIR(info.st_mode) and info.st_dev == device:
            yield from below(entry.path, depth - 1)


def described(path: str, *, content: bool = True) -> str:
    """Return one path as a line; empty for what has just gone."""
    try:
        info = os.lstat(path)
        access = f"{stat.S_IMODE(info.st_mode):04o} {info.st_uid}:{info.st_gid}"
        if stat.S_ISLNK(info.st_mode):
            return f"link {info.st_uid}:{info.st_gid} -> {os.readlink(path)}"
        if stat.S_ISDIR(info.st_mode):
            return f"directory {access}"
        if not stat.S_ISREG(info.st_mode):
            return f"special {access}"
        if not content:
            return f"file {access}"
        with open(path, "rb") as file:
            return f"file {access} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return ""


def units() -> Items:
    """Return the unit files and whether each is enabled."""
    listing = run("systemctl", "list-unit-files", "--no-pager", "--output=json")
    return {one["unit_file"]: one["state"] for one in json.loads(listing)}


def services() -> Items:
    """Return the services, timers and sockets that are active or failed."""
    kinds = ("--type=service,timer,socket", "--state=active,failed")
    listing = run("systemctl", "list-units", *kinds, "--no-pager", "--output=json")
    return {one["unit"]: one["active"] for one in json.loads(listing)}


def packages() -> Items:
    """Return the packages with their versions; those whose configuration alone is left, too."""
    need("dpkg-query")
    layout = "${binary:Package}\t${Version}\t${db:Status-Status}\n"
    rows = (line.split("\t") for line in run("dpkg-query", "-W", "-f", layout).splitlines())
    return {
        name: version if status == "installed" else f"{version} ({status})"
        for name, version, status in rows
        if status != "not-installed"
    }


def libvirt() -> Items:
    """Return libvirt's domains, networks and pools, where a daemon answers or its socket does."""
    need("virsh")
    doors = glob.glob("/run/libvirt/libvirt-sock-ro") + glob.glob("/run/libvirt/virtqemud-sock-ro")
    if not doors:
        raise UnknownError("libvirt does not run")
    virsh = ("virsh", "-r", "-q", "-c", "qemu:///system")
    found = {}
    for kind, prefix, uuid in (
        ("domain", "", "domuuid"),
        ("network", "net-", "net-uuid"),
        ("pool", "pool-", "pool-uuid"),
    ):
        every, active, auto = (
            [line.strip() for line in run(*virsh, f"{prefix}list", *more).splitlines() if line]
            for more in (("--all", "--name"), ("--name",), ("--all", "--name", "--autostart"))
        )
        for name in filter(None, every):
            identity = run(*virsh, uuid, name).strip()
            words = [identity, "active" if name in active else "inactive"]
            found[f"{kind} {name}"] = " ".join(words + (["autostart"] if name in auto else []))
    return found


def openvswitch() -> Items:
    """Return Open vSwitch's bridges, ports and settings, where its database answers."""
    need("ovs-vsctl")
    if not os.path.exists("/run/openvswitch/db.sock"):
        raise UnknownError("Open vSwitch does not run")
    ovs = ("ovs-vsctl", "--timeout=5")
    found = {}
    for bridge in run(*ovs, "list-br").split():
        found[f"bridge {bridge}"] = run(*ovs, "get", "bridge", bridge, "datapath_type").strip()
        for port in run(*ovs, "list-ports", bridge).split():
            found[f"port {bridge} {port}"] = ""
    for column in ("other_config", "external_ids"):
        for key, value in SETTING.findall(run(*ovs, "get", "Open_vSwitch", ".", column)):
            found[f"{column} {key}"] = value.strip('"')
    found |= {f"manager {target}": "" for target in run(*ovs, "get-manager").split()}
    return found


def users() -> Items:
    """Return the users without anything about passwords."""
    rows = (line.split(":") for line in run("getent", "passwd").splitlines())
    return {row[0]: ":".join(row[2:]) for row in rows}


def groups() -> Items:
    """Return the groups: number and members."""
    rows = (line.split(":") for line in run("getent", "group").splitlines())
    return {row[0]: f"{row[2]}:{','.join(sorted(filter(None, row[3].split(','))))}" for row in rows}


def volumes() -> Items:
    """Return LVM's volume groups and volumes."""
    need("vgs")
    rows = run("vgs", "--readonly", "--noheadings", "-o", "vg_name").split()
    found = {f"group {name}": "" for name in rows}
    listing = run("lvs", "--readonly", "--noheadings", "-o", "vg_name,lv_name")
    return found | {f"volume {' '.join(line.split())}": "" for line in listing.splitlines() if line}


def mounts() -> Items:
    """Return what is mounted, but for the kernel's own file systems."""
    found = {}
    for line in text_of("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, source = rest.split(" ")[:2]
        if not PSEUDO_FILE_SYSTEMS.fullmatch(kind):
            found[fields.split(" ")[4]] = f"{kind} {source}"
    return found


def instances() -> Items:
    """Return the names in Nova's folder of instances."""
    return dict.fromkeys(names_in(INSTANCES), "")


SECTIONS: dict[str, Callable[[], Items]] = {
    "nft": nft,
    "links": links,
    "addresses": addresses,
    "routes": routes,
    "rules": rules,
    "neighbours": neighbours,
    "namespaces": namespaces,
    "sysctl": settings,
    "files": files,
    "state folders": folders_of_state,
    "units": units,
    "services": services,
    "packages": packages,
    "libvirt": libvirt,
    "openvswitch": openvswitch,
    "users": users,
    "groups": groups,
    "volumes": volumes,
    "mounts": mounts,
    "instances": instances,
}
