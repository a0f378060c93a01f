"""A registered model keeps its contract: MLflow's own clients work on it, and refuse what the service refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest

from churn.decision.scoring import open_scorer
from churn.foundation.artifacts import downloaded
from churn.foundation.local_server import ServiceEnded, serving_python, wait_until_ready
from churn.learning.registered_model import describe_registered_model
from churn.pipeline.workspace import Workspace
from churn.sample.generator import Night, make_night
from churn.serving.rows import BadColumns, BadRows
from churn.settings import VAR
from support.basics import free_port

MLFLOW = Path(sys.executable).with_name("mlflow")


@pytest.fixture(scope="module")
def champion(first_champion: Workspace) -> Workspace:
    mlflow.set_tracking_uri(first_champion.settings.mlflow_tracking_uri)
    return first_champion


@pytest.fixture(scope="module")
def file(champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as a bank has it: every column of the contract, and an index that pandas wrote."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "night.csv").write_text(make_night(champion.contract, Night(rows=60, first_customer=1, seed=3)))
    pd.read_csv(folder / "night.csv").to_csv(folder / "rows.csv")
    return folder / "rows.csv"


@pytest.fixture(scope="module")
def expected(champion: Workspace, file: Path) -> np.ndarray:
    """What the comparison gives these rows."""
    with open_scorer(1, champion.ledger, champion.tracking, VAR / "serving") as scorer:
        return scorer(pd.read_csv(file))


def uri(champion: Workspace) -> str:
    return f"models:/{champion.settings.model_name}@champion"


def environment(champion: Workspace) -> dict[str, str]:
    """An activated environment, whose MLflow is the server of the test."""
    path = f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"MLFLOW_TRACKING_URI": champion.settings.mlflow_tracking_uri, "PATH": path}


def run_mlflow(champion: Workspace, *arguments: str) -> None:
    """Run MLflow's command line."""
    done = subprocess.run(
        [MLFLOW, *arguments], env=environment(champion), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_file_is_scored_in_three_lines(champion: Workspace, file: Path, expected: np.ndarray) -> None:
    """As the description says: whole numbers stay whole, further columns are ignored, the scores are the same."""
    model = mlflow.pyfunc.load_model(uri(champion))
    assert model.predict(pd.read_csv(file))[:, 1] == pytest.approx(expected, abs=1e-15)
    for described in (
        champion.tracking.client.get_registered_model(champion.settings.model_name),
        champion.tracking.version(1),
    ):
        assert "mlflow.pyfunc.load_model(" in described.description
        assert 'model.predict(pd.read_csv("customers.csv"))' in described.description


def test_bad_rows_are_refused_by_every_way_to_load_the_model(champion: Workspace, file: Path) -> None:
    """An unknown category, a value out of range, a missing value, a missing column: the messages of the service."""
    rows = pd.read_csv(file)
    for model in (mlflow.pyfunc.load_model(uri(champion)).predict, mlflow.sklearn.load_model(uri(champion)).predict):
        with pytest.raises(BadRows, match=r"Row 3: Geography must be .* 57 rows are not valid"):
            model(rows.assign(Geography=rows["Geography"].where(rows.index < 3, "Italy")))
        with pytest.raises(BadRows, match=r"Row 0: Age must be a whole number from 18"):
            model(rows.assign(Age=5))
        with pytest.raises(BadRows, match=r"Row 0: Balance is missing"):
            model(rows.assign(Balance=np.nan))
        with pytest.raises(BadColumns, match="Missing columns: Tenure"):
            model(rows.drop(columns="Tenure"))


def test_a_process_without_this_product_loads_it_too(champion: Workspace, file: Path, expected: np.ndarray) -> None:
    """The code of the checks travels with the model: an environment that has only the libraries of the image."""
    python = serving_python(champion.image_spec.lock, VAR / "serving")
    program = """
import json, sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pandas.read_csv(sys.argv[2])
try:
    model.predict(rows.assign(Age=5))
except ValueError as error:
    refused = str(error)
print(json.dumps([refused, sys.modules["churn"].__file__, model.predict(rows)[:, 1].tolist()]))
"""
    with downloaded(1, champion.tracking) as folder:
        done = subprocess.run(
            [python, "-c", program, folder, file], capture_output=True, text=True, check=False, timeout=300, cwd="/"
        )
        assert done.returncode == 0, done.stderr[-3000:]
        refused, module, scores = json.loads(done.stdout.splitlines()[-1])
        assert module.startswith(str(folder))
    assert "Age must be a whole number" in refused
    assert scores == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_mlflow_models_predict(champion: Workspace, file: Path, expected: np.ndarray, form: str) -> None:
    """MLflow's command scores a CSV file, and rows as JSON."""
    given = file
    if form == "json":
        given = file.with_suffix(".json")
        body = json.loads(pd.read_csv(file).to_json(orient="split", index=False))
        given.write_text(json.dumps({"dataframe_split": body}))
    output = file.with_name(f"scores-{form}.json")
    run_mlflow(
        champion,
        *("models", "predict", "-m", uri(champion), "-i", str(given), "-t", form),
        *("-o", str(output), "--env-manager", "local"),
    )
    scores = json.loads(output.read_text())["predictions"]
    assert [pair[1] for pair in scores] == pytest.approx(expected, abs=1e-12)


@contextmanager
def mlflow_serving(champion: Workspace) -> Iterator[str]:
    """Run `mlflow models serve` until the block ends."""
    port = free_port()
    arguments = ["models", "serve", "-m", uri(champion), "-p", str(port), "--env-manager", "local", "-w", "1"]
    process = subprocess.Popen(
        [MLFLOW, *arguments], env=environment(champion), stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", lambda: _end(process), 60)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def _end(process: subprocess.Popen[bytes]) -> ServiceEnded | None:
    return None if process.poll() is None else ServiceEnded(process.returncode, "")


def test_mlflow_models_serve(champion: Workspace, file: Path, expected: np.ndarray) -> None:
    """MLflow's own server scores the rows, and answers a bad row with 400 and the message of the service."""
    rows = pd.read_csv(file)
    with mlflow_serving(champion) as url:
        good = httpx.post(url, content=file.read_bytes(), headers={"Content-Type": "text/csv"}, trust_env=False)
        assert [pair[1] for pair in good.json()["predictions"]] == pytest.approx(expected, abs=1e-12)
        body = {"dataframe_records": rows.assign(Geography="Italy").to_dict("records")}
        bad = httpx.post(url, json=body, trust_env=False)
    assert bad.status_code == 400
    assert "Geography must be" in bad.text


def test_mlflow_models_evaluate(champion: Workspace, file: Path) -> None:
    """MLflow's evaluation reads classes and probabilities from the model."""
    with mlflow.start_run(experiment_id=champion.tracking.experiment_id) as run:
        result = mlflow.models.evaluate(
            uri(champion),
            pd.read_csv(file),
            targets="Exited",
            model_type="classifier",
            evaluator_config={"log_model_explainability": False},
        )
    assert 0.5 < result.metrics["roc_auc"] <= 1
    champion.tracking.client.delete_run(run.info.run_id)


def has_image(name: str) -> bool:
    """Whether a container engine on this machine has an image; nothing is pulled."""
    try:
        docker.from_env().images.get(name)
    except docker.errors.DockerException:
        return False
    return True


def test_mlflow_models_generate_dockerfile(champion: Workspace, tmp_path: Path) -> None:
    """The build context has the model with the code of its checks; where the base image exists, it is built."""
    run_mlflow(champion, "models", "generate-dockerfile", "-m", uri(champion), "-d", str(tmp_path / "context"))
    context = tmp_path / "context"
    assert "FROM" in (context / "Dockerfile").read_text()
    assert list(context.rglob("churn/serving/checks.py"))
    base = (context / "Dockerfile").read_text().split("FROM", 1)[1].split()[0]
    if not has_image(base):
        pytest.skip(f"`mlflow models build-docker` needs a container engine with {base}")
    run_mlflow(champion, "models", "build-docker", "-m", uri(champion), "-n", "churn-built-by-mlflow")


def test_a_description_that_a_person_wrote_is_kept(first_champion: Workspace, tmp_path: Path) -> None:
    """The next training completes the description of an earlier release, and no other."""
    client, name = first_champion.tracking.client, first_champion.settings.model_name
    written = client.get_registered_model(name).description
    for earlier, later in (
        ("Ours. Ask Ann.", "Ours. Ask Ann."),
        ("Probability of Exited = 1, for each customer.", written),
        (
            written.replace("the event left (Exited = 1)", "Exited = 1").replace(
                "the event: left (Exited = 1)", "Exited = 1"
            ),
            written,
        ),
    ):
        client.update_registered_model(name, earlier)
        describe_registered_model(first_champion.contract, first_champion.tracking)
        assert client.get_registered_model(name).description == later
