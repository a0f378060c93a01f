"""The stack, from nothing: a night over REST, who may do what, and where the secrets are not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import httpx
import pytest

from churn.contracts.bank import BANK_CHURN
from churn.foundation.links import IMAGE_BUILD, RETRAINING, SCORING
from churn.local.airflow_api import AirflowUnreachable
from churn.sample.generator import Night, make_night
from stack.conftest import Person
from support.basics import ROOT
from support.stacks import Stack

NIGHT = "night-1"
pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def night(stack: Stack, people: dict[str, Person]) -> str:
    """A night that an operator triggers over REST, its image included; the id of its run."""
    stack.make("land", FILE=str(ROOT / "data/sample/night-1.csv"))
    operator = stack.airflow(people["Op"].name, people["Op"].password)
    operator.trigger(RETRAINING, NIGHT, {"note": "by the operator"})
    assert stack.follow(RETRAINING, NIGHT) == "success", _why(stack, RETRAINING, NIGHT)
    assert stack.follow(IMAGE_BUILD, "image-of-version-1") == "success", _why(stack, IMAGE_BUILD, "image-of-version-1")
    return NIGHT


def test_the_first_night_is_promoted_and_its_image_is_published(stack: Stack, night: str) -> None:
    """The whole job: rows counted, a verdict, a champion in ledger and registry, an image that was asked."""
    (batch,) = json.loads(stack.churn("batches", "--json").stdout)
    assert batch["arrived_rows"] == batch["accepted_rows"] + batch["quarantined_rows"]
    (promotion,) = json.loads(stack.churn("history", "--json").stdout)
    assert (promotion["version"], promotion["night"]) == (1, night)
    (image,) = json.loads(stack.churn("image", "list", "--json").stdout)
    assert (image["state"], image["in_production"], image["max_difference"] < 1e-12) == ("published", True, True)
    assert image["probes"] > 100
    stack.churn("status")  # exits with 1 if registry, ledger and files do not agree


def test_image_tasks_ran_where_the_engine_is_and_all_others_where_it_is_not(stack: Stack, night: str) -> None:
    """Only the builder has the engine's socket; the task that triggers a scoring run needs none."""
    hosts = {
        dag: {
            entry["hostname"]
            for entry in _tasks(stack, dag, run)
            if entry["hostname"] and not entry["task_id"].startswith("score")
        }
        for dag, run in ((RETRAINING, night), (IMAGE_BUILD, "image-of-version-1"))
    }
    assert hosts[IMAGE_BUILD] == {stack.container("builder").id[:12]}
    assert hosts[RETRAINING] <= {entry.id[:12] for entry in stack.containers("worker")}
    with_socket = [
        entry["Service"] for entry in _mounts(stack) if any("docker.sock" in mount for mount in entry["Mounts"])
    ]
    assert with_socket == ["builder"]


def test_a_promotion_is_followed_by_a_list(stack: Stack, night: str, people: dict[str, Person]) -> None:
    """The version in production scores the accepted customers. A viewer reads the page, and only an operator triggers a list."""
    run = "scores-of-change-1"
    assert stack.follow(SCORING, run) == "success", _why(stack, SCORING, run)
    (row,) = json.loads(stack.churn("scores", "list", "--json").stdout)
    assert (row["version"], row["source"], row["night"]) == (1, "accepted", run)
    assert row["arrived_rows"] == row["rows"] + row["quarantined_rows"]
    assert row["contact"] > row["control"] > 0
    assert row["summary"]["largest_difference"] <= 1e-12
    viewer = stack.airflow(people["Viewer"].name, people["Viewer"].password)
    page = viewer._call("GET", "/churn-review/scores?format=json")
    assert page["shown"]["line"]["list_id"] == row["list_id"]
    with pytest.raises(AirflowUnreachable, match="403"):
        viewer.trigger(SCORING, "by-a-viewer", {})
    operator = stack.airflow(people["Op"].name, people["Op"].password)
    operator.trigger(SCORING, "by-an-operator", {"campaign": "spring", "capacity": 40})
    assert stack.follow(SCORING, "by-an-operator") == "success", _why(stack, SCORING, "by-an-operator")
    newest = json.loads(stack.churn("scores", "show", "--campaign", "spring", "--json").stdout)
    assert (newest["campaign"], newest["contact"] + newest["control"]) == ("spring", 40)
    assert newest["requested_by"] == people["Op"].name
    assert newest["excludes"] == [row["list_id"]]


def test_customers_that_land_are_scored(stack: Stack, night: str, people: dict[str, Person], tmp_path: Path) -> None:
    """A file of current customers, without their labels, is scored by the next run; arrived is scored plus quarantined."""
    assert night
    file = tmp_path / "customers.csv"
    file.write_text(make_night(BANK_CHURN, Night(300, first_customer=90_000_000, seed=9, faults=2)))
    stack.make("land", FILE=str(file), POPULATION="1")
    operator = stack.airflow(people["Op"].name, people["Op"].password)
    operator.trigger(SCORING, "of-a-file", {})
    assert stack.follow(SCORING, "of-a-file") == "success", _why(stack, SCORING, "of-a-file")
    row = json.loads(stack.churn("scores", "show", "--json").stdout)
    assert (row["source"], row["source_name"], row["arrived_rows"]) == ("file", "customers.csv", 300)
    assert row["arrived_rows"] == row["rows"] + row["quarantined_rows"]


def test_anonymous_sees_nothing_and_a_viewer_changes_nothing(
    stack: Stack, night: str, people: dict[str, Person]
) -> None:
    """Viewer reads; only Op triggers; anonymous gets 401, on our own pages too."""
    pages = ["/api/v2/dags", f"/api/v2/dags/{RETRAINING}/dagRuns", f"/churn-review/docs/{'0' * 64}/index.html"]
    pages += [
        "/churn-review/",
        f"/churn-review/night?name={night}",
        "/churn-review/data?format=json",
        "/churn-review/scores",
    ]
    for page in pages:
        assert httpx.get(stack.airflow_url + page, timeout=30).status_code == httpx.codes.UNAUTHORIZED, page
    viewer = stack.airflow(people["Viewer"].name, people["Viewer"].password)
    assert viewer.run_state(RETRAINING, night) == "success"
    with pytest.raises(AirflowUnreachable, match="403"):
        viewer.trigger(RETRAINING, "by-a-viewer", {})
    operator = stack.airflow(people["Op"].name, people["Op"].password)
    for person, may in ((viewer, False), (operator, True)):
        review = person._call("GET", "/churn-review/?format=json")
        assert "Version 1 has been in production" in review["headline"]
        assert bool(review["actions"]) == may
    with pytest.raises(AirflowUnreachable, match="403"):
        viewer.trigger("churn_rollback", "by-a-viewer", {"reason": "no right to"})


def test_in_mlflow_only_the_pipeline_moves_an_alias(stack: Stack, night: str, people: dict[str, Person]) -> None:
    """Anonymous sees nothing; people read; who may move an alias is a permission."""
    asked = "/api/2.0/mlflow/registered-models/get?name=churn"
    assert stack.mlflow(None).get(asked).status_code == httpx.codes.UNAUTHORIZED
    reader = stack.mlflow(people["Op"].name, people["Op"].password)
    assert reader.get(asked).json()["registered_model"]["aliases"]
    alias = {"name": "churn", "alias": "champion", "version": "1"}
    moved = reader.post("/api/2.0/mlflow/registered-models/alias", json=alias)
    assert moved.status_code == httpx.codes.FORBIDDEN
    pipeline = stack.mlflow("churn", stack.env["MLFLOW_PIPELINE_PASSWORD"])
    assert pipeline.post("/api/2.0/mlflow/registered-models/alias", json=alias).is_success


def test_each_database_role_has_only_its_own(stack: Stack) -> None:
    """MLflow's role cannot connect to Airflow's database, nor any other to one that is not its own."""
    for role, variable in (
        ("mlflow", "MLFLOW_DB_PASSWORD"),
        ("airflow", "AIRFLOW_DB_PASSWORD"),
        ("churn", "LEDGER_DB_PASSWORD"),
    ):
        for database in ("airflow", "mlflow", "churn"):
            uri = f"postgresql://{role}:{stack.env[variable]}@127.0.0.1/{database}"
            asked = stack.compose("exec", "-T", "postgres", "psql", uri, "-c", "select 1", check=False)
            assert (asked.returncode == 0) == (role == database), f"{role} in {database}: {asked.stderr}"
            assert role == database or "permission denied for database" in asked.stderr


def test_each_key_lists_only_its_own_buckets_and_a_wrong_one_none(stack: Stack) -> None:
    """MLflow's key has no way to the data, the data's none to MLflow's artifacts."""
    keys = {
        owner: (stack.env[f"S3_{owner}_ACCESS_KEY"], stack.env[f"S3_{owner}_SECRET_KEY"])
        for owner in ("DATA", "MLFLOW")
    }
    keys["WRONG"] = (keys["DATA"][0], "0" * 48)
    allowed = {"DATA": {"churn-data", "churn-logs"}, "MLFLOW": {"churn-mlflow"}, "WRONG": set()}
    for owner, (key, secret) in keys.items():
        visible = set()
        for bucket in ("churn-data", "churn-logs", "churn-mlflow"):
            code = (
                "import boto3, botocore, sys\n"
                f"try: boto3.client('s3', aws_access_key_id={key!r}, aws_secret_access_key={secret!r}).list_objects_v2(Bucket={bucket!r})\n"
                "except botocore.exceptions.ClientError as error: sys.exit(error.response['Error']['Code'] in ('AccessDenied', 'SignatureDoesNotMatch') and 7 or 1)"
            )
            asked = stack.compose("exec", "-T", "mlflow", "python", "-c", code, check=False)
            assert asked.returncode in (0, 7), asked.stderr
            if asked.returncode == 0:
                visible.add(bucket)
        assert visible == allowed[owner], owner


@pytest.mark.stack
def test_no_secret_is_in_logs_xcom_templates_tags_or_the_image(stack: Stack, night: str, tmp_path: Path) -> None:
    """Every secret of .env is looked for in whatever a person, or a stranger with the image, could read."""
    secrets = {name: value for name, value in stack.env.items() if _is_secret(name)}
    assert len(secrets) >= 16
    stack.make("backup", BACKUP=str(tmp_path / "saved"))
    with tarfile.open(tmp_path / "saved/buckets.tar") as archive:
        saved = {member.name: archive.extractfile(member).read().decode(errors="replace") for member in archive}
    assert any(f"run_id={night}/task_id=train" in name for name in saved), "task logs are in S3"
    places = {
        "logs of containers": stack.compose("logs", "--no-color").stdout,
        "task logs, reports, data": "\n".join(saved.values()),
        "XCom, rendered templates": _dump(stack, "airflow"),
        "tags, parameters, notes in MLflow": _dump(stack, "mlflow"),
        "the ledger": _dump(stack, "churn"),
        "the image's history": subprocess.check_output(["docker", "history", "--no-trunc", stack.image], text=True),
        "the image's files": _grep(stack, list(secrets.values())),
    }
    for place, text in places.items():
        visible = [name for name, value in secrets.items() if value in text]
        assert visible == [], f"{place}: {visible}"


@pytest.mark.stack
def test_a_scanner_finds_no_secret_in_the_image(stack: Stack, tmp_path: Path) -> None:
    """detect-secrets, over every file that is not of the base or of a package, and over what made the layers."""
    history = subprocess.check_output(["docker", "history", "--no-trunc", stack.image], text=True)
    (tmp_path / "history.txt").write_text(history)
    ran = ["docker", "run", "--rm", "--entrypoint", "tar", stack.image, "-C", "/", "-c", "opt/churn"]
    packed = subprocess.run(ran, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tmp_path, filter="data")
    assert len(list((tmp_path / "opt/churn").rglob("*.py"))) > 100
    planted = tmp_path / "opt/churn/planted.py"
    planted.write_text('password = "Tr0ub4dor&3"\n')  # the scanner would find one
    scanner = str(Path(sys.executable).with_name("detect-secrets"))
    visible = subprocess.check_output([scanner, "scan", "--all-files", "."], cwd=tmp_path, text=True)
    assert list(json.loads(visible)["results"]) == ["opt/churn/planted.py"]


def _is_secret(name: str) -> bool:
    return name.endswith(("_PASSWORD", "_KEY", "_SECRET", "_SALT"))


def _tasks(stack: Stack, dag: str, run: str) -> list[dict[str, str]]:
    return stack.admin._call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]


def _why(stack: Stack, dag: str, run: str) -> str:
    failed = [entry for entry in stack.admin.task_states(dag, run) if entry.state == "failed"]
    return "\n".join(f"{entry.task}: {stack.admin.why_failed(dag, run, entry)}" for entry in failed)


def _mounts(stack: Stack) -> list[dict[str, object]]:
    names = (
        "worker",
        "builder",
        "scheduler",
        "dag-processor",
        "triggerer",
        "api-server",
        "mlflow",
        "postgres",
        "redis",
        "seaweedfs",
    )
    return [
        {"Service": name, "Mounts": [mount["Source"] for mount in container.attrs["Mounts"]]}
        for name in names
        for container in stack.containers(name)
    ]


def _grep(stack: Stack, values: list[str]) -> str:
    """Lines of files in the image that hold one of these values."""
    words = "\n".join(values)
    command = [
        "docker",
        "run",
        "--rm",
        "-i",
        "--entrypoint",
        "grep",
        stack.image,
        "-raFf",
        "-",
        "/opt/churn",
        "/etc",
        "/root",
        "/tmp",  # noqa: S108 -- the image's
    ]
    return subprocess.run(command, input=words, capture_output=True, text=True, check=False).stdout


def _dump(stack: Stack, database: str) -> str:
    command = f"PGPASSWORD=$POSTGRES_PASSWORD exec pg_dump -h 127.0.0.1 -U postgres {database}"
    text = stack.compose("exec", "-T", "postgres", "sh", "-c", command).stdout
    assert "CREATE TABLE" in text
    return text
