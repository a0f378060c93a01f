"""Add populations, the files of current customers, and the lists of their scores."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.schema import Moment

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "populations",
        sa.Column("population", sa.Text(), nullable=False),
        sa.Column("arrival", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", Moment(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=True),
        sa.Column("arrived_rows", sa.Integer(), nullable=True),
        sa.Column("accepted_rows", sa.Integer(), nullable=True),
        sa.Column("quarantined_rows", sa.Integer(), nullable=True),
        sa.Column("rules", sa.JSON(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("judged_at", Moment(), nullable=True),
        sa.CheckConstraint("state IN ('arrived', 'judged', 'rejected')", name=op.f("ck_populations_state")),
        sa.CheckConstraint("arrived_rows = accepted_rows + quarantined_rows", name=op.f("ck_populations_no_row_lost")),
        sa.PrimaryKeyConstraint("population", name=op.f("pk_populations")),
        sa.UniqueConstraint("arrival", name=op.f("uq_populations_arrival")),
    )
    op.create_index(op.f("ix_populations_state"), "populations", ["state"])
    op.create_table(
        "score_lists",
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("population", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_name", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("excludes", sa.JSON(), nullable=False),
        sa.Column("continues", sa.JSON(), nullable=False),
        sa.Column("arrived_rows", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("quarantined_rows", sa.Integer(), nullable=False),
        sa.Column("contact", sa.Integer(), nullable=False),
        sa.Column("control", sa.Integer(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=True),
        sa.Column("published_at", Moment(), nullable=False),
        sa.CheckConstraint("source IN ('file', 'accepted')", name=op.f("ck_score_lists_source")),
        sa.CheckConstraint("arrived_rows = rows + quarantined_rows", name=op.f("ck_score_lists_no_row_lost")),
        sa.PrimaryKeyConstraint("list_id", name=op.f("pk_score_lists")),
        sa.UniqueConstraint("model", "sequence", name=op.f("uq_score_lists_model_sequence")),
    )
    op.create_index(op.f("ix_score_lists_published_at"), "score_lists", ["published_at"])
