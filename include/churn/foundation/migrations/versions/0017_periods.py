"""Keep from which date a file of leavers is complete, so that a file that was refused leaves a gap."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    with op.batch_alter_table("batches") as batches:
        batches.add_column(sa.Column("complete_from", sa.Text(), nullable=True))
