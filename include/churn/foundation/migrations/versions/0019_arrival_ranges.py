"""Keep the batches of a snapshot as ranges of their order of arrival."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.arrival_ranges import Arrivals

revision = "0019"
down_revision = "0018"

snapshots = sa.table("snapshots", sa.column("snapshot", sa.Text), sa.column("batches", sa.JSON))


def upgrade() -> None:
    connection = op.get_bind()
    arrivals = Arrivals.read(connection)
    for name in connection.scalars(sa.select(snapshots.c.snapshot)).all():
        this = snapshots.c.snapshot == name
        hashes = connection.execute(sa.select(snapshots.c.batches).where(this)).scalar_one()
        connection.execute(snapshots.update().where(this).values(batches=arrivals.ranges_of(hashes)))
