"""MariaDB on the controller: small, on the data network, one user per service."""

from __future__ import annotations

from solostack.engine.operations import File, Operation, Unit, secret
from solostack.openstack.auth import database_secret
from solostack.openstack.ini import render_ini
from solostack.openstack.once import once
from solostack.openstack.schema import DatabaseUser
from solostack.plan.model import Plan

PACKAGES = ("mariadb-server",)
UNITS = ("mariadb.service",)
SERVER_CNF = "/etc/mysql/mariadb.conf.d/50-server.cnf"
USERS_SQL = "/etc/mysql/solostack-users.sql"


def database_operations(plan: Plan, users: tuple[DatabaseUser, ...]) -> tuple[Operation, ...]:
    """Return the server's configuration and all users with their rights."""
    return (
        File(path=SERVER_CNF, content=render_server_cnf()),
        Unit(name="mariadb.service", restart_on=(SERVER_CNF,)),
        File(path=USERS_SQL, content=render_users(plan, users), mode=0o600),
        once("mariadb-users", f"mariadb <{USERS_SQL}\n", inputs=(USERS_SQL,)),
    )


def render_server_cnf() -> str:
    """Render the server's options for a small cloud: some 500 connections in little memory."""
    return render_ini(
        {
            "mariadbd": {
                "pid-file": "/run/mysqld/mysqld.pid",
                "basedir": "/usr",
                "bind-address": "0.0.0.0",  # noqa: S104  inside the node, on the data network only
                "skip-name-resolve": "ON",
                "character-set-server": "utf8mb4",
                "collation-server": "utf8mb4_general_ci",
                "max_connections": 500,
                "performance_schema": "OFF",
                "innodb_buffer_pool_size": "64M",
                "innodb_log_buffer_size": "8M",
                "key_buffer_size": "4M",
                "aria_pagecache_buffer_size": "8M",
                "tmp_table_size": "8M",
                "max_heap_table_size": "8M",
                "table_open_cache": 1000,
                "thread_cache_size": 16,
            }
        }
    )


def render_users(plan: Plan, users: tuple[DatabaseUser, ...]) -> str:
    """Render the SQL that makes every user, sets its password and grants its databases.

    Rights are given for the data network only, and may precede the databases themselves.
    """
    source = f"{plan.data.network.network_address}/{plan.data.network.netmask}"
    lines: list[str] = []
    for user in users:
        account = f"'{user.name}'@'{source}'"
        password = secret(database_secret(user.name))
        lines.append(f"CREATE USER IF NOT EXISTS {account};")
        lines.append(f"ALTER USER {account} IDENTIFIED BY '{password}';")
        lines += [f"GRANT ALL ON `{name}`.* TO {account};" for name in user.databases]
    return "\n".join(lines) + "\n"
