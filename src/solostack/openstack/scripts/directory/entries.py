"""The entries: where people and groups are, who may read them, and those that the site names.

What the site says of a user is compared with what it said last (kept in the entry), so that what
was changed since by a command stays: a password always, a lock until the site says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from .server import Server, Values, can_bind

NOTE = "businessCategory"
"""The attribute, allowed for people and groups alike, that holds our note."""
MARK = "solostack site "
"""Begins the note on a user or group that the site names; what it said follows as JSON."""
PERSON = ("top", "person", "organizationalPerson", "inetOrgPerson")
GROUP = ("top", "groupOfNames")
POLICY = "cn=nsPwPolicyContainer"

Wanted = Mapping[str, Any]
Entry = Mapping[str, Sequence[str]]


class Tree:
    """Where things are below a suffix."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix
        self.people = f"ou=people,{suffix}"
        self.groups = f"ou=groups,{suffix}"
        self.services = f"ou=services,{suffix}"
        self.keystone = f"cn=keystone,{self.services}"
        self.admin = f"cn=solostack,{self.services}"

    def user(self, name: str) -> str:
        """Return a user's DN; names hold nothing that must be escaped (checked by callers)."""
        return f"uid={name},{self.people}"

    def group(self, name: str) -> str:
        """Return a group's DN."""
        return f"cn={name},{self.groups}"


def ensure_entries(server: Server, wanted: Wanted) -> None:
    """Make everything of the directory's contents that the site decides."""
    tree = Tree(wanted["suffix"])
    _ensure_folders(server, tree)
    _ensure_keystone(server, tree, wanted["keystone_password"])
    users = {user["name"]: user for user in wanted["users"]}
    for user in users.values():
        _ensure_user(server, tree, user)
    _lock_former_users(server, tree, users)
    for group in wanted["groups"]:
        _ensure_group(server, tree, group, users)
    _leave_former_groups(server, tree, {group["name"] for group in wanted["groups"]})


def _ensure_folders(server: Server, tree: Tree) -> None:
    for dn, name in ((tree.people, "people"), (tree.groups, "groups"), (tree.services, "services")):
        server.ensure_entry(dn, {"objectClass": ["top", "organizationalUnit"], "ou": [name]})
    server.ensure_entry(tree.admin, {"objectClass": ["top", "applicationProcess",
        "simpleSecurityObject"], "cn": ["solostack"], "userPassword": ["{CRYPT}*"]})  # fmt: skip
    base = _allow("dc || o || ou || objectClass", "keystone base", "read, search, compare",
                  tree.keystone)  # fmt: skip
    server.ensure_values(tree.suffix, {"aci": [base]}, tell="rights")
    read, every = "read, search, compare", "all"
    people = "uid || cn || sn || givenName || mail || description || objectClass || memberOf"
    server.ensure_values(
        tree.people,
        {"aci": [
            _allow(f"{people} || nsAccountLock || ou", "keystone people", read, tree.keystone),
            _allow("*", "solostack people", every, tree.admin),
            '(targetattr="userPassword")(version 3.0; acl "own password"; '
            'allow (write) (userdn="ldap:///self");)',
        ]},
        tell="rights",
    )  # fmt: skip
    server.ensure_values(
        tree.groups,
        {"aci": [
            _allow("cn || ou || member || description || objectClass", "keystone groups", read,
                   tree.keystone),
        ]},
        tell="rights",
    )  # fmt: skip


def _allow(attributes: str, name: str, rights: str, who: str) -> str:
    return (
        f'(targetattr="{attributes}")(version 3.0; acl "{name}"; '
        f'allow ({rights}) (userdn="ldap:///{who}");)'
    )


def _ensure_keystone(server: Server, tree: Tree, password: str) -> None:
    """Keystone's account may only read, and wrong passwords never lock it: that would be all."""
    container = f"{POLICY},{tree.services}"
    policy = f"cn=steady,{container}"
    server.ensure_entry(container, {"objectClass": ["top", "nsContainer"],
                                    "cn": ["nsPwPolicyContainer"]})  # fmt: skip
    server.ensure_entry(policy, {
        "objectClass": ["top", "ldapsubentry", "passwordpolicy"],
        "cn": ["steady"], "passwordLockout": ["off"], "passwordExp": ["off"],
        "passwordCheckSyntax": ["off"],
    })  # fmt: skip
    classes = ["top", "applicationProcess", "simpleSecurityObject"]
    values: Values = {"objectClass": classes, "cn": ["keystone"], "userPassword": [password]}
    if not server.ensure_entry(tree.keystone, values) and not can_bind(tree.keystone, password):
        server.changes.append(f"password of {tree.keystone}")
        if not server.dry_run:
            server.modify(tree.keystone, {"userPassword": [password], "nsAccountLock": []})
    server.ensure_values(tree.keystone, {"pwdpolicysubentry": [policy]})


def _ensure_user(server: Server, tree: Tree, user: Wanted) -> None:
    dn, said = tree.user(user["name"]), MARK + json.dumps({"enabled": user["enabled"]})
    lock: Sequence[str] = [] if user["enabled"] else ["TRUE"]
    values: dict[str, Sequence[str]] = {**described(user), NOTE: [said]}
    new = {**values, "objectClass": PERSON, "uid": [user["name"]], "nsAccountLock": lock,
           "userPassword": [user["password"]]}  # fmt: skip
    if server.ensure_entry(dn, {name: each for name, each in new.items() if each}):
        return
    there = server.read(dn, (NOTE,)) or {}
    if there.get(NOTE.lower()) != [said]:
        values["nsAccountLock"] = lock
    server.ensure_values(dn, values)


def described(user: Wanted) -> Values:
    """Return a user's names and mail address; blanks are no name and no address."""
    full_name = (user["full_name"] or "").strip() or user["name"]
    mail = (user["mail"] or "").strip()
    return {"cn": [full_name], "sn": [full_name.split()[-1]], "mail": [mail] if mail else []}


def _lock_former_users(server: Server, tree: Tree, users: Mapping[str, object]) -> None:
    """Lock whom the site named once and does not any more; only a command deletes somebody."""
    for dn, entry in site_entries(server, tree.people, "inetOrgPerson"):
        if entry["uid"][0] not in users:
            server.ensure_values(dn, {"nsAccountLock": ["TRUE"], NOTE: []}, tell="lock")


def site_entries(server: Server, dn: str, kind: str) -> list[tuple[str, dict[str, list[str]]]]:
    """Return the entries below dn that carry the site's mark."""
    if server.read(dn, ("1.1",)) is None:
        return []
    rows = server.children(dn, kind, ("uid", "cn", "member", NOTE))
    return [row for row in rows if row[1].get(NOTE.lower(), [""])[0].startswith(MARK)]


def _ensure_group(server: Server, tree: Tree, group: Wanted, users: Mapping[str, object]) -> None:
    """The site decides about the members that it names or named; others are left in the group."""
    dn, members = tree.group(group["name"]), [tree.user(name) for name in group["members"]]
    said = MARK + json.dumps({"members": sorted(group["members"])})
    new = {"objectClass": GROUP, "cn": [group["name"]], NOTE: [said], "member": members}
    if server.ensure_entry(dn, {name: each for name, each in new.items() if each}):
        return
    there = server.read(dn, ("member", NOTE)) or {}
    kept = _members_without(there, tree, (*_members_said(there), *users))
    server.ensure_values(dn, {"member": [*members, *kept], NOTE: [said]})


def _leave_former_groups(server: Server, tree: Tree, groups: Set[str]) -> None:
    """Take whom the site put into a group out of it once the site does not name it any more.

    Else they would keep what the group may do, as a role in a project, and nothing would show it.
    """
    for dn, entry in site_entries(server, tree.groups, "groupOfNames"):
        if entry["cn"][0] not in groups:
            kept = _members_without(entry, tree, _members_said(entry))
            server.ensure_values(dn, {"member": kept, NOTE: []}, tell="members")


def _members_said(group: Entry) -> Sequence[str]:
    """Return the names of those whom the site said to be in a group, by its note."""
    note = group.get(NOTE.lower(), [""])[0]
    return json.loads(note.removeprefix(MARK))["members"] if note.startswith(MARK) else ()


def _members_without(group: Entry, tree: Tree, names: Sequence[str]) -> list[str]:
    without = {tree.user(name).lower() for name in names}
    return [member for member in group.get("member", []) if member.lower() not in without]
