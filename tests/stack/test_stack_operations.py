"""What keeps a stack for years: backup and restore, maintenance, the served model, another start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from churn.contracts.bank import BANK_CHURN
from churn.foundation.links import RETRAINING
from churn.local.airflow_api import AirflowUnreachable
from churn.release.probes import contract_rows
from support.stacks import Stack

pytestmark = [pytest.mark.engine, pytest.mark.stack, pytest.mark.timeout(1200)]
NUMBERS = count(900)


@dataclass(frozen=True)
class Saved:
    """A backup, and the batches that the ledger knew then."""

    folder: Path
    batches: str


@pytest.fixture(scope="module")
def saved(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """A backup of a stack with a night; afterwards another night has changed everything."""
    folder = tmp_path_factory.mktemp("backup")
    _run_night(stack, folder)
    stack.make("backup", BACKUP=str(folder / "saved"))
    kept = Saved(folder / "saved", stack.churn("batches", "--json").stdout)
    _run_night(stack, folder)
    return kept


def test_another_start_changes_nothing(stack: Stack) -> None:
    """`make up` on a stack that is up: migrations and users are repeatable, and the secrets stay."""
    before = stack.env_file.read_text()
    assert "All services are healthy" in stack.make("up")
    assert stack.env_file.read_text() == before


def test_the_image_in_production_is_served(stack: Stack, saved: Saved) -> None:
    """`make serve`: by digest or id, on 8081, with the answers of the registry's model behind it."""
    stack.make("serve")
    stack.wait_until_well("serving")
    rows = contract_rows(BANK_CHURN)
    body = {"dataframe_split": json.loads(rows.head(5).to_json(orient="split", index=False))}
    answer = httpx.post(f"http://127.0.0.1:{stack.env['SERVING_PORT']}/invocations", json=body, timeout=30)
    assert len(answer.json()["predictions"]) == 5
    assert stack.container("serving").attrs["Config"]["Image"].startswith("sha256:")


def test_a_restored_stack_is_as_it_was(stack: Stack, saved: Saved, tmp_path: Path) -> None:
    """Databases and buckets of the moment of the backup; registry and ledger agree; every decision can be made again."""
    assert stack.churn("batches", "--json").stdout != saved.batches
    assert "All services are healthy" in stack.make("restore", BACKUP=str(saved.folder))
    assert stack.churn("batches", "--json").stdout == saved.batches
    for command in (["status"], ["audit", "--hashes"], ["replay", "--all"]):
        stack.churn(*command)
    _run_night(stack, tmp_path)
    stack.churn("status")


def test_maintenance_takes_old_runs_and_leaves_what_counts(stack: Stack, saved: Saved) -> None:
    """Airflow's finished runs go; ledger, registry and the way to every decision stay. Seen from tomorrow, all of them are old."""
    before = _runs(stack)
    stack.make("upkeep", KEEP_DAYS="-1")
    assert _runs(stack) < before
    stack.churn("status")
    stack.churn("replay", "--all")


@retry(retry=retry_if_exception_type(AirflowUnreachable), stop=stop_after_delay(120), wait=wait_fixed(2), reraise=True)
def _runs(stack: Stack) -> int:
    """The number of runs. Seen from tomorrow, the DAG itself is old too: Airflow lists it again once its file has been parsed."""
    return int(stack.admin._call("GET", f"/api/v2/dags/{RETRAINING}/dagRuns")["total_entries"])


def _run_night(stack: Stack, folder: Path) -> None:
    """A night, and the image of what is in production after it."""
    number = next(NUMBERS)
    stack.land_night(folder, number)
    run = f"operations-{number}"
    stack.admin.trigger(RETRAINING, run, {})
    assert stack.follow(RETRAINING, run) == "success"
    stack.follow_image()
