"""What a directory calls things: classes and attributes of users and groups, by kind of directory.

Keystone's configuration and the look of `check` both come from here, so that what is checked is
what Keystone will ask. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from solostack.site.services import DirectoryPreset, ExternalDirectory

SECURE_PREFIX = "ldaps://"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EnabledRule:
    """How a directory says that a user may log in.

    attribute is true for enabled users, with invert for locked ones; with mask it is a number in
    which that bit is set for locked ones (AD's userAccountControl). default counts where an entry
    lacks the attribute.
    """

    attribute: str
    invert: bool = False
    mask: int = 0
    default: str = "True"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LdapNames:
    """Classes and attributes. Filters are LDAP filters (RFC 4515), empty for none."""

    user_object_class: str = "inetOrgPerson"
    user_id: str = "uid"
    user_name: str = "uid"
    user_mail: str = "mail"
    user_description: str = "cn"
    user_filter: str = ""
    enabled: EnabledRule | None = None
    group_object_class: str = "groupOfNames"
    group_id: str = "cn"
    group_name: str = "cn"
    group_member: str = "member"
    group_filter: str = ""

    @property
    def users_query(self) -> str:
        """The filter by which users are found, class included."""
        return f"(&(objectClass={self.user_object_class}){self.user_filter})"

    @property
    def groups_query(self) -> str:
        """The filter by which groups are found, class included."""
        return f"(&(objectClass={self.group_object_class}){self.group_filter})"

    @property
    def user_attributes(self) -> tuple[str, ...]:
        """The attributes read of a user, the ones that every user must have first."""
        more = () if self.enabled is None else (self.enabled.attribute,)
        return tuple(dict.fromkeys((self.user_id, self.user_name, self.user_mail, *more)))

    @property
    def group_attributes(self) -> tuple[str, ...]:
        """The attributes read of a group."""
        return tuple(dict.fromkeys((self.group_id, self.group_name, self.group_member)))


_LOCKED = EnabledRule(attribute="nsAccountLock", invert=True, default="False")
OWN = LdapNames(enabled=_LOCKED)
"""What the directory node has."""
# FreeIPA's own attribute for a locked account; groups as its plugin of that name shows them.
_FREEIPA = LdapNames(user_object_class="person", enabled=_LOCKED, group_object_class="ipaUserGroup")
# Computers are of class user too in AD, and of another category. Bit 2: ACCOUNTDISABLE.
_AD = LdapNames(
    user_object_class="person",
    user_id="cn",
    user_name="sAMAccountName",
    user_description="displayName",
    user_filter="(objectCategory=person)",
    enabled=EnabledRule(attribute="userAccountControl", mask=2, default="512"),
    group_object_class="group",
    group_name="sAMAccountName",
)
PRESETS = {
    DirectoryPreset.LDAP: LdapNames(),
    DirectoryPreset.FREEIPA: _FREEIPA,
    DirectoryPreset.AD: _AD,
}


def ldap_names(external: ExternalDirectory) -> LdapNames:
    """Return the names of an external directory: its preset's, but for those the site gives."""
    given = {
        "user_object_class": external.user_object_class,
        "user_id": external.user_id_attribute,
        "user_name": external.user_name_attribute,
        "user_mail": external.user_mail_attribute,
        "user_filter": external.user_filter,
        "group_object_class": external.group_object_class,
        "group_id": external.group_id_attribute,
        "group_name": external.group_name_attribute,
        "group_member": external.group_member_attribute,
        "group_filter": external.group_filter,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PRESETS[external.preset], **changes)


def starts_tls(url: str) -> bool:
    """Return whether a connection becomes secure by StartTLS; without either none is made."""
    return not url.lower().startswith(SECURE_PREFIX)
