"""Add the basis and the consequences of a decision: versions, looks, approvals, baseline versions and thaws."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KINDS = {
    2: "kind IN ('promotion', 'take_back')",
    3: "kind IN ('promotion', 'forced', 'rollback', 'take_back', 'adopted')",
}


def upgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("watch", sa.JSON(), nullable=False, server_default="[]"))
        decisions.add_column(sa.Column("digests", sa.JSON(), nullable=False, server_default="{}"))
        decisions.add_column(sa.Column("code_version", sa.Text(), nullable=False, server_default=""))
        decisions.add_column(sa.Column("approval", sa.Boolean(), nullable=False, server_default=sa.false()))
        decisions.add_column(sa.Column("requested_by", sa.Text(), nullable=True))
    with op.batch_alter_table("promotions") as promotions:
        promotions.add_column(sa.Column("anchor", sa.Integer(), nullable=True))
        promotions.add_column(sa.Column("actor", sa.Text(), nullable=False, server_default=""))
        promotions.add_column(sa.Column("code", sa.Text(), nullable=False, server_default=""))
        promotions.drop_constraint(op.f("ck_promotions_kind"), type_="check")
        promotions.create_check_constraint(op.f("ck_promotions_kind"), KINDS[3])
    op.execute("UPDATE promotions SET anchor = version")  # so far, every promoted version was superior
    op.create_table(
        "versions",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.snapshot"], name=op.f("fk_versions_snapshot")),
        sa.PrimaryKeyConstraint("model", "version", name=op.f("pk_versions")),
    )
    op.create_table(
        "looks",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("look", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("calendar_night", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "look", name=op.f("pk_looks")),
        sa.UniqueConstraint(
            "model",
            "epoch",
            "calendar_night",
            "position",
            name=op.f("uq_looks_model_epoch_calendar_night_position"),
        ),
    )
    op.create_table(
        "approvals",
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("answer IN ('approved', 'rejected', 'expired')", name=op.f("ck_approvals_answer")),
        sa.ForeignKeyConstraint(["night"], ["decisions.night"], name=op.f("fk_approvals_night")),
        sa.PrimaryKeyConstraint("night", name=op.f("pk_approvals")),
    )
    op.create_table(
        "thaws",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "sequence", name=op.f("pk_thaws")),
    )
