"""A copy of the project with ports of its own, whose commands and services disturb nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.basics import ROOT, free_port

PARTS = ["include", "dags", "plugins", "data/sample", "contracts", "pyproject.toml", "requirements-serving.lock"]
KEPT_OUT = ("CHURN_", "AIRFLOW", "MLFLOW")
SALT = "5a" * 32
"""Which customers are unseen is drawn anew for each installation, and about one draw in 300 looks badly calibrated by chance."""


@dataclass(frozen=True)
class Checkout:
    """A copy of the project with ports of its own, and what its commands see."""

    folder: Path
    environment: dict[str, str]

    def churn(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "churn.cli.main", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=500, check=False
        )

    @property
    def airflow(self) -> str:
        return f"http://127.0.0.1:{self.environment['CHURN_AIRFLOW_PORT']}"


def share_serving_environments(folder: Path) -> None:
    """Let a copy of the project use the environments that serve models here: each is made once for all."""
    if (ROOT / "var/serving").is_dir():
        (folder / "var").mkdir(exist_ok=True)
        (folder / "var/serving").symlink_to(ROOT / "var/serving")


def make_checkout(folder: Path) -> Checkout:
    """Copy what the project needs to run into a folder that is there."""
    for part in PARTS:
        source, target = ROOT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / "var/secrets").mkdir(parents=True, mode=0o700)
    (folder / "var/secrets/churn_bucket_salt").write_text(SALT)
    (folder / "var/secrets/churn_bucket_salt").chmod(0o600)
    share_serving_environments(folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_OUT)}
    far = datetime.now(UTC) + timedelta(hours=12)
    ours = {
        "CHURN_CV_FOLDS": "2",
        # Approvals end before the next run of the schedule, so that must not be due while the tests run.
        "CHURN_SCHEDULE": f"{far.minute} {far.hour} * * *",
        "PYTHONPATH": str(folder / "include"),
        "CHURN_AIRFLOW_PORT": str(free_port()),
        "CHURN_MLFLOW_PORT": str(free_port()),
        "CHURN_CONTAINER_ENGINE": "none",
    }
    return Checkout(folder, kept | ours)
