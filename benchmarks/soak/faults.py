"""What happens to the system in the month: real faults, each with how it begins and how it ends. Both ways to run the month use them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from sqlalchemy.engine import make_url

from churn.checkout import HOME
from churn.foundation.tracking import NIGHT
from churn.pipeline import answers, disagreements, maintenance, steps
from churn.pipeline.workspace import Workspace
from churn.release.withdrawal import restore_batch, withdraw_batch

PERSON = "the soak"
LOOSE = {"champion_days": 14, "retry_days": 7, "level": 0.05, "roc_auc_margin": 0.03, "brier_margin": 0.01}
"""The part *freshness* of the policy after it was changed: an ordinary challenger now replaces a champion of two weeks."""
LATER_PARTS = frozenset({"training"})
"""Parts of the policy that came after the earlier commit. A file without them is still one after an upgrade."""
PLAUSIBLE_AUC = 0.97
"""Drawn customers of two kinds are easier to tell apart than real ones."""
EARLIER_NIGHTS = 3
"""How many nights lie between the night that loses a version, a run or a batch, and the night in which it is lost."""


@dataclass(frozen=True)
class Outage:
    """Something that is unavailable during the first attempt of a night."""

    begin: Callable[[], None]
    end: Callable[[], None]


def move_away(path: Path) -> Outage:
    """Move a folder away, as when a disk is not mounted, and put it back.

    The end fails if something was written in its place meanwhile: it would be lost when the disk is mounted again.
    """
    away = path.with_name(f"{path.name}.away")

    def end() -> None:
        if path.exists():
            written = [str(file) for file in path.rglob("*") if file.is_file()]
            if written:
                raise AssertionError(f"Written in the place of {path}: {', '.join(written)}")
            shutil.rmtree(path)
        away.rename(path)

    return Outage(lambda: path.rename(away) and None, end)


def make_unreachable(ledger_url: str) -> Outage:
    """Put a folder in the place of a SQLite ledger, so that no process can open it, and put the ledger back."""
    file = Path(make_url(ledger_url).database or "")
    moved = [file, *(file.with_name(f"{file.name}{suffix}") for suffix in ("-wal", "-shm"))]

    def begin() -> None:
        for path in moved:
            if path.exists():
                path.rename(path.with_name(f"away-{path.name}"))
        file.mkdir()

    def end() -> None:
        file.rmdir()
        for path in moved:
            if (away := path.with_name(f"away-{path.name}")).exists():
                away.rename(path)

    return Outage(begin, end)


def fill(folder: Path) -> Outage:
    """Fill the disk of a folder, which is a small one of its own, to the last byte, and free it."""
    ballast = folder / ".ballast"

    def begin() -> None:
        with ballast.open("wb") as stream:
            try:
                while True:
                    os.posix_fallocate(stream.fileno(), stream.seek(0, os.SEEK_END), 4096)
            except OSError:
                return

    return Outage(begin, ballast.unlink)


def move_alias(workspace: Workspace) -> None:
    """Let the alias `champion` name another version, as a person may do in MLflow."""
    current = workspace.ledger.in_production(workspace.settings.model_name)
    assert current is not None
    others = [
        int(version.version)
        for version in workspace.tracking.client.search_model_versions(f"name = '{workspace.settings.model_name}'")
        if int(version.version) != current.version
    ]
    workspace.tracking.client.set_registered_model_alias(workspace.settings.model_name, "champion", str(max(others)))


def reconcile(workspace: Workspace) -> None:
    """Do what `churn reconcile` does. There must be something to restore."""
    said = disagreements.reconcile(workspace)
    assert said, "Nothing differed, so the alias was not moved."


def delete_version(workspace: Workspace, run: str) -> None:
    """Delete the version that a night has trained, in MLflow."""
    record = workspace.ledger.version_of_run(workspace.settings.model_name, run)
    assert record is not None
    workspace.tracking.client.delete_model_version(record.model, str(record.version))


def delete_run(workspace: Workspace, run: str) -> None:
    """Delete the MLflow runs of a night."""
    found = workspace.tracking.client.search_runs([workspace.tracking.experiment_id], f"tags.`{NIGHT}` = '{run}'")
    assert found
    for one in found:
        workspace.tracking.client.delete_run(one.info.run_id)


def withdraw(workspace: Workspace, run: str) -> None:
    """Withdraw the batch of a night."""
    (batch,) = workspace.ledger.batches(night=run)
    withdraw_batch(batch, "The bank sent it by mistake.", workspace.ledger, workspace.tracking)


def restore(workspace: Workspace) -> None:
    """Restore the batch that was withdrawn."""
    (batch,) = workspace.ledger.batches(state="withdrawn")
    restore_batch(batch, "It was right after all.", workspace.ledger, workspace.tracking)


def roll_back(workspace: Workspace, run: str) -> None:
    """Return to the version that was in production before."""
    steps.roll_back(workspace, None, "Customers complained.", PERSON, f"{run}-rollback")


def expire(workspace: Workspace, run: str) -> None:
    """Let the time for an answer pass, as Airflow's task does."""
    answers.answer(workspace, run, "expired", "nobody", "nobody answered in time")


def unfreeze(workspace: Workspace) -> None:
    """Turn automatic promotion on again."""
    assert answers.unfreeze(workspace, "The complaints were settled.", PERSON)


def maintain(workspace: Workspace) -> None:
    """Do what the weekly maintenance does."""
    maintenance.clean(maintenance.plan_maintenance(workspace), workspace)
    maintenance.check_snapshot(workspace)


def write_policy(file: Path, loose: bool) -> None:
    """Write the policy that ships, as the earlier commit knows it, or one that is satisfied with a challenger that is about as good."""
    policy = yaml.safe_load((HOME / "include/churn/promotion_policy.yaml").read_text())
    policy = {name: part for name, part in policy.items() if name not in LATER_PARTS}
    policy["sanity"]["max_model_auc"] = PLAUSIBLE_AUC
    file.write_text(yaml.safe_dump(policy | ({"freshness": LOOSE} if loose else {})))
