"""What a site says of its storage, directory, front door and dashboard; each may be left out."""

from __future__ import annotations

import enum

import pydantic

from solostack.site.fields import (
    HOSTNAME_PATTERN,
    LDAP_URL_PATTERN,
    Attribute,
    DistinguishedName,
    Filter,
    IPv4Address,
    Login,
    Model,
    Name,
    Port,
    Text,
    VolumeGroup,
)


class CinderBackend(enum.StrEnum):
    """Where volumes live."""

    LVM = "lvm"
    RBD = "rbd"


class Squash(enum.StrEnum):
    """Which users of NFS clients become nobody (exports(5))."""

    ALL = "all"
    ROOT = "root"
    NONE = "none"


class DirectoryProvider(enum.StrEnum):
    """Who runs the directory."""

    OWN = "389ds"
    EXTERNAL = "external"


class DirectoryPreset(enum.StrEnum):
    """What kind of directory an external one is: how it calls things unless the site says more."""

    LDAP = "ldap"
    FREEIPA = "freeipa"
    AD = "ad"


class Disk(Model):
    """A disk of the storage node, apart from its root disk."""

    size_gib: int = pydantic.Field(10, ge=1, description="size; may grow later, never shrink")
    volume_group: VolumeGroup | None = pydantic.Field(
        None, description="LVM volume group of the host to take it from; default: a file"
    )


class Rbd(Model):
    """A Ceph cluster that is there already."""

    pool: str = pydantic.Field("volumes", description="pool of the volumes")
    user: str = pydantic.Field("cinder", description="Ceph user, without client.")
    conf: str = pydantic.Field(description="the cluster's ceph.conf, beside the site file")
    keyring: str = pydantic.Field(description="the user's keyring file, mode 0600")


class Cinder(Disk):
    """Volumes."""

    size_gib: int = pydantic.Field(20, ge=2, description="size; may grow later, never shrink")
    backend: CinderBackend = pydantic.Field(
        CinderBackend.LVM, description="lvm (on the storage node) or rbd (a Ceph cluster)"
    )
    rbd: Rbd | None = pydantic.Field(None, description="for backend rbd: the Ceph cluster")
    quota_volumes: int = pydantic.Field(10, ge=0, description="volumes a project may have")
    quota_snapshots: int = pydantic.Field(10, ge=0, description="snapshots a project may have")
    quota_gib: int = pydantic.Field(1000, ge=0, description="GiB a project may have in all")


class Swift(Disk):
    """Objects, by Swift's own API and by S3's."""

    disks: int = pydantic.Field(1, ge=1, le=8, description="disks of size_gib each")
    replicas: int = pydantic.Field(1, ge=1, le=8, description="copies, each on another disk")
    s3: bool = pydantic.Field(default=True, description="answer S3 clients too")


class Nfs(Disk):
    """A shared folder for control nodes and compute hosts."""

    squash: Squash = pydantic.Field(
        Squash.ALL, description="all, root or none: which users of clients become nobody"
    )


class Storage(Model):
    """What the storage node serves; at least one."""

    cinder: Cinder | None = pydantic.Field(None, description="volumes (Cinder)")
    swift: Swift | None = pydantic.Field(None, description="objects (Swift)")
    nfs: Nfs | None = pydantic.Field(None, description="a shared folder (NFS)")
    images_in_swift: bool = pydantic.Field(
        default=False, description="Glance keeps new images in Swift"
    )


class DirectoryUser(Model):
    """A user of the own directory."""

    name: Login = pydantic.Field(description="login name")
    full_name: Text | None = pydantic.Field(None, description="default: the login name")
    mail: Text | None = pydantic.Field(None, description="mail address")
    enabled: bool = pydantic.Field(default=True, description="whether it may log in")


class DirectoryGroup(Model):
    """A group of the own directory, and the role its members have in a project."""

    name: Login = pydantic.Field(description="the group's name")
    members: tuple[Login, ...] = pydantic.Field((), description="login names")
    project: Name | None = pydantic.Field(None, description="project its members may use")
    role: str = pydantic.Field("member", description="their role there")


class ExternalDirectory(Model):
    """A directory that somebody else runs; only ever read."""

    preset: DirectoryPreset = pydantic.Field(
        DirectoryPreset.LDAP,
        description="ldap (inetOrgPerson, groupOfNames), freeipa or ad: what the keys below "
        "are where they are not given",
    )
    url: str = pydantic.Field(
        pattern=LDAP_URL_PATTERN,
        description="ldaps://NAME[:PORT], or ldap://NAME[:PORT], which then uses StartTLS",
    )
    ca: str | None = pydantic.Field(
        None, description="its CA's certificate, a PEM file; default: the system's authorities"
    )
    bind_dn: DistinguishedName = pydantic.Field(description="the account that asks")
    bind_password_file: str = pydantic.Field(description="file with its password, mode 0600")
    user_tree: DistinguishedName = pydantic.Field(description="DN below which users are")
    group_tree: DistinguishedName | None = pydantic.Field(
        None, description="DN below which groups are; default: no groups are used"
    )
    user_object_class: Attribute | None = pydantic.Field(None, description="class of users")
    user_id_attribute: Attribute | None = pydantic.Field(
        None, description="what tells users apart for ever"
    )
    user_name_attribute: Attribute | None = pydantic.Field(None, description="the login name")
    user_mail_attribute: Attribute | None = pydantic.Field(None, description="the mail address")
    user_filter: Filter | None = pydantic.Field(
        None, description="only users that fit it, as (memberOf=cn=cloud,ou=groups,dc=example)"
    )
    group_object_class: Attribute | None = pydantic.Field(None, description="class of groups")
    group_id_attribute: Attribute | None = pydantic.Field(
        None, description="what tells groups apart for ever"
    )
    group_name_attribute: Attribute | None = pydantic.Field(None, description="a group's name")
    group_member_attribute: Attribute | None = pydantic.Field(
        None, description="holds the members' DNs"
    )
    group_filter: Filter | None = pydantic.Field(None, description="only groups that fit it")


class Directory(Model):
    """Users and groups in LDAP, as a domain of Keystone's own."""

    provider: DirectoryProvider = pydantic.Field(
        DirectoryProvider.OWN, description="389ds (a node of this cloud) or external"
    )
    domain: Name = pydantic.Field("users", description="the domain's name in Keystone")
    suffix: DistinguishedName = pydantic.Field(
        "dc=cloud,dc=internal", description="base DN of the own one; cannot change later"
    )
    users: tuple[DirectoryUser, ...] = pydantic.Field((), description="users of the own one")
    groups: tuple[DirectoryGroup, ...] = pydantic.Field(
        (), description="groups and their roles; of an external one without members"
    )
    external: ExternalDirectory | None = pydantic.Field(
        None, description="for provider external: how to reach it"
    )


class OwnCertificate(Model):
    """A certificate that the operator brings."""

    certificate: str = pydantic.Field(description="PEM file: the certificate, then its chain")
    key: str = pydantic.Field(description="PEM file with its key, mode 0600")


class FrontDoor(Model):
    """The one entry from outside: APIs, dashboard and consoles, by TLS."""

    address: IPv4Address | None = pydantic.Field(
        None, description="the host's own (default) or one of the public addresses"
    )
    port: Port = pydantic.Field(443, description="HTTPS port")
    http_port: Port = pydantic.Field(80, description="port that redirects to HTTPS")
    hostname: str | None = pydantic.Field(
        None,
        pattern=HOSTNAME_PATTERN,
        description="DNS name, used in URLs and in the certificate; default: the address",
    )
    certificate: OwnCertificate | None = pydantic.Field(
        None, description="default: one from the site's own CA"
    )


class Dashboard(Model):
    """Horizon."""

    session_timeout_s: int = pydantic.Field(
        3600, ge=60, le=86400, description="idle time after which one must log in again"
    )
