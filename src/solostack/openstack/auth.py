"""Who talks to whom with which credentials: names of secrets, URLs, and the sections made of them.

Shared by the service modules. Secrets appear by name only (engine.operations.secret).
"""

from __future__ import annotations

import dataclasses

from solostack.engine.operations import secret
from solostack.openstack.ini import Section, Value
from solostack.plan.model import Plan
from solostack.site.model import Role

ADMIN_PASSWORD = "admin_password"  # noqa: S105  a name, not a value
RABBITMQ_PASSWORD = "rabbitmq_password"  # noqa: S105
METADATA_SECRET = "metadata_proxy_secret"  # noqa: S105
DIRECTORY_BIND_PASSWORD = "directory_bind_password"  # noqa: S105
DIRECTORY_CA = "tls_ca_certificate"
RABBITMQ_USER = "openstack"
SERVICE_PROJECT = "service"
MEMCACHED = "127.0.0.1:11211"
KEYSTONE_PORT = 5000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CatalogService:
    """A service in Keystone's catalogue, with the service user of the same name.

    url is for the internal and admin interface; public_url for the public one, empty: the same.
    """

    name: str
    type: str
    url: str
    public_url: str = ""


def controller_address(plan: Plan) -> str:
    """Return the controller's address on the data network."""
    return str(plan.node(Role.CONTROLLER).data_address)


def service_url(plan: Plan, port: int, path: str = "") -> str:
    """Return the URL of an API on the controller."""
    return f"http://{controller_address(plan)}:{port}{path}"


def public_url(plan: Plan, prefix: str, path: str = "", *, internal: str = "") -> str:
    """Return the public URL of an API that the front door has at prefix (``/volume``).

    Without a front door it is internal, the URL on the data network.
    """
    return internal if plan.front_door is None else f"{plan.front_door.url}{prefix}{path}"


def keystone_url(plan: Plan) -> str:
    """Return Keystone's URL with the API version."""
    return service_url(plan, KEYSTONE_PORT, "/v3")


def user_secret(user: str) -> str:
    """Return the name of the secret that is a service user's Keystone password."""
    return f"{user}_password"


def database_secret(user: str) -> str:
    """Return the name of the secret that is a service's MariaDB password."""
    return f"{user}_db_password"


def service_credentials(plan: Plan, user: str) -> dict[str, Value]:
    """Return the options with which keystoneauth logs in as a service user."""
    return {
        "auth_type": "password",
        "auth_url": keystone_url(plan),
        "project_domain_name": "Default",
        "user_domain_name": "Default",
        "project_name": SERVICE_PROJECT,
        "username": user,
        "password": secret(user_secret(user)),
        "region_name": plan.region,
    }


def keystone_authtoken(plan: Plan, user: str) -> Section:
    """Return [keystone_authtoken]: how an API checks the tokens it is given."""
    return service_credentials(plan, user) | {
        # Told to whoever has no token, and so to those outside.
        "www_authenticate_uri": public_url(plan, "/identity", "/v3", internal=keystone_url(plan)),
        "memcached_servers": MEMCACHED,
        "service_token_roles": SERVICE_PROJECT,
        "service_token_roles_required": True,
    }


def service_user(plan: Plan, user: str) -> Section:
    """Return [service_user]: a service token goes along, so that long work outlives user tokens."""
    return service_credentials(plan, user) | {"send_service_user_token": True}


def proxy_headers(plan: Plan) -> Section:
    """Return [oslo_middleware]: an API believes the front door who asked, and by which URL.

    Then links lead to the front door for those who came by it, and stay inside for the others.
    """
    return {} if plan.front_door is None else {"enable_proxy_headers_parsing": True}


def database(plan: Plan, user: str, name: str = "") -> Section:
    """Return [database] for a database (default: called as its user).

    The pool is small because every process has one; max_retries -1 waits for MariaDB for ever at
    start, as after a power cut everything starts at once.
    """
    address = controller_address(plan)
    password = secret(database_secret(user))
    return {
        "connection": f"mysql+pymysql://{user}:{password}@{address}/{name or user}?charset=utf8mb4",
        "max_pool_size": 5,
        "max_overflow": 20,
        "max_retries": -1,
        "connection_recycle_time": 600,
    }


def transport_url(plan: Plan) -> str:
    """Return the URL of the message queue."""
    password = secret(RABBITMQ_PASSWORD)
    return f"rabbit://{RABBITMQ_USER}:{password}@{controller_address(plan)}:5672/"


def messaging() -> Section:
    """Return [oslo_messaging_rabbit]: one broker, so plain queues that need no agreement."""
    return {"rabbit_quorum_queue": False, "rabbit_retry_interval": 1, "rabbit_interval_max": 5}


def shared_cache() -> Section:
    """Return [cache] on the controller's memcached."""
    return {
        "enabled": True,
        "backend": "oslo_cache.memcache_pool",
        "memcache_servers": MEMCACHED,
    }
