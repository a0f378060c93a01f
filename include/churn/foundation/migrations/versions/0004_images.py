"""Add the digest of an image in its image registry, its size, its build time, and further states."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

STATES = "state IN ('published', 'not_built', 'mismatch', 'faulty', 'failed', 'pruned')"


def upgrade() -> None:
    with op.batch_alter_table("images") as images:
        images.add_column(sa.Column("digest", sa.Text(), nullable=True))
        images.add_column(sa.Column("size", sa.BigInteger(), nullable=True))
        images.add_column(sa.Column("build_seconds", sa.Float(), nullable=True))
        images.drop_constraint(op.f("ck_images_state"), type_="check")
        images.create_check_constraint(op.f("ck_images_state"), STATES)
