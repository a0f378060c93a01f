"""Add the hash of the quarantined rows of a batch, so that the audit notices rows of another batch in their place."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    with op.batch_alter_table("batches") as batches:
        batches.add_column(sa.Column("quarantined_sha256", sa.Text(), nullable=True))
