"""Add the types that a version's own candidates brought; null for versions of the standard candidates."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("trusted_types", sa.JSON(none_as_null=True), nullable=True))
