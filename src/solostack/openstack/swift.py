"""Swift on the storage node: objects on XFS disks, spread by rings that the plan decides.

One process each serves the proxy and the three kinds of data behind it. What Swift otherwise keeps
a dozen more processes for (replication, updates, expiry, audits) runs one after the other in two
passes that timers start, so that it takes no memory while there is nothing to do.
"""

from __future__ import annotations

import json

from solostack.engine.operations import File, Operation, Unit
from solostack.openstack import auth, swift_conf, swift_upkeep
from solostack.openstack.auth import CatalogService
from solostack.openstack.ini import BANNER
from solostack.openstack.once import once, package_files
from solostack.openstack.programs import DIRECTORY, program
from solostack.plan.model import NodePlan, Plan
from solostack.site.model import Role
from solostack.site.services import Swift

PACKAGES = (
    "memcached",
    "rsync",
    "swift-account",
    "swift-container",
    "swift-object",
    "swift-object-expirer",
    "swift-proxy",
    "xfsprogs",
)
UNITS = (
    "memcached.service",
    "swift-account.service",
    "swift-account-auditor.service",
    "swift-account-reaper.service",
    "swift-account-replicator.service",
    "swift-container.service",
    "swift-container-auditor.service",
    "swift-container-replicator.service",
    "swift-container-sharder.service",
    "swift-container-sync.service",
    "swift-container-updater.service",
    "swift-object.service",
    "swift-object-auditor.service",
    "swift-object-expirer.service",
    "swift-object-reconstructor.service",
    "swift-object-replicator.service",
    "swift-object-updater.service",
    "swift-proxy.service",
)
# Debian's packages enable these too; rsyslog would write a second copy of the journal.
OTHER_UNITS = ("rsyslog.service", "swift-container-reconciler.service")
SERVERS = ("account", "container", "object")
KEYSTONE_USER = "swift"

CONF = "/etc/swift"
SWIFT_CONF = f"{CONF}/swift.conf"
RINGS_WANTED = f"{CONF}/solostack-rings.json"
RSYNC_CONF = "/etc/rsyncd.conf"
SYSTEMD = "/etc/systemd/system"
PROXY_DROP_IN = f"{SYSTEMD}/swift-proxy.service.d/solostack.conf"
RINGS = program("swift_rings")
SCHEME = program("forwarded_scheme")

PART_POWER = 10
"""1024 partitions, whatever the number of disks: every object's place depends on it, so it can
never change, and it gives each of the eight disks that a site may have more than a hundred."""
SEED = "solostack"
WEIGHT = 100


def settings(plan: Plan) -> Swift | None:
    """Return what the site says of objects; None when it has none."""
    return None if plan.storage is None else plan.storage.swift


def wanted(plan: Plan) -> bool:
    """Return whether the site has objects."""
    return settings(plan) is not None


def secret_names(plan: Plan) -> tuple[str, ...]:
    """Return the names of secrets besides the service user's password."""
    return (swift_conf.HASH_PREFIX, swift_conf.HASH_SUFFIX) if wanted(plan) else ()


def ports(plan: Plan) -> tuple[int, ...]:
    """Return the TCP ports that answer on the data network."""
    return (swift_conf.PROXY_PORT,) if wanted(plan) else ()


def device_names(swift: Swift) -> tuple[str, ...]:
    """Return the names of the disks: of their devices, mount points and places in the rings."""
    return tuple(f"swift{number + 1}" for number in range(swift.disks))


def proxy_url(plan: Plan, path: str = "") -> str:
    """Return the proxy's URL on the data network."""
    return f"http://{plan.node(Role.STORAGE).data_address}:{swift_conf.PROXY_PORT}{path}"


def catalog_services(plan: Plan) -> tuple[CatalogService, ...]:
    """Return the entries in the catalogue: objects, and where S3 clients find them."""
    swift = settings(plan)
    if swift is None:
        return ()
    account = "/v1/AUTH_%(project_id)s"
    url = proxy_url(plan, account)
    objects = CatalogService(
        name=KEYSTONE_USER,
        type="object-store",
        url=url,
        public_url=auth.public_url(plan, "/object-store", account, internal=url),
    )
    if not swift.s3:
        return (objects,)
    s3_url = proxy_url(plan)
    public = auth.public_url(plan, "", internal=s3_url)
    return (objects, CatalogService(name="s3", type="s3", url=s3_url, public_url=public))


def swift_operations(plan: Plan, node: NodePlan) -> tuple[Operation, ...]:
    """Return files and rings."""
    del node
    swift = settings(plan)
    if swift is None:
        return ()
    return (
        *_files(plan, swift),
        *swift_upkeep.upkeep_files(plan),
        RINGS,
        File(path=RINGS_WANTED, content=render_rings(swift)),
        once(
            "swift-rings",
            f"python3 -I {RINGS.path} {RINGS_WANTED}\n",
            inputs=(RINGS_WANTED, RINGS.path, package_files("python3-swift")),
            results=tuple(f"{CONF}/{kind}.ring.gz" for kind in SERVERS),
        ),
    )


def place_operations(plan: Plan) -> tuple[Operation, ...]:
    """Return what brings objects to the disks that the rings name, once all units run.

    Where there is one disk, everything is there.
    """
    swift = settings(plan)
    if swift is None or swift.disks == 1:
        return ()
    step = once(
        "swift-places",
        swift_upkeep.START,
        inputs=(RINGS_WANTED,),
        timeout_s=swift_upkeep.MOVE_TIMEOUT_S,
    )
    return (step,)


def swift_units(plan: Plan, *, running: bool = True) -> tuple[Operation, ...]:
    """Return the units; off where the site has no objects."""
    swift = settings(plan)
    off = UNITS if swift is None else tuple(name for name in UNITS if name not in _SERVICES)
    unwanted = tuple(Unit(name=name, enabled=False, running=False) for name in (*off, *OTHER_UNITS))
    if swift is None:
        return unwanted
    return (
        *unwanted,
        *(
            Unit(
                name=f"swift-{kind}.service",
                running=running,
                restart_on=(SWIFT_CONF, f"{CONF}/{kind}-server.conf"),
            )
            for kind in SERVERS
        ),
        Unit(
            name="swift-proxy.service",
            running=running,
            restart_on=(SWIFT_CONF, f"{CONF}/proxy-server.conf", SCHEME.path, PROXY_DROP_IN),
        ),
        Unit(
            name="rsync.service",
            enabled=swift.disks > 1,
            running=running and swift.disks > 1,
            restart_on=(RSYNC_CONF,),
        ),
        *swift_upkeep.upkeep_units(running=running),
    )


_SERVICES = (
    "memcached.service",
    "swift-proxy.service",
    *(f"swift-{kind}.service" for kind in SERVERS),
)


def _files(plan: Plan, swift: Swift) -> tuple[Operation, ...]:
    private = {
        SWIFT_CONF: swift_conf.render_swift_conf(),
        f"{CONF}/proxy-server.conf": swift_conf.render_proxy(plan, swift),
        **{f"{CONF}/{kind}-server.conf": swift_conf.render_server(plan, kind) for kind in SERVERS},
        f"{CONF}/object-expirer.conf": swift_conf.render_expirer(),
        f"{CONF}/internal-client.conf": swift_conf.render_internal_client(),
    }
    return (
        *(
            File(path=path, content=content, mode=0o640, group=swift_conf.USER)
            for path, content in private.items()
        ),
        File(path=RSYNC_CONF, content=swift_conf.render_rsync()),
        SCHEME,
        File(
            path=PROXY_DROP_IN,
            content=f"{BANNER}[Service]\nEnvironment=PYTHONPATH={DIRECTORY}\n",
        ),
    )


def render_rings(swift: Swift) -> str:
    """Render what swift_rings.py makes the rings of: all that they depend on."""
    value = {
        "address": swift_conf.BACKEND_ADDRESS,
        "devices": [{"name": name, "weight": WEIGHT} for name in device_names(swift)],
        "part_power": PART_POWER,
        "ports": swift_conf.PORTS,
        "replicas": swift.replicas,
        "seed": SEED,
    }
    return json.dumps(value, indent=1) + "\n"
