"""Keep labels that come apart from their rows, the cut-off date of each run, and which rows of a snapshot count."""

import sqlalchemy as sa
from alembic import op

from churn.foundation.schema import Moment

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    with op.batch_alter_table("batches") as batches:
        batches.add_column(sa.Column("kind", sa.Text(), nullable=True))
        batches.add_column(sa.Column("complete_through", sa.Text(), nullable=True))
    with op.batch_alter_table("snapshots") as snapshots:
        snapshots.add_column(sa.Column("cutoff", sa.Text(), nullable=True))
        snapshots.add_column(sa.Column("complete", sa.JSON(none_as_null=True), nullable=True))
        snapshots.add_column(sa.Column("waiting", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "cutoffs",
        sa.Column("night", sa.Text(), nullable=False),
        sa.Column("cutoff", sa.Text(), nullable=False),
        sa.Column("fixed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("night", name=op.f("pk_cutoffs")),
    )
