"""Add what the review shows: the curves of a decision and the parameters of a version, with indexes for its pages.

Without the index on `made_at`, finding the first snapshot after a batch reads the list of batches of every snapshot. Without the
others, finding the newest run, its batches or the failures of a DAG reads a whole table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("curves", sa.JSON(), nullable=True))
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("parameters", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_snapshots_made_at"), "snapshots", ["made_at"], unique=False)
    op.create_index(op.f("ix_decisions_model_decided_at"), "decisions", ["model", "decided_at"], unique=False)
    op.create_index(op.f("ix_batches_judged_at"), "batches", ["judged_at"], unique=False)
    op.create_index(op.f("ix_alerts_kind_noticed_at"), "alerts", ["kind", "noticed_at"], unique=False)
