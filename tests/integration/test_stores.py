"""The same run on PostgreSQL and S3: ledger, MLflow registry, artifacts and data root on real servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from churn.foundation.storage import Storage, StorageError
from churn.intake.acceptance import BatchRejected
from churn.pipeline import steps
from churn.pipeline.disagreements import find_disagreements
from churn.pipeline.workspace import Request, Workspace
from support.basics import ROOT, S3, land_night, land_text, make_workspace, mlflow_server
from support.checkouts import share_serving_environments


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
) -> Workspace:
    """A workspace with nothing on the local disk."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # otherwise the one for an unavailable store of an earlier test would be reused
    url = f"s3://{s3.bucket}/{tmp_path.name}"
    workspace = make_workspace(tmp_path, mlflow_on_servers, data_root=url, ledger_url=postgres(tmp_path.name))
    assert not (tmp_path / "data").exists()
    return workspace


def test_two_nights_on_postgresql_and_s3(on_servers: Workspace, s3: S3) -> None:
    """Files land on S3; the better version is promoted, bad rows are quarantined, and a rejected file is kept."""
    workspace = on_servers
    land_night(workspace, 1)
    assert steps.run_night(workspace, Request("night 1")).code == "NO_CHAMPION"
    land_night(workspace, 2, faults=5)
    land_text(workspace, "no,churn\n1,2\n", "bad.csv")
    with pytest.raises(BatchRejected):
        steps.run_night(workspace, Request("night 2"))
    decision = workspace.ledger.decision("night 2")
    assert decision is not None
    assert (decision.verdict, decision.code) == ("promote", "SUPERIOR")
    assert find_disagreements(workspace) == []
    assert workspace.tracking.version(2).current_stage == "Production"
    batches = {batch.name: batch for batch in workspace.ledger.batches()}
    assert (batches["night-2.csv"].quarantined_rows, batches["bad.csv"].state) == (5, "rejected")
    assert workspace.storage.landed() == []
    artifacts = workspace.storage.fs.find(f"{s3.bucket}/mlflow")
    assert any(path.endswith("model.skops") for path in artifacts)


def test_the_data_root_opens_with_the_credentials_of_an_airflow_connection(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem of the amazon provider reads and writes; a wrong key is one clear error."""
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


def test_an_unavailable_store_is_one_clear_error(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing listens, the error names the setting to check."""
    for name, value in (s3.environment | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}).items():
        monkeypatch.setenv(name, value)
    storage = Storage.open("s3://churn/away")
    storage.fs.clear_instance_cache()
    with pytest.raises(StorageError, match="CHURN_DATA_ROOT"):
        Storage.open("s3://churn/away").landed()


STEPS = {
    "arrive": "[batch.batch for batch in steps.arrive(workspace, request).batches]",
    "validate": "steps.validate(workspace, request, given['arrive'][0]).batch",
    "train": "asdict(steps.train(workspace, request))",
    "compare": "steps.compare(workspace, request, Challenger(**given['train'])).verdict",
    "promote": "steps.promote(workspace, request.night)",
    "build": "asdict(shipping.build(workspace, given['promote']))",
    "verify": "asdict(shipping.verify(workspace, BuiltImage(**given['build'])))",
    "publish": "shipping.publish(workspace, BuiltImage(**given['build']), Verification(**given['verify'])).state",
}
"""The tasks of a run and of its image build, each with the results of earlier tasks that it needs."""


def test_no_task_needs_files_that_another_left_on_a_disk(on_servers: Workspace, tmp_path: Path) -> None:
    """Each task has a process, a checkout and a scratch folder of its own, deleted before the next task begins."""
    land_night(on_servers, 1)
    settings, given = on_servers.settings, {}
    environment = os.environ | {
        "CHURN_DATA_ROOT": settings.data_root,
        "CHURN_LEDGER_URL": settings.ledger_url,
        "CHURN_MODEL_NAME": settings.model_name,
        "CHURN_EXPERIMENT": settings.experiment,
        "CHURN_CV_FOLDS": "2",
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
    }
    for step, call in STEPS.items():
        disk = tmp_path / step
        shutil.copytree(ROOT / "include", disk / "include")  # with its bytecode
        shutil.copy(ROOT / "requirements-serving.lock", disk)
        (disk / "scratch").mkdir()
        share_serving_environments(disk)
        code = (
            "import json, sys; from dataclasses import asdict; from churn.pipeline import shipping, steps; "
            "from churn.learning.training import Challenger; from churn.release.image import BuiltImage; "
            "from churn.release.service_checks import Verification; from churn.pipeline.workspace import Request, Workspace; "
            f"given = json.loads(sys.argv[1]); workspace, request = Workspace.open(), Request('night'); print(json.dumps({call}))"
        )
        completed = subprocess.run(
            [sys.executable, "-c", code, json.dumps(given)],
            cwd=disk,
            env=environment | {"PYTHONPATH": str(disk / "include"), "TMPDIR": str(disk / "scratch"), "HOME": str(disk)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, f"{step}: {completed.stderr[-2000:]}"
        given[step] = json.loads(completed.stdout.splitlines()[-1])
        shutil.rmtree(disk)
    assert (given["compare"], given["promote"], given["publish"]) == ("promote", 1, "not_built")
    assert find_disagreements(on_servers) == []
