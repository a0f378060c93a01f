"""Add what intake stores: unlabelled rows, broken rules, sightings, withdrawals, drift and flags of versions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NEW_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "unlabelled_rows": sa.Integer(),
    "events": sa.Integer(),
    "rules": sa.JSON(),
    "warnings": sa.JSON(),
    "origin": sa.Text(),
    "accepted_sha256": sa.Text(),
}
STATES = {
    1: "state IN ('arrived', 'accepted', 'rejected')",
    2: "state IN ('arrived', 'accepted', 'rejected', 'withdrawn')",
}


def upgrade() -> None:
    with op.batch_alter_table("batches") as batches:
        for name, kind in NEW_COLUMNS.items():
            batches.add_column(sa.Column(name, kind, nullable=True))
        batches.drop_constraint(op.f("ck_batches_state"), type_="check")
        batches.create_check_constraint(op.f("ck_batches_state"), STATES[2])
    op.create_table(
        "sightings",
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_sightings_batch")),
        sa.PrimaryKeyConstraint("batch", "name", "arrived_at", name=op.f("pk_sightings")),
    )
    op.create_table(
        "withdrawals",
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('withdrawn', 'restored')", name=op.f("ck_withdrawals_kind")),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_withdrawals_batch")),
        sa.PrimaryKeyConstraint("batch", "sequence", name=op.f("pk_withdrawals")),
    )
    op.create_table(
        "drifts",
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("column", sa.Text(), nullable=False),
        sa.Column("psi", sa.Float(), nullable=False),
        sa.Column("bound", sa.Float(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("drifted", sa.Boolean(), nullable=False),
        sa.Column("new_categories", sa.JSON(), nullable=False),
        sa.Column("reference_rows", sa.Integer(), nullable=False),
        sa.CheckConstraint("measure IN ('kolmogorov_smirnov', 'cramers_v')", name=op.f("ck_drifts_measure")),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_drifts_batch")),
        sa.PrimaryKeyConstraint("batch", "column", name=op.f("pk_drifts")),
    )
    op.create_table(
        "version_flags",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("flagged_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.batch"], name=op.f("fk_version_flags_batch")),
        sa.PrimaryKeyConstraint("model", "version", "batch", name=op.f("pk_version_flags")),
    )


def downgrade() -> None:
    for table in ("version_flags", "drifts", "withdrawals", "sightings"):
        op.drop_table(table)
    with op.batch_alter_table("batches") as batches:
        batches.drop_constraint(op.f("ck_batches_state"), type_="check")
        batches.create_check_constraint(op.f("ck_batches_state"), STATES[1])
        for name in NEW_COLUMNS:
            batches.drop_column(name)
