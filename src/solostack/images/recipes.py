"""What goes into a tree: recipes as values, identified by their content.

A recipe names Debian packages and nothing of a site. Role packages come from the caller; this
module owns what every tree shares: the base system and how it is made identity-free.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

# A higher number makes every cached tree stale: raise it when TREE_SCRIPT changes what is built.
FORMAT = 1

BASE_PACKAGES = (
    "ca-certificates",
    "dbus",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
    "udev",
)

# A VM boots the tree's own kernel directly; an initrd of four modules starts fast under emulation.
# The test image is made of the same kernel and busybox.
KERNEL_PACKAGES = (
    "busybox-static",
    "e2fsprogs",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "zstd",
)

# A simulated physical host is what a rented server is: Debian with SSH, and, so that a lab starts
# at once, the packages that `up` would install there.
HOST_BASE_PACKAGES = (
    "curl",
    "debian-archive-keyring",
    "python3-libvirt",
    "python3-venv",
    "systemd-container",
)

# Installed but not configured: their packages would start them with settings that reach nothing.
HOST_DISABLED_UNITS = (
    "haproxy.service",
    "neutron-ovn-metadata-agent.service",
    "nova-compute.service",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A tree's whole content: equal recipes give interchangeable trees."""

    name: str
    suite: str
    packages: tuple[str, ...]
    disabled_units: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def tree_id(self) -> str:
        """The content id, 16 hexadecimal digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def directory(self) -> str:
        """The tree's folder name in the cache."""
        return f"{self.name}-{self.tree_id}"


def node_recipe(
    name: str, suite: str, packages: tuple[str, ...], disabled_units: tuple[str, ...] = ()
) -> Recipe:
    """Build the recipe of a control node's tree from its role's packages.

    disabled_units are those that the packages enable and that only configuration should start.
    """
    everything = {*BASE_PACKAGES, *KERNEL_PACKAGES, *packages}
    return Recipe(
        name=name,
        suite=suite,
        packages=tuple(sorted(everything)),
        disabled_units=tuple(sorted(set(disabled_units))),
    )


def host_recipe(suite: str, packages: tuple[str, ...]) -> Recipe:
    """Build the recipe of a simulated physical host from the packages `up` wants on a host."""
    everything = {*BASE_PACKAGES, *HOST_BASE_PACKAGES, *packages}
    return Recipe(
        name="host",
        suite=suite,
        packages=tuple(sorted(everything)),
        disabled_units=HOST_DISABLED_UNITS,
    )
