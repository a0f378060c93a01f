"""Add the format of a snapshot; null for the snapshots of earlier versions, which are one file each."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("snapshots") as snapshots:
        snapshots.add_column(sa.Column("format", sa.Integer(), nullable=True))
