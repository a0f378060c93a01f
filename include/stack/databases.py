"""Creates a role and a database each for Airflow, MLflow and the ledger; no role may connect to another database.

Repeated, it changes only the passwords, to those of the environment. It needs a superuser, or the master user of a
managed PostgreSQL.
"""

from __future__ import annotations

import os

import psycopg2
from psycopg2 import sql

PASSWORDS = {"airflow": "AIRFLOW_DB_PASSWORD", "mlflow": "MLFLOW_DB_PASSWORD", "churn": "LEDGER_DB_PASSWORD"}
"""Roles, which name their databases too, and the variables with their passwords."""

REFUSED = """PostgreSQL refuses POSTGRES_PASSWORD. A volume of an earlier stack keeps the password it was created with: put back the .env of
that stack, or remove the volume and all data in it (`docker compose down --volumes`)."""


def prepare_database(cursor: psycopg2.extensions.cursor, name: str, password: str) -> None:
    """Create the role and the database if missing, and deny access to everybody else."""
    role = sql.Identifier(name)
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
    act = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
    cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(act, role, sql.Literal(password)))
    cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))  # needed by a master user without superuser rights
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    if cursor.fetchone() is None:
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(role))


def main() -> None:
    """Prepare all three."""
    try:
        connection = psycopg2.connect(
            host=os.environ["POSTGRES_HOST"],
            user=os.environ["POSTGRES_USER"],
            password=os.environ["POSTGRES_PASSWORD"],
            dbname="postgres",
        )
    except psycopg2.OperationalError as error:
        if "password authentication failed" not in str(error):
            raise
        raise SystemExit(REFUSED) from error
    connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
    with connection.cursor() as cursor:
        for name, variable in PASSWORDS.items():
            prepare_database(cursor, name, os.environ[variable])
    connection.close()


if __name__ == "__main__":
    main()
