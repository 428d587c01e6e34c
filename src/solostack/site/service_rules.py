"""What types cannot say about storage, directory, front door and dashboard. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from solostack.site.front_door_rules import check_front_door
from solostack.site.model import Runtime, Site
from solostack.site.problems import Problem, did_you_mean, repeated
from solostack.site.services import Cinder, CinderBackend, Directory, DirectoryProvider, Storage

KEYSTONE_DOMAIN = "default"
"""Keystone's first domain, which has the service users and the administrator."""


def check_services(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the services that a site may leave out."""
    if site.storage is not None:
        yield from _storage(site, site.storage)
    if site.directory is not None:
        yield from _directory(site.directory)
    yield from check_front_door(site)


def _storage(site: Site, storage: Storage) -> Iterator[Problem]:
    if storage.cinder is None and storage.swift is None and storage.nfs is None:
        yield Problem(
            location=("storage",),
            expected="cinder, swift or nfs, or several of them",
            found="none of them",
            suggestion="write `cinder: {}` below it",
        )
    if site.nodes.storage.runtime is Runtime.CONTAINER:
        yield Problem(
            location=("nodes", "storage", "runtime"),
            expected="vm or auto (LVM, iSCSI and NFS need a kernel of their own)",
            found="'container'",
            suggestion=did_you_mean("vm"),
        )
    if storage.cinder is not None:
        yield from _cinder(storage.cinder)
    if storage.images_in_swift and storage.swift is None:
        yield Problem(
            location=("storage", "images_in_swift"),
            expected="false where there is no storage.swift",
            found="true",
        )
    if storage.swift is not None and storage.swift.replicas > storage.swift.disks:
        yield Problem(
            location=("storage", "swift", "replicas"),
            other=("storage", "swift", "disks"),
            expected=f"at most {storage.swift.disks}: each copy is on another disk",
            found=f"{storage.swift.replicas}",
            suggestion=did_you_mean(storage.swift.disks),
        )


def _cinder(cinder: Cinder) -> Iterator[Problem]:
    if cinder.backend is CinderBackend.RBD and cinder.rbd is None:
        yield Problem(
            location=("storage", "cinder", "backend"),
            expected="rbd: {conf: FILE, keyring: FILE} beside backend: rbd",
            found="no rbd",
        )
    if cinder.backend is CinderBackend.LVM and cinder.rbd is not None:
        yield Problem(
            location=("storage", "cinder", "rbd"),
            expected="backend: rbd beside it",
            found="backend lvm",
            suggestion=did_you_mean("backend: rbd"),
        )


def _directory(directory: Directory) -> Iterator[Problem]:
    own = directory.provider is DirectoryProvider.OWN
    if directory.domain == KEYSTONE_DOMAIN:
        yield Problem(
            location=("directory", "domain"),
            expected="a domain of its own",
            found=f"'{directory.domain}', which has the administrator and the services",
            suggestion=did_you_mean("users"),
        )
    if not own and directory.external is None:
        yield Problem(
            location=("directory", "provider"),
            expected="external: {url: ...} beside provider: external",
            found="no external",
        )
    if own and directory.external is not None:
        yield Problem(
            location=("directory", "external"),
            expected="provider: external beside it",
            found=f"provider {directory.provider}",
            suggestion=did_you_mean("provider: external"),
        )
    yield from _users_and_groups(directory, own=own)


def _users_and_groups(directory: Directory, *, own: bool) -> Iterator[Problem]:
    users = [
        (("directory", "users", index, "name"), user.name)
        for index, user in enumerate(directory.users)
    ]
    groups = [
        (("directory", "groups", index, "name"), group.name)
        for index, group in enumerate(directory.groups)
    ]
    yield from repeated(users, "a login name of its own")
    yield from repeated(groups, "a group name of its own")
    if not own and directory.users:
        yield Problem(
            location=("directory", "users"),
            expected="none beside provider: external: whoever runs it makes them",
            found=f"{len(directory.users)}",
        )
    known = {name for _, name in users}
    for index, group in enumerate(directory.groups):
        for number, member in enumerate(group.members):
            if not own:
                yield Problem(
                    location=("directory", "groups", index, "members", number),
                    expected="none beside provider: external: who is in it is said there",
                    found=f"'{member}'",
                )
            elif member not in known:
                yield Problem(
                    location=("directory", "groups", index, "members", number),
                    expected="the name of one of directory.users",
                    found=f"'{member}'",
                )
