"""The people who log in to Airflow and MLflow, and the pipeline, which logs in to MLflow.

    users.py               the first ones: `admin` of both, and MLflow's `churn`, as whom the pipeline logs in
    users.py NAME ROLE     one more person of both, with a password that is printed once

In MLflow whoever creates a thing manages it, so that nobody but `churn` and an admin moves an alias of the pipeline's model;
everybody else reads it.
"""

from __future__ import annotations

import os
import secrets
import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

ROLES = ("Viewer", "Op", "Admin")


def put_in_airflow(name: str, password: str, role: str) -> bool:
    """Make a user of Airflow; False if there is one, who stays as he is."""
    with get_application_builder() as builder:
        users = builder.sm
        if users.find_user(name):
            return False
        made = users.add_user(name, name, role, f"{name}@localhost", users.find_role(role), password)
    if not made:
        sys.exit(f"Airflow did not make the user {name}.")
    return True


def put_in_mlflow(name: str, password: str, *, is_admin: bool) -> None:
    """Make a user of MLflow, or give one that is there this password."""
    store = SqlAlchemyStore()
    store.init_db(os.environ["MLFLOW_DATABASE"])
    if store.has_user(name):
        store.update_user(name, password=password, is_admin=is_admin)
    else:
        store.create_user(name, password, is_admin=is_admin)


def add_person(name: str, role: str) -> None:
    """One person more, of both."""
    if role not in ROLES:
        sys.exit(f"ROLE={role} is none of {', '.join(ROLES)}.")
    if name in ("admin", os.environ["MLFLOW_TRACKING_USERNAME"]):
        sys.exit(f"{name} is one of the stack's own users. Choose another name.")
    password = secrets.token_urlsafe(12)
    if not put_in_airflow(name, password, role):
        sys.exit(f"{name} is a user of Airflow already; an admin changes a user under Security there.")
    put_in_mlflow(name, password, is_admin=role == "Admin")
    sys.stdout.write(f"{name} ({role}) logs in to Airflow and MLflow with the password {password}\n")


def make_first_users() -> None:
    """The admins, and the pipeline."""
    put_in_airflow("admin", os.environ["AIRFLOW_ADMIN_PASSWORD"], "Admin")
    put_in_mlflow("admin", os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], is_admin=True)
    put_in_mlflow(os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"], is_admin=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        add_person(*sys.argv[1:])
    else:
        make_first_users()
