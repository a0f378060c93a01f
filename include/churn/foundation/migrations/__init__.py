"""Migrates the tables of the ledger to the current schema with Alembic, one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from churn.foundation.schema import HEAD

_LOCK = 5_005_001


def upgrade(connection: sa.Connection) -> None:
    """Run the missing migrations, within the transaction of the connection."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if _revision(connection) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
