"""The users of MLflow's basic-auth app, in MLflow's own database.

Without arguments it makes the admin, and `churn`, as whom the pipeline logs in: whoever creates a model manages it, so nobody but
these two moves an alias. Everybody else reads. `--configuration` prints what the server is started with.
"""

from __future__ import annotations

import os
import sys

CONFIGURATION = """[mlflow]
default_permission = READ
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def main() -> None:
    """Make the users, or print the configuration."""
    database = os.environ["MLFLOW_DATABASE"]
    if sys.argv[1:] == ["--configuration"]:
        sys.stdout.write(CONFIGURATION.format(database=database))
        return
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database)
    users = {
        "admin": (os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], True),
        os.environ["MLFLOW_TRACKING_USERNAME"]: (os.environ["MLFLOW_TRACKING_PASSWORD"], False),
    }
    for name, (password, is_admin) in users.items():
        if store.has_user(name):
            store.update_user(name, password=password)
        else:
            store.create_user(name, password, is_admin=is_admin)


if __name__ == "__main__":
    main()
