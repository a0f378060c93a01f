"""The part of `make bench WHAT=load` that measures commands beside many runs and versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow

from reporting import Figure, say, seconds
from support.basics import mlflow_server
from support.review_ledger import fill_ledger

FEW_RUNS, MANY_RUNS = 30, 3_650
FEW_VERSIONS, MANY_VERSIONS = 5, 200
GOAL = "<= 1.3"
COMMANDS = (
    "status",
    "history",
    "batches",
    "alerts",
    "outcomes",
    "scores list",
    "snapshot list",
    "image list",
    "audit",
    "reconcile",
    "settings",
)
ROUNDS = 3


def measure_commands(home: Path, _: str) -> list[Figure]:
    """The fastest of several times that each command takes, beside few and beside many runs and versions."""
    took: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for runs, versions in ((FEW_RUNS, FEW_VERSIONS), (MANY_RUNS, MANY_VERSIONS)):
        say(f"{runs:,} runs, {versions} versions")
        place = home / f"runs-{runs}"
        (place / "data").mkdir(parents=True)
        fill_ledger(f"sqlite:///{place}/ledger.db", runs)
        with mlflow_server(place, f"sqlite:///{place}/mlflow.db", str(place / "artifacts")) as url:
            register(url, versions)
            environment = os.environ | {
                "CHURN_LEDGER_URL": f"sqlite:///{place}/ledger.db",
                "CHURN_DATA_ROOT": str(place / "data"),
                "MLFLOW_TRACKING_URI": url,
            }
            for command in COMMANDS:
                took[command].append(min(seconds(lambda: call(command, environment)) for _ in range(ROUNDS)))  # noqa: B023
    return [
        Figure(
            f"churn {command}: {MANY_RUNS:,} runs / {FEW_RUNS}", GOAL, f"{many / few:.2f} ({many:.2f} s / {few:.2f} s)"
        )
        for command, (few, many) in took.items()
    ]


def register(url: str, versions: int) -> None:
    """Register versions without files."""
    client, model = mlflow.MlflowClient(url), "churn"
    client.create_registered_model(model)
    run = client.create_run(client.create_experiment(model)).info
    for _ in range(versions):
        client.create_model_version(model, f"{run.artifact_uri}/model", run.run_id)


def call(command: str, environment: dict[str, str]) -> None:
    """Call a command; that it reports something, with the status 1, is right for a made-up ledger."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("churn")), *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"churn {command} ended with {done.returncode}: {done.stderr[-2000:]}")
