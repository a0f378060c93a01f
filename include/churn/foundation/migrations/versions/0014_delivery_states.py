"""Let a delivery be due again, such as after a rollback, and removed by maintenance; both keep the time of the first delivery."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_constraint(op.f("ck_deliveries_state"), type_="check")
        deliveries.create_check_constraint(
            op.f("ck_deliveries_state"), "state IN ('delivered', 'failed', 'due', 'removed')"
        )
