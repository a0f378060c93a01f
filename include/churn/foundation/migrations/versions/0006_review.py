"""What the review page shows: curves of a decision, parameters of a version; and the way to the snapshots of a time.

Without the index on `made_at` a look for the first snapshot after a batch reads the list of batches of every snapshot.
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
