"""Mark how many training rows of a version are of customers whom a list had contacted, and whether it was trained on them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("contacted_rows", sa.Integer(), nullable=True))
        versions.add_column(sa.Column("contacted_trained", sa.Boolean(), nullable=True))
