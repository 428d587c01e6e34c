"""Keystone's schema, keys, bootstrap and catalogue, in one process.

Each run of keystone-manage costs seconds of imports, and each call of the command line client as
many again; Keystone's own managers do the same work in one process and need no running API.
Every part leaves alone what is already as wanted, so the program can be run at any time.

Usage: keystone_setup.py WANTED.json
"""

from __future__ import annotations

import json
import pathlib
import pwd
import sys
import uuid

import keystone.conf  # type: ignore[import-not-found]
from keystone import exception
from keystone.cmd import bootstrap  # type: ignore[import-not-found]
from keystone.common import (  # type: ignore[import-not-found]
    driver_hints,
    fernet_utils,
    provider_api,
    sql,
)
from keystone.common.sql import upgrades  # type: ignore[import-not-found]
from keystone.credential.providers import (  # type: ignore[import-not-found]
    fernet as credential_fernet,
)

CONF = keystone.conf.CONF
PROVIDERS = provider_api.ProviderAPIs
DOMAIN = "default"
INTERFACES = ("public", "internal", "admin")


def configure() -> None:
    """Read /etc/keystone/keystone.conf, as keystone-manage does."""
    keystone.conf.configure()
    sql.initialize()
    keystone.conf.set_default_for_default_log_levels()
    CONF(args=[], project="keystone")
    keystone.conf.setup_logging()


def ensure_keys() -> None:
    """Make the Fernet keys of tokens and credentials where there are none."""
    owner = pwd.getpwnam("keystone")
    repositories = (
        (CONF.fernet_tokens.key_repository, CONF.fernet_tokens.max_active_keys, "fernet_tokens"),
        (CONF.credential.key_repository, credential_fernet.MAX_ACTIVE_KEYS, "credential"),
    )
    for path, max_active_keys, group in repositories:
        keys = fernet_utils.FernetUtils(path, max_active_keys, group)
        keys.create_key_directory(owner.pw_uid, owner.pw_gid)
        if keys.validate_key_repository(requires_write=True):
            keys.initialize_key_repository(owner.pw_uid, owner.pw_gid)


def ensure_admin(wanted: dict[str, str]) -> tuple[str, str]:
    """Make domain, roles, admin and Keystone's service; return the service role's and its id."""
    work = bootstrap.Bootstrapper()
    work.admin_username = "admin"
    work.admin_password = wanted["admin_password"]
    work.project_name = "admin"
    work.admin_role_name = "admin"
    work.service_name = "keystone"
    work.region_id = wanted["region"]
    work.internal_url = work.admin_url = wanted["url"]
    work.public_url = wanted["public_url"]
    work.immutable_roles = True
    work.bootstrap()
    return str(work.service_role_id), str(work.service_id)


def ensure_domain(name: str) -> None:
    """Make a domain; who is in it is said by its file in /etc/keystone/domains."""
    try:
        PROVIDERS.resource_api.get_domain_by_name(name)
    except exception.DomainNotFound:
        domain = {"id": uuid.uuid4().hex, "name": name, "enabled": True}
        PROVIDERS.resource_api.create_domain(domain["id"], domain)


def ensure_project(name: str) -> str:
    """Make a project of the default domain; return its id."""
    try:
        return str(PROVIDERS.resource_api.get_project_by_name(name, DOMAIN)["id"])
    except exception.ProjectNotFound:
        project = {"id": uuid.uuid4().hex, "name": name, "domain_id": DOMAIN, "enabled": True}
        return str(PROVIDERS.resource_api.create_project(project["id"], project)["id"])


def ensure_user(name: str, password: str) -> str:
    """Make a user with this password, or give it this password; return its id."""
    try:
        user = PROVIDERS.identity_api.get_user_by_name(name, DOMAIN)
    except exception.UserNotFound:
        wanted = {"name": name, "domain_id": DOMAIN, "password": password, "enabled": True}
        return str(PROVIDERS.identity_api.create_user(wanted)["id"])
    try:
        PROVIDERS.identity_api.driver.authenticate(user["id"], password)
    except AssertionError:
        PROVIDERS.identity_api.update_user(user["id"], {"password": password})
    return str(user["id"])


def ensure_role(user: str, project: str, role: str) -> None:
    """Give a user a role in a project."""
    if role not in PROVIDERS.assignment_api.get_roles_for_user_and_project(user, project):
        PROVIDERS.assignment_api.add_role_to_user_and_project(user, project, role)


def role_id(name: str) -> str:
    """Return the id of a role of all domains."""
    hints = driver_hints.Hints()
    hints.add_filter("name", name)
    hints.add_filter("domain_id", None)
    return str(PROVIDERS.role_api.list_roles(hints)[0]["id"])


def ensure_service(name: str, kind: str) -> str:
    """Make a service of the catalogue; return its id."""
    for service in PROVIDERS.catalog_api.list_services():
        if service["name"] == name and service["type"] == kind:
            return str(service["id"])
    service = {"id": uuid.uuid4().hex, "name": name, "type": kind, "enabled": True}
    return str(PROVIDERS.catalog_api.create_service(service["id"], service)["id"])


def ensure_endpoints(service: str, region: str, url: str, public_url: str) -> None:
    """Give a service its three endpoints in a region, or move them to these URLs."""
    urls = {"public": public_url, "internal": url, "admin": url}
    there = {
        endpoint["interface"]: endpoint
        for endpoint in PROVIDERS.catalog_api.list_endpoints()
        if endpoint["service_id"] == service and endpoint["region_id"] == region
    }
    for interface in INTERFACES:
        if interface not in there:
            endpoint = {
                "id": uuid.uuid4().hex,
                "interface": interface,
                "service_id": service,
                "region_id": region,
                "url": urls[interface],
                "enabled": True,
            }
            PROVIDERS.catalog_api.create_endpoint(endpoint["id"], endpoint)
        elif there[interface]["url"] != urls[interface]:
            changed = {"url": urls[interface]}
            PROVIDERS.catalog_api.update_endpoint(there[interface]["id"], changed)


def main() -> None:
    """Do everything, in the only order there is."""
    wanted = json.loads(pathlib.Path(sys.argv[1]).read_text())
    configure()
    upgrades.offline_sync_database_to_version()
    ensure_keys()
    service_role, keystone_service = ensure_admin(wanted)
    # The bootstrap makes endpoints that are not there, and moves none.
    ensure_endpoints(keystone_service, wanted["region"], wanted["url"], wanted["public_url"])
    admin_role = role_id("admin")
    for domain in wanted["domains"]:
        ensure_domain(domain)
    project = ensure_project(wanted["project"])
    for service in wanted["services"]:
        user = ensure_user(service["name"], service["password"])
        for role in (admin_role, service_role):
            ensure_role(user, project, role)
        ident = ensure_service(service["name"], service["type"])
        ensure_endpoints(ident, wanted["region"], service["url"], service["public_url"])


main()
