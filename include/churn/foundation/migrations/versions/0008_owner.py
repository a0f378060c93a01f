"""Add the owner of the ledger, and confirmations that a very high ROC AUC is plausible."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.schema import Moment

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "confirmations",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_confirmations")),
    )
    op.create_table(
        "owner",
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.CheckConstraint("part = 1", name=op.f("ck_owner_part")),
        sa.PrimaryKeyConstraint("part", name=op.f("pk_owner")),
    )
