"""Alembic's entry point: runs the migrations on the connection that the ledger passes."""

from alembic import context

from churn.foundation.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
