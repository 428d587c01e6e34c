"""Nova's three schemas and two cells, in one process instead of four runs of nova-manage.

Cell mappings are stored as templates that Nova fills from its own configuration (see
nova.objects.cell_mapping), so neither a new password nor a new address touches them.

Usage: nova_setup.py
"""

from __future__ import annotations

import sys

from nova import config, context, exception, objects  # type: ignore[import-not-found]
from nova.cmd import manage  # type: ignore[import-not-found]

CELL1 = "00000000-0000-0000-0000-000000000001"
DATABASE = "{scheme}://{username}:{password}@{hostname}/%s?{query}"
TRANSPORT = "{scheme}://{username}:{password}@{hostname}:{port}/{path}"


def ensure_cell(ident: str, name: str, transport: str, database: str) -> None:
    """Map a cell, or give the mapping there is these values."""
    admin = context.get_admin_context()
    try:
        cell = objects.CellMapping.get_by_uuid(admin, ident)
    except exception.CellMappingNotFound:
        cell = objects.CellMapping(admin, uuid=ident, name=name)
        cell.transport_url, cell.database_connection = transport, database
        cell.create()
        return
    cell.transport_url, cell.database_connection = transport, database
    cell.save()


def main() -> int:
    """Bring everything up to date; return an exit status."""
    config.parse_args(["nova-manage"])
    objects.register_all()
    manage.ApiDbCommands().sync()
    cell0 = objects.CellMapping.CELL0_UUID
    ensure_cell(cell0, "cell0", "none:///", DATABASE % "nova_cell0")
    ensure_cell(CELL1, "cell1", TRANSPORT, DATABASE % "nova")
    return int(manage.DbCommands().sync() or 0)


sys.exit(main())
