"""What changes on a host by itself, and is therefore not compared; every entry with its reason."""

from __future__ import annotations

import fnmatch
import re

# (section, pattern of fnmatch(3), why). Never here: /etc/machine-id, /etc/hosts, /etc/passwd.
# A resolv.conf that is a link into /run needs no entry: of a link only the target is compared.
VOLATILE: tuple[tuple[str, str, str], ...] = (
    ("files", "/etc/*.cache", "an index of other files, made anew with every package"),
    ("files", "/etc/.pwd.lock", "lock of the password tools, made by the first of them"),
    ("files", "/etc/.updated", "time of systemd's last look at /usr"),
    ("files", "/etc/*.dpkg-tmp", "only while dpkg works"),
    ("files", "/etc/adjtime", "drift of the hardware clock"),
    ("files", "/etc/fake-hwclock.data", "time of the last shutdown"),
    ("files", "/etc/passwd-", "the tools' copy of before the last change, as are the next"),
    ("files", "/etc/shadow-", "see /etc/passwd-"),
    ("files", "/etc/group-", "see /etc/passwd-"),
    ("files", "/etc/gshadow-", "see /etc/passwd-"),
    ("files", "/etc/subuid-", "see /etc/passwd-"),
    ("files", "/etc/subgid-", "see /etc/passwd-"),
    ("files", "/etc/rc[0-6S].d/*", "order that insserv numbers; units say what is enabled"),
    ("files", "/etc/udev/hwdb.bin", "compiled from files that are compared"),
    ("files", "/etc/lvm/archive/*", "history of volume groups; volumes are compared"),
    ("files", "/etc/lvm/backup/*", "see /etc/lvm/archive"),
    ("files", "/etc/network/run*", "state of ifupdown; addresses are compared"),
    ("files", "/etc/openvswitch/conf.db", "a log that grows; openvswitch is compared"),
    ("files", "/etc/openvswitch/.conf.db.~lock~", "only while its database runs"),
    ("state folders", "/var/lib/AccountsService/*", "who logged in"),
    ("state folders", "/var/lib/NetworkManager/*", "leases and times"),
    ("state folders", "/var/lib/apt/*", "lists of packages"),
    ("state folders", "/var/lib/chrony/*", "drift of the clock"),
    ("state folders", "/var/lib/cloud/*", "cloud-init's state of this boot"),
    ("state folders", "/var/lib/containerd/*", "containers come and go"),
    ("state folders", "/var/lib/dhcp*", "leases"),
    ("state folders", "/var/lib/dpkg/*", "packages are compared"),
    ("state folders", "/var/lib/libuuid/*", "the clock of uuidd"),
    ("state folders", "/var/lib/logrotate*", "times of the last rotation"),
    ("state folders", "/var/lib/private/*", "state of services with users of their own"),
    ("state folders", "/var/lib/systemd/*", "stamps of timers, seeds"),
    ("state folders", "/var/lib/ucf/*", "packages are compared"),
    ("state folders", "/var/lib/unattended-upgrades/*", "times"),
    ("addresses", "* fe80::*", "made by the kernel from the interface"),
    ("sysctl", "kernel.cap_last_cap", "of the running kernel"),
    ("sysctl", "kernel.hung_task_*", "counts down"),
    ("sysctl", "kernel.ns_last_pid", "counts up"),
    ("sysctl", "kernel.perf_*", "the kernel adapts it to its load"),
    ("sysctl", "kernel.pty.nr", "open terminals"),
    ("sysctl", "kernel.random.*", "random"),
    ("sysctl", "kernel.sched_domain*", "of the processors in use"),
    ("sysctl", "kernel.tainted", "warnings of the kernel"),
    ("sysctl", "kernel.version", "of the running kernel; kernel.osrelease is compared"),
    ("sysctl", "net.core.netdev_rss_key", "random"),
    ("sysctl", "net.ipv4.tcp_available_*", "grows with kernel modules"),
    ("sysctl", "net.ipv4.tcp_mem", "of the free memory at boot"),
    ("sysctl", "net.ipv4.udp_mem", "of the free memory at boot"),
    ("sysctl", "net.ipv6.conf.*.hop_limit", "a router says it"),
    ("sysctl", "net.ipv6.conf.*.mtu", "of the interface, or a router says it"),
    ("sysctl", "net.ipv6.neigh.*.base_reachable_time*", "a router says it"),
    ("sysctl", "net.ipv6.neigh.*.retrans_time*", "a router says it"),
    ("sysctl", "net.netfilter.nf_conntrack_buckets", "sized by the memory"),
    ("sysctl", "net.netfilter.nf_conntrack_count", "counts connections"),
    ("sysctl", "net.netfilter.nf_log*", "set by whoever loads a module first"),
    ("sysctl", "net.nf_conntrack_*", "the old name of net.netfilter's"),
    ("sysctl", "vm.drop_caches", "no setting: what was done last"),
    ("sysctl", "vm.min_free_kbytes", "of the free memory at boot"),
    ("units", "*.scope", "sessions"),
    ("units", "run-*", "transient"),
    ("services", "run-*", "transient"),
    ("services", "user@*", "sessions"),
    ("services", "user-runtime-dir@*", "sessions"),
    ("services", "session-*", "sessions"),
    ("services", "ssh@*", "sessions"),
    ("services", "sshd@*", "sessions"),
    ("services", "getty@*", "consoles"),
    ("services", "apt-daily*.service", "works for a moment now and then"),
    ("services", "dpkg-db-backup.service", "see apt-daily"),
    ("services", "fstrim.service", "see apt-daily"),
    ("services", "logrotate.service", "see apt-daily"),
    ("services", "man-db.service", "see apt-daily"),
    ("services", "systemd-tmpfiles-clean.service", "see apt-daily"),
    ("services", "systemd-hostnamed.service", "started when asked, ends by itself"),
    ("services", "systemd-localed.service", "see systemd-hostnamed"),
    ("services", "systemd-timedated.service", "see systemd-hostnamed"),
    ("services", "systemd-machined.service", "see systemd-hostnamed"),
    ("services", "packagekit.service", "see systemd-hostnamed"),
    ("services", "ldconfig.service", "systemd's work of the first boot after an update"),
    ("services", "systemd-firstboot.service", "see ldconfig"),
    ("services", "systemd-hwdb-update.service", "see ldconfig"),
    ("services", "systemd-journal-catalog-update.service", "see ldconfig"),
    ("services", "systemd-sysusers.service", "see ldconfig"),
    ("services", "systemd-update-done.service", "see ldconfig"),
    ("services", "polkit.service", "D-Bus starts it for the first that asks for permission"),
    ("services", "uuidd.service", "its socket starts it for the first that wants a UUID"),
    ("services", "libvirtd.service", "its sockets start it; it ends after 120 s without work"),
    ("services", "virt*d.service", "see libvirtd"),
    ("mounts", "/run/*", "of the running system"),
    ("mounts", "/var/lib/containerd/*", "containers come and go"),
    ("mounts", "/var/lib/containers/*", "containers come and go"),
    ("mounts", "/var/lib/docker/*", "containers come and go"),
    ("namespaces", "cni-*", "containers come and go"),
)


def _compiled() -> dict[str, re.Pattern[str]]:
    patterns: dict[str, list[str]] = {}
    for section, pattern, _ in VOLATILE:
        patterns.setdefault(section, []).append(fnmatch.translate(pattern))
    return {section: re.compile("|".join(some)) for section, some in patterns.items()}


_PATTERNS = _compiled()


def is_volatile(section: str, name: str) -> bool:
    """Return whether a thing changes by itself."""
    pattern = _PATTERNS.get(section)
    return pattern is not None and pattern.match(name) is not None
