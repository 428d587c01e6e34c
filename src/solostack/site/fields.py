"""What the models of a site share: their base, and the texts that names and devices may be."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import pydantic

NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$"
DEVICE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"
TITLE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$"
LOGIN_PATTERN = r"^[a-z_][a-z0-9_.-]{0,31}$"
VOLUME_GROUP_PATTERN = r"^[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126}$"
HOSTNAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62}))+$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"

DN_PATTERN = r"^[A-Za-z][A-Za-z0-9-]*=[^,=$\r\n]+(,[A-Za-z][A-Za-z0-9-]*=[^,=$\r\n]+)*$"
"""Of RFC 4514 what is used: no escaped characters."""
LDAP_URL_PATTERN = r"^ldaps?://[A-Za-z0-9.:\[\]-]+/?$"
ATTRIBUTE_PATTERN = r"^[A-Za-z][A-Za-z0-9-]{0,63}$"
FILTER_PATTERN = r"^\([^$\r\n]+\)$"
"""In brackets (RFC 4515), on one line, without the $ that means something in Keystone's files."""

Name = Annotated[str, pydantic.Field(pattern=NAME_PATTERN)]
Port = Annotated[int, pydantic.Field(ge=1, le=65535)]
Device = Annotated[str, pydantic.Field(pattern=DEVICE_PATTERN)]
Title = Annotated[str, pydantic.Field(pattern=TITLE_PATTERN)]
Login = Annotated[str, pydantic.Field(pattern=LOGIN_PATTERN)]
Text = Annotated[str, pydantic.StringConstraints(strip_whitespace=True)]
"""Free text, without the blanks around it."""
DistinguishedName = Annotated[str, pydantic.Field(pattern=DN_PATTERN)]
Attribute = Annotated[str, pydantic.Field(pattern=ATTRIBUTE_PATTERN)]
Filter = Annotated[str, pydantic.Field(pattern=FILTER_PATTERN)]
VolumeGroup = Annotated[str, pydantic.Field(pattern=VOLUME_GROUP_PATTERN)]
"""As lvm(8) allows names of volume groups."""
IPv4Network = ipaddress.IPv4Network
IPv4Address = ipaddress.IPv4Address


class Model(pydantic.BaseModel):
    """Unknown keys are errors, values never change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
