"""Databases of services: who owns which, and how a schema is built so that a kill does no harm."""

from __future__ import annotations

import dataclasses

from solostack.engine.operations import Step
from solostack.openstack.once import once, package_files

BUILDING = "/var/lib/solostack/building"
DATA = "/var/lib/mysql"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUser:
    """A MariaDB user and the databases it owns."""

    name: str
    databases: tuple[str, ...]


def schema_step(
    user: DatabaseUser, sync: str, *, package: str, inputs: tuple[str, ...] = ()
) -> Step:
    """Build the step that makes a service's databases and brings their schema up to date.

    sync is the command that does it; it runs again after an upgrade of package and after a change
    of inputs (paths). MariaDB cannot roll back the making of tables, so a migration killed half-way
    fails for ever after with "table exists". Therefore a mark on disk says that databases are being
    built for the first time; where it is found, they hold nothing of worth and are dropped. A
    database that was complete once is never dropped.
    """
    mark = f"{BUILDING}/{user.name}"
    directories = tuple(f"{DATA}/{name}" for name in user.databases)
    drop = "".join(f"DROP DATABASE IF EXISTS `{name}`;\n" for name in user.databases)
    create = "".join(f"CREATE DATABASE IF NOT EXISTS `{name}`;\n" for name in user.databases)
    script = f"""\
mkdir -p {BUILDING}
if ! {{ {" || ".join(f"[ -d {path} ]" for path in directories)}; }}; then
    touch {mark}
    sync {mark}
fi
if [ -e {mark} ]; then
    mariadb <<'SQL'
KILL HARD USER {user.name};
{drop}SQL
fi
mariadb <<'SQL'
{create}SQL
{sync.rstrip()}
rm -f {mark}
"""
    return once(
        f"{user.name}-schema",
        script,
        inputs=(package_files(package), *inputs),
        results=directories,
        timeout_s=1800,
    )
