"""Keep which versions scored a batch on arrival, what later rows say of promotions, and what became of lists."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.schema import Moment

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "arrival_scores",
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("scored_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_arrival_scores_batch")),
        sa.PrimaryKeyConstraint("batch", "model", name=op.f("pk_arrival_scores")),
    )
    op.create_table(
        "outcome_looks",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("looked_at", Moment(), nullable=False),
        sa.CheckConstraint(
            "state IN ('unconfirmed', 'confirmed', 'refuted', 'undecided', 'not_comparable')",
            name=op.f("ck_outcome_looks_state"),
        ),
        sa.PrimaryKeyConstraint("model", "sequence", "night", name=op.f("pk_outcome_looks")),
    )
    op.create_index(
        op.f("ix_outcome_looks_model_sequence_looked_at"), "outcome_looks", ["model", "sequence", "looked_at"]
    )
    op.create_table(
        "list_results",
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("measured_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["list_id"], ["score_lists.list_id"], name=op.f("fk_list_results_list_id")),
        sa.PrimaryKeyConstraint("list_id", "revision", name=op.f("pk_list_results")),
    )
