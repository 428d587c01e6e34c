"""Keystone's side of the directory: a domain whose users and groups are in LDAP, only read there.

Assignments (who may do what in which project) and the services' users stay in SQL. A directory that
does not answer holds up one request for a few seconds and nothing else: the administrator is not
in it.
"""

from __future__ import annotations

from solostack.engine.operations import Absent, Directory, File, Operation, Step, secret
from solostack.openstack import auth
from solostack.openstack.ini import Section, Value, render_ini
from solostack.plan.model import Plan
from solostack.site.ldap import OWN, LdapNames, ldap_names, starts_tls
from solostack.site.model import Role
from solostack.site.services import Directory as DirectorySettings
from solostack.site.services import ExternalDirectory

EXTERNAL_CA = "directory_external_ca"
FOLDER = "/etc/keystone/domains"
CA = "/etc/keystone/directory-ca.pem"
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
TIMEOUT_S = 3
PAGE_SIZE = 100


def domain_path(domain: str) -> str:
    """Return where Keystone reads a domain's configuration."""
    return f"{FOLDER}/keystone.{domain}.conf"


def domain_files(plan: Plan) -> tuple[Operation, ...]:
    """Return the files with which Keystone reads the directory; those of another domain go."""
    directory = plan.directory
    if directory is None:
        return (_only("", FOLDER), Absent(path=CA))
    path = domain_path(directory.domain)
    external = directory.external
    ca = secret(auth.DIRECTORY_CA if external is None else EXTERNAL_CA)
    own_ca = external is None or external.ca is not None
    return (
        Directory(path=FOLDER, mode=0o750, group="keystone"),
        *((File(path=CA, content=ca, mode=0o640, group="keystone"),) if own_ca else ()),
        File(path=path, content=render_domain(plan, directory), mode=0o640, group="keystone"),
        _only(path, FOLDER),
    )


def restart_paths(plan: Plan) -> tuple[str, ...]:
    """Return the files that Keystone reads only at its start."""
    return () if plan.directory is None else (domain_path(plan.directory.domain), CA)


def identity_section(plan: Plan) -> Section:
    """Return keystone.conf's [identity]; empty, and so left out, where there is no directory.

    What is known of a user is kept for a minute only: one locked in the directory is soon out.
    """
    if plan.directory is None:
        return {}
    return {
        "domain_specific_drivers_enabled": True,
        "domain_config_dir": FOLDER,
        "cache_time": 60,
    }


def render_domain(plan: Plan, directory: DirectorySettings) -> str:
    """Render the domain's file.

    Without a pool of connections, which costs a few milliseconds: a pooled one stays logged in, so
    that a user's old password would be good for as long as it lives; and when the directory has
    gone or come back, Keystone fails at it in a way that it does not catch, and answers nothing
    at all.
    """
    external = directory.external
    where = _own(plan, directory) if external is None else _external(external)
    names = OWN if external is None else ldap_names(external)
    return render_ini(
        {
            "identity": {"driver": "ldap"},
            "ldap": {
                **where,
                # Quoted, for oslo.config cuts what is around: blanks, and quotes at both ends.
                "password": f'"{secret(auth.DIRECTORY_BIND_PASSWORD)}"',
                "tls_req_cert": "demand",
                "chase_referrals": False,
                "page_size": PAGE_SIZE,
                "connection_timeout": TIMEOUT_S,
                "use_pool": False,
                **_names(names),
            },
        }
    )


def _own(plan: Plan, directory: DirectorySettings) -> Section:
    return {
        "url": f"ldaps://{plan.node(Role.DIRECTORY).name}",
        "user": f"cn=keystone,ou=services,{directory.suffix}",
        "suffix": directory.suffix,
        "query_scope": "one",
        "tls_cacertfile": CA,
        "user_tree_dn": f"ou=people,{directory.suffix}",
        "group_tree_dn": f"ou=groups,{directory.suffix}",
    }


def _external(external: ExternalDirectory) -> Section:
    return {
        "url": external.url,
        "use_tls": starts_tls(external.url),
        "user": external.bind_dn,
        "suffix": external.user_tree,
        "query_scope": "sub",
        "tls_cacertfile": SYSTEM_CA if external.ca is None else CA,
        "user_tree_dn": external.user_tree,
        # Keystone would take a tree of its own invention where none is given.
        "group_tree_dn": external.group_tree or external.user_tree,
    }


def _names(names: LdapNames) -> Section:
    enabled = names.enabled
    users: dict[str, Value] = {
        "user_objectclass": names.user_object_class,
        "user_id_attribute": names.user_id,
        "user_name_attribute": names.user_name,
        "user_mail_attribute": names.user_mail,
        "user_description_attribute": names.user_description,
    }
    if names.user_filter:
        users["user_filter"] = names.user_filter
    if enabled is not None:
        users |= {
            "user_enabled_attribute": enabled.attribute,
            "user_enabled_invert": enabled.invert,
            "user_enabled_mask": enabled.mask,
            "user_enabled_default": enabled.default,
        }
    groups: dict[str, Value] = {
        "group_objectclass": names.group_object_class,
        "group_id_attribute": names.group_id,
        "group_name_attribute": names.group_name,
        "group_member_attribute": names.group_member,
    }
    if names.group_filter:
        groups["group_filter"] = names.group_filter
    return users | groups


def _only(path: str, folder: str) -> Step:
    """Remove the files of other domains: Keystone would go on asking directories of the past."""
    loop = f'for one in {folder}/keystone.*.conf; do\n    case $one in "{path}") ;; *) '
    return Step(
        name="other domains",
        run=f'{loop}rm -f "$one" ;; esac\ndone\n',
        unless=f'{loop}[ ! -e "$one" ] || exit 1 ;; esac\ndone\n',
    )
