"""What keeps a stack for years: backup and restore, upkeep, the served model, another start."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from churn.contract import BANK_CHURN
from churn.main_job import IMAGE_BUILD, RETRAINING
from churn.release.probes import contract_rows
from stacks import Stack
from support import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.stack, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def saved(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a stack with a night; afterwards another night has changed everything."""
    folder = tmp_path_factory.mktemp("backup") / "saved"
    _run_night(stack, 1)
    assert stack.follow(IMAGE_BUILD, "image-of-version-1") == "success"
    stack.make("backup", BACKUP=str(folder))
    _run_night(stack, 2)
    return folder


def test_another_start_changes_nothing(stack: Stack) -> None:
    """`make up` on a stack that is up: migrations and users are repeatable, and the secrets stay."""
    before = stack.env_file.read_text()
    assert "All services are healthy" in stack.make("up")
    assert stack.env_file.read_text() == before


def test_the_image_in_production_is_served(stack: Stack, saved: Path) -> None:
    """`make serve`: by digest or id, on 8081, with the answers of the registry's model behind it."""
    stack.make("serve")
    stack.wait_until_well("serving")
    rows = contract_rows(BANK_CHURN)
    body = {"dataframe_split": json.loads(rows.head(5).to_json(orient="split", index=False))}
    answer = httpx.post(f"http://127.0.0.1:{stack.env['SERVING_PORT']}/invocations", json=body, timeout=30)
    assert len(answer.json()["predictions"]) == 5
    assert stack.container("serving").attrs["Config"]["Image"].startswith("sha256:")


def test_a_restored_stack_is_as_it_was(stack: Stack, saved: Path) -> None:
    """Databases and buckets of the moment of the backup; registry and ledger agree; every decision can be made again."""
    assert len(json.loads(stack.churn("batches", "--json").stdout)) == 2
    said = stack.make("restore", BACKUP=str(saved))
    assert "All services are healthy" in said
    (batch,) = json.loads(stack.churn("batches", "--json").stdout)
    assert batch["name"] == "night-1.csv"
    for command in (["status"], ["audit", "--hashes"], ["replay", "--all"]):
        stack.churn(*command)
    _run_night(stack, 3)
    stack.churn("status")


def test_upkeep_leaves_what_counts(stack: Stack, saved: Path) -> None:
    """Old runs of Airflow and MLflow's trash go; production stays."""
    stack.make("upkeep", KEEP_DAYS="0")
    stack.churn("status")
    stack.churn("replay", "--all")


def _run_night(stack: Stack, number: int) -> None:
    file = ROOT / f"data/sample/night-{number}.csv"
    stack.make("land", FILE=str(file))
    stack.admin.trigger(RETRAINING, f"night-{number}", {})
    assert stack.follow(RETRAINING, f"night-{number}") == "success"
