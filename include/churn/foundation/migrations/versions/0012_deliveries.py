"""Add the deliveries of score lists."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.schema import Moment

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.CheckConstraint("target IN ('database', 'drop')", name=op.f("ck_deliveries_target")),
        sa.CheckConstraint("state IN ('delivered', 'failed')", name=op.f("ck_deliveries_state")),
        sa.ForeignKeyConstraint(["list_id"], ["score_lists.list_id"], name=op.f("fk_deliveries_list_id")),
        sa.PrimaryKeyConstraint("list_id", "target", name=op.f("pk_deliveries")),
    )
