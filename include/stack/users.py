"""Creates the users of Airflow and MLflow, including the account of the pipeline in MLflow.

    users.py               the first ones: `admin` of both, and `churn` of MLflow, the account of the pipeline
    users.py NAME ROLE     another person, in both, with a password that is printed once

In MLflow the creator of an object manages it, so only `churn` and an admin can move an alias of the pipeline's model;
everybody else can read it.
"""

from __future__ import annotations

import os
import secrets
import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

ROLES = ("Viewer", "Op", "Admin")


def put_in_airflow(name: str, password: str, role: str) -> bool:
    """Create a user of Airflow; False if the user exists, which is left unchanged."""
    with get_application_builder() as builder:
        users = builder.sm
        if users.find_user(name):
            return False
        made = users.add_user(name, name, role, f"{name}@localhost", users.find_role(role), password)
    if not made:
        sys.exit(f"Airflow did not create the user {name}.")
    return True


def put_in_mlflow(name: str, password: str, *, is_admin: bool) -> None:
    """Create a user of MLflow, or set the password of an existing one."""
    store = SqlAlchemyStore()
    store.init_db(os.environ["MLFLOW_DATABASE"])
    if store.has_user(name):
        store.update_user(name, password=password, is_admin=is_admin)
    else:
        store.create_user(name, password, is_admin=is_admin)


def add_person(name: str, role: str) -> None:
    """Add a person to both."""
    if role not in ROLES:
        sys.exit(f"ROLE={role} is not a role. Choose one of {', '.join(ROLES)}.")
    if name in ("admin", os.environ["MLFLOW_TRACKING_USERNAME"]):
        sys.exit(f"{name} is an account of the stack itself. Choose another name.")
    password = secrets.token_urlsafe(12)
    if not put_in_airflow(name, password, role):
        sys.exit(f"{name} is already a user of Airflow. An admin can change users there, under Security.")
    put_in_mlflow(name, password, is_admin=role == "Admin")
    sys.stdout.write(f"{name} ({role}) logs in to Airflow and MLflow with the password {password}\n")


def make_first_users() -> None:
    """Create the admins and the account of the pipeline."""
    put_in_airflow("admin", os.environ["AIRFLOW_ADMIN_PASSWORD"], "Admin")
    put_in_mlflow("admin", os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"], is_admin=True)
    put_in_mlflow(os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"], is_admin=False)


if __name__ == "__main__":
    if sys.argv[1:]:
        add_person(*sys.argv[1:])
    else:
        make_first_users()
