"""Horizon's local_settings.py: Python text, made of the plan. Pure."""

from __future__ import annotations

import pprint
from collections.abc import Mapping

from solostack.engine.operations import secret
from solostack.openstack import auth
from solostack.openstack.programs import DIRECTORY
from solostack.plan.model import FrontDoorPlan, Plan

SECRET_KEY = "horizon_secret_key"  # noqa: S105  a name, not a value
LOCAL_DOMAIN = "Default"
TOKEN_MARGIN_S = 10
DATABASE_TIMEOUT_S = 5
QUIET = (
    "django.request", "keystoneauth", "keystoneclient", "neutronclient", "py.warnings", "requests",
    "urllib3",
)  # fmt: skip

_HEAD = f"""\
# Written by solostack; changes made here are lost at the next apply.
# Read in the middle of openstack_dashboard/settings.py: what stands here beats what precedes there.
import logging
import sys

import pymysql
from openstack_dashboard.settings import MIDDLEWARE as _MIDDLEWARE

sys.path.append("{DIRECTORY}")
# Python's warnings are for those who write Horizon.
logging.captureWarnings(True)
pymysql.install_as_MySQLdb()
MIDDLEWARE = (*_MIDDLEWARE, "horizon_sessions.EndedSessions")
"""


def render_settings(plan: Plan) -> str:
    """Render local_settings.py; raises ValueError for a plan without dashboard or front door."""
    if plan.dashboard is None or plan.front_door is None:
        message = "the plan has no dashboard"
        raise ValueError(message)
    settings = (
        _application(plan)
        | _web(plan.front_door)
        | _sessions(plan, plan.dashboard.session_timeout_s)
        | _identity(plan)
        | _services(plan)
        | {"LOGGING": _logging()}
    )
    lines = (f"{key} = {pprint.pformat(value, width=96)}" for key, value in settings.items())
    return _HEAD + "\n".join(lines) + "\n"


def _application(plan: Plan) -> dict[str, object]:
    return {
        "DEBUG": False,
        "SITE_BRANDING": f"{plan.site} - OpenStack Dashboard",
        "ROOT_URLCONF": "horizon_sessions",
        "WEBROOT": "/",
        "COMPRESS_OFFLINE": True,
        "STATIC_ROOT": "/var/lib/openstack-dashboard/static/",
        "TIME_ZONE": "UTC",
        "SECRET_KEY": secret(SECRET_KEY),
    }


def _web(door: FrontDoorPlan) -> dict[str, object]:
    """Return how browsers and the front door talk to it.

    The token against forged requests is read by Horizon's scripts, so its cookie is not HttpOnly.
    """
    names = tuple(dict.fromkeys((door.hostname or str(door.address), str(door.address))))
    return {
        "ALLOWED_HOSTS": list(names),
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
        "SECURE_PROXY_ADDR_HEADER": "HTTP_X_FORWARDED_FOR",
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_SAMESITE": "Lax",
    }


def _sessions(plan: Plan, timeout_s: int) -> dict[str, object]:
    """Return where sessions are and how long they last.

    In the database alone, not memcached's and not both: they outlive every restart, are signed
    (a cache would load them unsigned), and no page fails because memcached is away. The cache
    of one process serves what little Horizon caches besides.
    """
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.db",
        "SESSION_TIMEOUT": timeout_s,
        "SESSION_COOKIE_AGE": timeout_s,
        "SESSION_REFRESH": True,
        "TOKEN_TIMEOUT_MARGIN": TOKEN_MARGIN_S,
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.mysql",
                "HOST": auth.controller_address(plan),
                "NAME": "horizon",
                "USER": "horizon",
                "PASSWORD": secret(auth.database_secret("horizon")),
                "OPTIONS": {"charset": "utf8mb4", "connect_timeout": DATABASE_TIMEOUT_S},
            }
        },
    }


def _identity(plan: Plan) -> dict[str, object]:
    """Return how to log in; domains are chosen by what they mean where there is more than one."""
    settings: dict[str, object] = {
        "OPENSTACK_KEYSTONE_URL": auth.keystone_url(plan),
        "OPENSTACK_ENDPOINT_TYPE": "internalURL",
        "OPENSTACK_API_VERSIONS": {"identity": 3, "image": 2, "volume": 3, "compute": 2},
        "OPENSTACK_KEYSTONE_DEFAULT_DOMAIN": LOCAL_DOMAIN,
        "OPENSTACK_KEYSTONE_DEFAULT_ROLE": "member",
        "AVAILABLE_REGIONS": [(auth.keystone_url(plan), plan.region)],
    }
    if plan.directory is None:
        return settings
    domain = plan.directory.domain
    return settings | {
        "OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT": True,
        "OPENSTACK_KEYSTONE_DOMAIN_DROPDOWN": True,
        "OPENSTACK_KEYSTONE_DOMAIN_CHOICES": (
            (domain, f"{domain} (directory)"),
            (LOCAL_DOMAIN, f"{LOCAL_DOMAIN} (accounts of this cloud)"),
        ),
    }


def _services(plan: Plan) -> dict[str, object]:
    """Return what the services can do.

    Panels of services that the catalogue lacks hide themselves; the launch form does not, and would
    ask for a volume that nobody can make. Images go from the browser to Glance, which the front
    door has on the same origin, so no cross-origin rules are needed and nothing is stored twice.
    """
    volumes = plan.storage is not None and plan.storage.cinder is not None
    return {
        "LAUNCH_INSTANCE_DEFAULTS": {
            "create_volume": False,
            "hide_create_volume": not volumes,
            "disable_volume": not volumes,
            "disable_volume_snapshot": not volumes,
            "enable_scheduler_hints": False,
        },
        "HORIZON_IMAGES_UPLOAD_MODE": "direct",
        "CONSOLE_TYPE": "VNC",
        "OPENSTACK_NEUTRON_NETWORK": {
            "enable_router": True,
            "enable_quotas": True,
            "enable_ipv6": True,
            "enable_distributed_router": False,
            "enable_ha_router": False,
            "enable_fip_topology_check": True,
            "enable_rbac_policy": True,
            "default_dns_nameservers": [str(server) for server in _name_servers(plan)],
            "supported_provider_types": ["flat", "geneve", "local"],
            "physical_networks": ["external"],
            "supported_vnic_types": ["normal"],
            "show_agents_column": False,
        },
        "OPENSTACK_CINDER_FEATURES": {"enable_backup": False},
    }


def _name_servers(plan: Plan) -> tuple[object, ...]:
    return plan.demo.dns if plan.demo is not None else ()


def _logging() -> Mapping[str, object]:
    """Return what goes to the journal: log-ins, warnings and errors, without tokens."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
        "handlers": {"journal": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"handlers": ["journal"], "level": "WARNING"},
        "loggers": {
            "openstack_auth": {"level": "INFO"},
            "horizon.operation_log": {"level": "INFO"},
            **{name: {"level": "ERROR"} for name in QUIET},
        },
    }
