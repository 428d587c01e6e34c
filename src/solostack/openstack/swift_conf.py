"""The text of Swift's configuration files: what each server and daemon of the node is told."""

from __future__ import annotations

from solostack.engine.operations import secret
from solostack.openstack import auth
from solostack.openstack.ini import BANNER, Section, Value, render_ini
from solostack.plan.model import Plan
from solostack.site.services import Swift

USER = "swift"
PROXY_PORT = 8080
BACKEND_ADDRESS = "127.0.0.1"
"""Account, container and object servers ask nobody for a password; only the proxy needs them."""
PORTS = {"account": 6202, "container": 6201, "object": 6200}
DEVICES = "/srv/node"
MEMCACHED = "127.0.0.1:11211"
INTERNAL_CLIENT_CONF = "/etc/swift/internal-client.conf"
HASH_PREFIX = "swift_hash_path_prefix"
HASH_SUFFIX = "swift_hash_path_suffix"

OPERATOR_ROLES = ("admin", "member")
KEYSTONE_TIMEOUT_S = 30
# The proxy waits for the servers of its own node; under emulation each answer takes its time.
CONNECT_TIMEOUT_S = 5
NODE_TIMEOUT_S = 60
SUPPRESSION_S = 5

_PIPELINE = (
    "catch_errors", "gatekeeper", "healthcheck", "forwarded-scheme", "proxy-logging", "cache",
    "listing_formats", "bulk", "tempurl", "authtoken", "S3", "keystoneauth", "copy",
    "container-quotas", "account-quotas", "slo", "dlo", "versioned_writes", "symlink",
    "proxy-logging", "proxy-server",
)  # fmt: skip
_S3_FILTERS = ("s3api", "s3token")
_DAEMONS = {
    "account": ("auditor", "reaper", "replicator"),
    "container": ("auditor", "replicator", "updater"),
    "object": ("auditor", "replicator", "updater"),
}


def render_swift_conf() -> str:
    """Render swift.conf.

    Prefix and suffix are hashed into where every object lies: whoever does not know them cannot
    make names that crowd one partition, and who loses them loses every object.
    """
    return render_ini(
        {
            "swift-hash": {
                "swift_hash_path_prefix": secret(HASH_PREFIX),
                "swift_hash_path_suffix": secret(HASH_SUFFIX),
            },
            "storage-policy:0": {"name": "Policy-0", "default": True},
        }
    )


def render_proxy(plan: Plan, swift: Swift) -> str:
    """Render proxy-server.conf.

    request_node_count makes a read look at every disk before it says that an object is not there:
    after a disk was added, partitions are on their way to it for a while.
    error_suppression_interval: a disk that said once that it is full or not mounted is not asked
    again for so long, by default a minute; where there is one disk, that is the whole store.
    """
    app: Section = {
        "use": "egg:swift#proxy",
        "account_autocreate": True,
        "allow_account_management": False,
        "conn_timeout": CONNECT_TIMEOUT_S,
        "node_timeout": NODE_TIMEOUT_S,
        "error_suppression_interval": SUPPRESSION_S,
        "request_node_count": max(2, swift.disks),
    }
    return render_ini(
        {
            "DEFAULT": {
                "bind_ip": "0.0.0.0",  # noqa: S104  inside the node, on the data network only
                "bind_port": PROXY_PORT,
                "workers": workers(plan),
                "user": USER,
                "log_name": "swift-proxy",
            },
            "pipeline:main": {"pipeline": " ".join(pipeline(s3=swift.s3))},
            "app:proxy-server": app,
            **_plain_filters(),
            "filter:authtoken": _authtoken(plan),
            "filter:keystoneauth": {
                "use": "egg:swift#keystoneauth",
                "operator_roles": OPERATOR_ROLES,
                "project_reader_roles": "reader",
                "reseller_admin_role": "admin",
            },
            **(_s3_filters(plan) if swift.s3 else {}),
        }
    )


def pipeline(*, s3: bool) -> tuple[str, ...]:
    """Return the proxy's filters in order.

    authtoken comes before s3api, as s3token relies on finding no headers that the client made up.
    """
    names: list[str] = []
    for name in _PIPELINE:
        names += [name] if name != "S3" else _S3_FILTERS if s3 else ()
    return tuple(names)


def _plain_filters() -> dict[str, Section]:
    settings: dict[str, Section] = {
        "catch_errors": {},
        "gatekeeper": {},
        "healthcheck": {},
        "proxy-logging": {"use": "egg:swift#proxy_logging"},
        "cache": {"use": "egg:swift#memcache", "memcache_servers": MEMCACHED},
        "listing_formats": {},
        "bulk": {},
        "tempurl": {},
        "copy": {},
        "container-quotas": {"use": "egg:swift#container_quotas"},
        "account-quotas": {"use": "egg:swift#account_quotas"},
        "slo": {},
        "dlo": {},
        "versioned_writes": {"allow_versioned_writes": True, "allow_object_versioning": True},
        "symlink": {},
    }
    filters = {
        f"filter:{name}": {"use": f"egg:swift#{name}", **section}
        for name, section in settings.items()
    }
    scheme: Section = {"paste.filter_factory": "forwarded_scheme:filter_factory"}
    return {**filters, "filter:forwarded-scheme": scheme}


def _authtoken(plan: Plan) -> Section:
    # delay_auth_decision lets requests without a token through to keystoneauth, which alone knows
    # of public containers and of signed URLs.
    options: dict[str, Value] = {
        "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
        **auth.keystone_authtoken(plan, USER),
        "delay_auth_decision": True,
        "cache": "swift.cache",
        "include_service_catalog": False,
        "http_connect_timeout": KEYSTONE_TIMEOUT_S,
    }
    del options["memcached_servers"]
    return options


def _s3_filters(plan: Plan) -> dict[str, Section]:
    # Keystone checks S3 signatures only for callers that log in themselves (OSSA-2025-002).
    return {
        "filter:s3api": {"use": "egg:swift#s3api", "location": plan.region},
        "filter:s3token": {
            "use": "egg:swift#s3token",
            "reseller_prefix": "AUTH_",
            "delay_auth_decision": True,
            "auth_uri": auth.keystone_url(plan),
            "http_timeout": KEYSTONE_TIMEOUT_S,
            **auth.service_credentials(plan, USER),
        },
    }


def workers(plan: Plan) -> int:
    """Return how many processes a server forks; 0 serves from the one that is there."""
    return plan.workers if plan.workers > 1 else 0


def render_server(plan: Plan, kind: str) -> str:
    """Render KIND-server.conf, of account, container or object: its server and its daemons.

    mount_check keeps data off the root file system where a disk is not mounted; fallocate_reserve
    refuses objects before a disk is so full that its databases break.
    """
    # The default of 1 s for a container's listing leaves it behind on a busy machine.
    updates: Section = {"container_update_timeout": NODE_TIMEOUT_S} if kind == "object" else {}
    return render_ini(
        {
            "DEFAULT": {
                "bind_ip": BACKEND_ADDRESS,
                "bind_port": PORTS[kind],
                "workers": workers(plan) if kind == "object" else 0,
                "user": USER,
                "devices": DEVICES,
                "mount_check": True,
                "fallocate_reserve": "2%",
                "conn_timeout": CONNECT_TIMEOUT_S,
                "node_timeout": NODE_TIMEOUT_S,
                **updates,
                "log_name": f"swift-{kind}",
            },
            "pipeline:main": {"pipeline": f"healthcheck recon {kind}-server"},
            f"app:{kind}-server": {"use": f"egg:swift#{kind}", "log_requests": False},
            "filter:healthcheck": {"use": "egg:swift#healthcheck"},
            "filter:recon": {"use": "egg:swift#recon"},
            **{
                f"{kind}-{daemon}": {"log_name": f"swift-{kind}-{daemon}"}
                for daemon in _DAEMONS[kind]
            },
        }
    )


def render_expirer() -> str:
    """Render object-expirer.conf."""
    return render_ini(
        {
            "DEFAULT": {"user": USER, "log_name": "swift-object-expirer"},
            "object-expirer": {"internal_client_conf_path": INTERNAL_CLIENT_CONF},
        }
    )


def render_internal_client() -> str:
    """Render internal-client.conf: the proxy inside the expirer, which asks nobody for a token."""
    names = ("catch_errors", "cache", "symlink")
    return render_ini(
        {
            "DEFAULT": {"user": USER, "log_name": "swift-internal-client"},
            "pipeline:main": {"pipeline": " ".join((*names, "proxy-server"))},
            "app:proxy-server": {
                "use": "egg:swift#proxy",
                "account_autocreate": True,
                "conn_timeout": CONNECT_TIMEOUT_S,
                "node_timeout": NODE_TIMEOUT_S,
            },
            "filter:catch_errors": {"use": "egg:swift#catch_errors"},
            "filter:cache": {"use": "egg:swift#memcache", "memcache_servers": MEMCACHED},
            "filter:symlink": {"use": "egg:swift#symlink"},
        }
    )


def render_rsync() -> str:
    """Render rsyncd.conf: how replicas get from disk to disk (Swift's rsyncd.conf sample)."""
    modules = "".join(
        f"\n[{kind}]\npath = {DEVICES}\nread only = false\nmax connections = 4\n"
        f"lock file = /run/rsync-{kind}.lock\n"
        for kind in PORTS
    )
    return (
        f"{BANNER}uid = {USER}\ngid = {USER}\naddress = {BACKEND_ADDRESS}\n"
        f"reverse lookup = false\n{modules}"
    )
