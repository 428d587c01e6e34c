"""Rules about an external directory: each step of a login that may fail, why, what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from solostack.host.check_model import Finding, Look, Subject, error, info, ok, warning
from solostack.host.directory_probe import DirectorySeen, Entries
from solostack.plan.build import home_of
from solostack.site.ldap import ldap_names
from solostack.site.model import Role
from solostack.site.services import ExternalDirectory

_NO_LOGIN = "Keystone could not ask the directory, and nobody in it could log in"
_FILTER = "look at the entries: ldapsearch -H {url} -D '{dn}' -W -b '{tree}'"


def directory_rule(look: Look) -> Iterator[Finding]:
    """Whether an external directory answers as Keystone needs it, asked from where it runs."""
    directory = look.site.directory
    external = None if directory is None else directory.external
    home = home_of(look.site, Role.CONTROLLER)
    if external is None:
        yield ok(Subject.DIRECTORY, "the site uses no directory of somebody else")
        return
    if home is not look.host:
        yield ok(Subject.DIRECTORY, f"{external.url} is asked from {home.name}, not from here")
        return
    seen = look.seen.directory
    if seen is None:
        yield info(
            Subject.DIRECTORY,
            f"{external.url} was not asked",
            why="nobody was there to ask it",
            todo="run solostack check",
        )
    elif seen.step:
        yield _FAILED[seen.step](external, seen)
    else:
        yield from _found(external, seen)


def _found(external: ExternalDirectory, seen: DirectorySeen) -> Iterator[Finding]:
    names = ldap_names(external)
    if seen.users is not None:
        yield ok(Subject.DIRECTORY, f"{external.url} answers: {_counted(seen.users)} users")
        needed = {names.user_id: "user_id_attribute", names.user_name: "user_name_attribute"}
        yield from _lacking(external.user_tree, "users", seen.users, needed)
        if names.enabled is not None and _none_has(seen.users, names.enabled.attribute):
            yield info(
                Subject.DIRECTORY,
                f"no user has {names.enabled.attribute}",
                why="then all count as enabled; where some are locked, this account may not see it",
                todo=f"let {external.bind_dn} read {names.enabled.attribute}",
            )
    if seen.groups is None:
        return
    if not seen.groups.count:
        yield warning(
            Subject.DIRECTORY,
            f"no group below {external.group_tree} fits {names.groups_query}",
            why="roles for groups would reach nobody",
            todo="correct directory.external.group_tree, group_object_class or group_filter",
        )
        return
    yield ok(Subject.DIRECTORY, f"{_counted(seen.groups)} groups")
    needed = {names.group_id: "group_id_attribute", names.group_name: "group_name_attribute"}
    yield from _lacking(external.group_tree or "", "groups", seen.groups, needed)
    if _none_has(seen.groups, names.group_member):
        yield warning(
            Subject.DIRECTORY,
            f"no group has {names.group_member}",
            why="nobody would be in any group",
            todo="correct directory.external.group_member_attribute",
        )


def _lacking(tree: str, what: str, entries: Entries, needed: dict[str, str]) -> Iterator[Finding]:
    for attribute, setting in needed.items():
        count = entries.lacking.get(attribute, 0)
        if count == entries.count:
            yield error(
                Subject.DIRECTORY,
                f"none of the {what} below {tree} has {attribute}",
                why=f"Keystone knows {what} by it",
                todo=f"correct directory.external.{setting}, or let the account read {attribute}",
            )
        elif count:
            yield info(
                Subject.DIRECTORY,
                f"{count} of {entries.count} {what} have no {attribute}",
                why="Keystone leaves them out",
                todo=f"correct directory.external.{setting} if they should be there",
            )


def _none_has(entries: Entries, attribute: str) -> bool:
    return entries.lacking.get(attribute, 0) == entries.count


def _counted(entries: Entries) -> str:
    return str(entries.count) if entries.all else f"{entries.count} or more"


def _unreadable(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    del external
    return error(Subject.DIRECTORY, seen.said, why=_NO_LOGIN, todo=seen.kind)


def _resolve(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    return error(
        Subject.DIRECTORY,
        f"the name in {external.url} is not known there: {seen.said}",
        why=_NO_LOGIN,
        todo="correct directory.external.url, or the host's /etc/resolv.conf or /etc/hosts",
    )


def _connect(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    return error(
        Subject.DIRECTORY,
        f"nothing answers at {external.url}: {seen.said}",
        why=_NO_LOGIN,
        todo="see that the directory runs, that the port is right and that no firewall on the way "
        "keeps the host out",
    )


def _tls(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    todo = {
        "ca": "put the certificate of the authority that signed it into directory.external.ca "
        f"(a PEM file); see it with: openssl s_client -showcerts -connect {_peer(external)}",
        "name": "write the name that the certificate has into directory.external.url; see it with: "
        f"openssl s_client -connect {_peer(external)} | openssl x509 -noout -ext subjectAltName",
        "expired": "have the directory's certificate renewed",
        "not yet": "compare the clocks of host and directory: timedatectl",
        "start": "use ldaps:// in directory.external.url, or let the directory allow StartTLS",
        "protocol": "ldaps:// is for port 636; for port 389 write ldap://, which uses StartTLS",
        "silent": "ldaps:// is for port 636; for port 389 write ldap://, which uses StartTLS",
    }
    return error(
        Subject.DIRECTORY,
        f"no secure connection to {external.url}: {seen.said}",
        why="passwords go over it, so Keystone refuses it",
        todo=todo[seen.kind],
    )


def _bind(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    if seen.kind == "credentials":
        return error(
            Subject.DIRECTORY,
            f"the directory refuses {external.bind_dn}: {seen.said}",
            why=_NO_LOGIN,
            todo=f"correct directory.external.bind_dn, or the password in "
            f"{external.bind_password_file}",
        )
    return error(
        Subject.DIRECTORY,
        f"the directory lets {external.bind_dn} not log in: {seen.said}",
        why=_NO_LOGIN,
        todo="ask who runs the directory whether the account is locked or its password expired",
    )


def _tree(setting: str, external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    tree = external.user_tree if setting == "user_tree" else external.group_tree
    return error(
        Subject.DIRECTORY,
        f"there is no {tree}: {seen.said}",
        why="nobody would be found below it",
        todo=f"correct directory.external.{setting}, or let {external.bind_dn} read it",
    )


def _user_tree(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    return _tree("user_tree", external, seen)


def _group_tree(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    return _tree("group_tree", external, seen)


def _users(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    query = ldap_names(external).users_query
    if seen.kind == "none":
        there = f"classes there: {seen.said}" if seen.said else "nothing at all is seen there"
        return error(
            Subject.DIRECTORY,
            f"no user below {external.user_tree} fits {query}",
            why=f"nobody could log in; {there}",
            todo="correct directory.external.user_object_class or user_filter, or choose another "
            "preset; "
            + _FILTER.format(url=external.url, dn=external.bind_dn, tree=external.user_tree),
        )
    return _search("user_filter", query, seen)


def _groups(external: ExternalDirectory, seen: DirectorySeen) -> Finding:
    return _search("group_filter", ldap_names(external).groups_query, seen)


def _search(setting: str, query: str, seen: DirectorySeen) -> Finding:
    return error(
        Subject.DIRECTORY,
        f"the search {query} fails: {seen.said}",
        why=_NO_LOGIN,
        todo=f"correct directory.external.{setting} (RFC 4515: every part in brackets)",
    )


def _peer(external: ExternalDirectory) -> str:
    place = external.url.partition("://")[2].rstrip("/")
    return place if ":" in place else f"{place}:636"


_FAILED: dict[str, Callable[[ExternalDirectory, DirectorySeen], Finding]] = {
    "credentials": _unreadable,
    "resolve": _resolve,
    "connect": _connect,
    "tls": _tls,
    "bind": _bind,
    "user tree": _user_tree,
    "users": _users,
    "group tree": _group_tree,
    "groups": _groups,
}
