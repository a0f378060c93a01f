"""Add the version of the rules that made a decision; null for decisions made before versions were stored."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("decisions") as decisions:
        decisions.add_column(sa.Column("rules_version", sa.Integer(), nullable=True))
