"""End all tokens that a user of a domain was given, as Keystone does for users of its own.

A user that is locked, or given another password, in LDAP stays unknown to Keystone: a token that it
gave before is good for its whole life, since a token's user is not looked up when it is checked.
Keystone's API has no call for this; its own managers write the revocation and drop what is cached.

Usage: keystone_revoke.py DOMAIN USER
"""

from __future__ import annotations

import sys

import keystone.conf  # type: ignore[import-not-found]
from keystone import exception, notifications
from keystone.common import provider_api, sql  # type: ignore[import-not-found]
from keystone.server import backends  # type: ignore[import-not-found]

PROVIDERS = provider_api.ProviderAPIs


def configure() -> None:
    """Read /etc/keystone/keystone.conf, as keystone-manage does, and load Keystone's managers."""
    keystone.conf.configure()
    sql.initialize()
    keystone.conf.set_default_for_default_log_levels()
    keystone.conf.CONF(args=[], project="keystone")
    keystone.conf.setup_logging()
    backends.load_backends()


def revoke(domain: str, user: str) -> None:
    """End the user's tokens; nothing to do for one that Keystone has never heard of."""
    domain_id = PROVIDERS.resource_api.get_domain_by_name(domain)["id"]
    try:
        user_id = PROVIDERS.identity_api.get_user_by_name(user, domain_id)["id"]
    except exception.UserNotFound:
        return
    PROVIDERS.revoke_api.revoke_by_user(user_id)
    notifications.invalidate_token_cache_notification(f"{user} is locked or has a new password")


if __name__ == "__main__":
    configure()
    revoke(*sys.argv[1:])
