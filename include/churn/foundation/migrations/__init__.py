"""Migrates the tables of the ledger to the current schema with Alembic, one process at a time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from churn.errors import ChurnError
from churn.foundation.schema import HEAD

_LOCK = 5_005_001


class LedgerTooNew(ChurnError):  # noqa: N818 -- names the state
    """A later release has migrated the ledger, and this one does not know its tables."""


def upgrade(connection: sa.Connection) -> None:
    """Run the missing migrations, within the transaction of the connection.

    Raises:
        LedgerTooNew: the tables are those of a later release.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is not None and revision > HEAD:
        raise LedgerTooNew(
            f"The ledger has the tables of a later release (schema {revision}), and this release knows schemas up to {HEAD}. Nothing was "
            "changed. Use the later release again, or restore the ledger from a backup that was made before the upgrade."
        )
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
