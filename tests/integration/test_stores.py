"""The same night on PostgreSQL and S3: ledger, registry, artifacts and data root on real servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from churn import night
from churn.foundation.storage import Storage, StorageError
from churn.intake.acceptance import BatchRejected
from churn.night import find_disagreements
from churn.workbench import Request, Workbench
from support import S3, land_night, land_text, make_bench, mlflow_server


@pytest.fixture(scope="module")
def mlflow_on_servers(
    tmp_path_factory: pytest.TempPathFactory, postgres: Callable[[str], str], s3: S3
) -> Iterator[str]:
    """An MLflow server with its metadata in PostgreSQL and its artifacts in S3."""
    folder = tmp_path_factory.mktemp("mlflow-on-servers")
    with mlflow_server(folder, postgres("mlflow"), f"s3://{s3.bucket}/mlflow", s3.environment) as url:
        yield url


@pytest.fixture
def on_servers(
    tmp_path: Path, mlflow_on_servers: str, postgres: Callable[[str], str], s3: S3, monkeypatch: pytest.MonkeyPatch
) -> Workbench:
    """A bench with nothing on the local disk."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket}/{tmp_path.name}"
    bench = make_bench(tmp_path, mlflow_on_servers, data_root=url, ledger_url=postgres(tmp_path.name))
    assert not (tmp_path / "data").exists()
    return bench


def test_two_nights_on_postgresql_and_s3(on_servers: Workbench, s3: S3) -> None:
    """File in landing on S3; comparison, promotion and the verified model out; a rejected file is kept."""
    bench = on_servers
    land_night(bench, 1)
    assert night.run_night(bench, Request("night 1")).code == "NO_CHAMPION"
    land_night(bench, 2, faults=5)
    land_text(bench, "no,churn\n1,2\n", "bad.csv")
    with pytest.raises(BatchRejected):
        night.run_night(bench, Request("night 2"))
    decision = bench.ledger.decision("night 2")
    assert decision is not None
    assert (decision.verdict, decision.code) == ("promote", "SUPERIOR")
    assert find_disagreements(bench) == []
    assert bench.tracking.version(2).current_stage == "Production"
    batches = {batch.name: batch for batch in bench.ledger.batches()}
    assert (batches["night-2.csv"].quarantined_rows, batches["bad.csv"].state) == (5, "rejected")
    assert bench.storage.landed() == []
    artifacts = bench.storage.fs.find(f"{s3.bucket}/mlflow")
    assert any(path.endswith("model.skops") for path in artifacts)


def test_the_data_root_opens_with_an_airflow_connections_credentials(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The amazon provider's filesystem, from a connection, reads and writes; a wrong key is one clear error."""
    from airflow.providers.amazon.aws.fs.s3 import get_fs

    for name in s3.environment:
        monkeypatch.delenv(name, raising=False)

    def connection(secret: str) -> str:
        extra = {"endpoint_url": s3.endpoint, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": s3.key, "password": secret, "extra": extra})

    monkeypatch.setenv("AIRFLOW_CONN_CHURN_DATA", connection(s3.secret))
    monkeypatch.setenv("AIRFLOW_CONN_CHURN_WRONG", connection("wrong"))
    url = f"s3://{s3.bucket}/by-connection"
    storage = Storage.open(url, get_fs("churn_data"))
    with storage.writing("landing/a.csv") as stream:
        stream.write(b"x")
    assert [file.name for file in storage.landed()] == ["a.csv"]
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        Storage.open(url, get_fs("churn_wrong")).landed()


def test_a_store_that_is_away_is_one_clear_error(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens: the error names the place and the setting, and nothing is half taken."""
    for name, value in (s3.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).items():
        monkeypatch.setenv(name, value)
    storage = Storage.open("s3://churn/away")
    storage.fs.clear_instance_cache()
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        Storage.open("s3://churn/away").landed()
