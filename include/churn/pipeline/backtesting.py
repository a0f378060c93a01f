"""Replays the accepted batches in their order through snapshot, training, decision, promotion and confirmation, in a scratch ledger and MLflow.

It is what a person reads before changing the policy. Every batch is done once: a backtest that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import SecretStr

from churn.decision.scoring import Scorer, open_scorer
from churn.errors import ChurnError, NothingToDo
from churn.foundation import columnar
from churn.foundation.columnar.names import quoted
from churn.foundation.digests import json_digest, text_digest
from churn.foundation.ledger import open_ledger
from churn.foundation.parts import part_names
from churn.foundation.paths import accepted
from churn.foundation.records import Batch, BatchVerdict, Snapshot
from churn.foundation.storage import Storage
from churn.intake.label_files import ROWS
from churn.learning.snapshot import TRAINING, scan_counted, take_snapshot
from churn.learning.training import NotEnoughRows
from churn.learning.unseen import holdout_pieces
from churn.outcomes.backtest import (
    ALWAYS,
    MONTHLY,
    OURS,
    POINT,
    WAYS,
    Figures,
    Period,
    Stake,
    WayResult,
    draw,
    due_for_month,
    from_json,
    measure,
    summarise,
    to_json,
)
from churn.outcomes.states import State
from churn.pipeline import steps
from churn.pipeline.workspace import Request, Workspace
from churn.scoring.score_list import read_policy

log = logging.getLogger(__name__)
MODEL = "backtest"
_ROWS = 65_536
_PIECE = 200_000


@dataclass(frozen=True)
class BacktestSpec:
    """What is replayed: batches that arrived in a range of dates, under a policy file, with candidates; None: those in force."""

    since: date | None = None
    until: date | None = None
    policy: Path | None = None
    candidates: str | None = None


@dataclass(frozen=True)
class Backtest:
    """The result: each way of promoting over all periods, the periods, and the picture."""

    ways: list[WayResult]
    periods: list[Period]
    folder: Path
    picture: Path


def run_backtest(
    workspace: Workspace, spec: BacktestSpec, folder: Path, progress: Callable[[int, int], None] | None = None
) -> Backtest:
    """Replay the accepted batches.

    Args:
        workspace: the clients; nothing of theirs is changed.
        spec: what is replayed.
        folder: below which the scratch folder is kept, so that the same backtest goes on where it stopped.
        progress: called with the number of batches that are done, and of all.

    Raises:
        ChurnError: there are too few batches.
    """
    batches = _chosen(workspace, spec)
    if len([batch for batch in batches if (batch.kind or ROWS) == ROWS]) < 3:  # noqa: PLR2004 -- one to begin with, and two to compare
        raise ChurnError(
            f"{len(batches)} accepted batches are too few for a backtest. At least three are needed: land more, or widen --from and --to."
        )
    scratch, place = _scratch(workspace, spec, batches, folder)
    done = _Replay(workspace, scratch, place)
    with ExitStack() as opened:
        for number, batch in enumerate(batches, start=1):
            done.replay(number, batch, opened)
            if progress:
                progress(number, len(batches))
        done.finish(opened)
    refuted = sum(look.state == State.REFUTED for look in scratch.ledger.last_looks(MODEL))
    if not done.periods:
        raise ChurnError("No period has a version to score with and rows with labels. Land more batches.")
    picture = place / "backtest.svg"
    picture.write_text(f"{draw(done.periods)}")
    return Backtest(summarise(done.periods, refuted), done.periods, place, picture)


def _chosen(workspace: Workspace, spec: BacktestSpec) -> list[Batch]:
    """The accepted batches in the order of arrival; of equal times, by name."""
    return [
        batch
        for batch in workspace.ledger.batches(state="accepted")
        if (spec.since is None or batch.arrived_at.date() >= spec.since)
        and (spec.until is None or batch.arrived_at.date() <= spec.until)
    ]


def _scratch(workspace: Workspace, spec: BacktestSpec, batches: list[Batch], folder: Path) -> tuple[Workspace, Path]:
    """A workspace of its own: data root, ledger and MLflow in a folder that is named by what is replayed."""
    settings = workspace.settings
    policy = spec.policy or settings.policy_file
    name = json_digest(
        {
            "batches": [batch.batch for batch in batches],
            "contract": workspace.contract.fingerprint,
            "salt": workspace.sampling.fingerprint,
            "policy": text_digest(policy.read_text()),
            "scoring": text_digest(settings.scoring_policy_file.read_text()),
            "candidates": spec.candidates or settings.candidates,
            "training": [settings.seed, settings.cv_folds, settings.max_training_rows, settings.min_training_rows],
        }
    )[:16]
    place = folder / name
    (place / "data").mkdir(parents=True, exist_ok=True)
    changed: dict[str, Any] = {
        "data_root": str(place / "data"),
        "ledger_url": f"sqlite:///{place}/ledger.db",
        "mlflow_tracking_uri": f"sqlite:///{place}/mlflow.db",
        "mlflow_ui_url": None,
        "experiment": MODEL,
        "model_name": MODEL,
        "policy_file": policy,
        "candidates": spec.candidates or settings.candidates,
        "approval": "never",
        "scores_url": None,
        "scores_drop": None,
        "bucket_salt": SecretStr(settings.bucket_salt.get_secret_value()),
    }
    scratch = settings.model_copy(update=changed)
    return Workspace(scratch, Storage.open(str(place / "data")), open_ledger(scratch.ledger_url)), place


class _Replay:
    """Batches that have been replayed, and the version that each way has in production.

    Args:
        source: where the batches come from.
        scratch: where they are replayed.
        place: the folder of the backtest.
    """

    def __init__(self, source: Workspace, scratch: Workspace, place: Path) -> None:
        self._source, self._scratch, self._file = source, scratch, place / "periods.json"
        self.periods: list[Period] = []
        self._state: dict[str, Any] = {"versions": {}, "retrained": None, "done": 0}
        if self._file.exists():
            kept = json.loads(self._file.read_text())
            self.periods, self._state = [from_json(period) for period in kept["periods"]], kept["state"]
        self._scorers: dict[int, Scorer] = {}
        self._customers: dict[str, set[int]] = {}
        self._stake = _stake_of(scratch)

    def replay(self, number: int, batch: Batch, opened: ExitStack) -> None:
        """Measure the versions in production on a batch, then let it arrive, train, decide and promote."""
        if number <= self._state["done"]:
            return
        night, at = f"batch {number:05d}", batch.arrived_at
        self._accept(batch)
        if self._state["versions"] and (batch.kind or ROWS) == ROWS:
            self._measure(batch, opened)
        try:
            self._run(night, at, opened)
        except (NothingToDo, NotEnoughRows) as nothing:
            log.info("Batch %d: %s", number, nothing)
        self._state["done"] = number
        kept = {"periods": [to_json(period) for period in self.periods], "state": self._state}
        waiting = self._file.with_suffix(".part")
        waiting.write_text(json.dumps(kept))
        waiting.replace(self._file)

    def finish(self, opened: ExitStack) -> None:
        """Under a contract with a horizon, measure every period with the labels that are known at the end."""
        contract, workspace = self._scratch.contract, self._scratch
        if contract.horizon_days is None:
            return
        last = workspace.ledger.batches(state="accepted")[-1].arrived_at.astimezone(UTC).date()
        snapshot = take_snapshot(workspace.storage, workspace.ledger, contract, workspace.sampling, cutoff=last)
        labels = self._final_labels(snapshot)
        batches = {batch.batch: batch for batch in workspace.ledger.batches()}
        finished = []
        for period in self.periods:
            _, rows = self._later_rows(batches[period.batch])
            as_of = contract.row_key[-1].name
            places = list(zip(rows["_customer"], rows[as_of].dt.date, strict=True))
            known = np.array([place in labels for place in places], bool)
            y = np.array([labels[place] for place in places if place in labels], np.int64)
            chosen = rows[known]
            found = {
                way: measure(y, np.asarray(self._scorer(version, opened)(chosen), np.float64), self._stake)
                for way, version in period.versions.items()
            }
            if len(y):
                finished.append(Period(period.batch, period.at, period.versions, found))
        self.periods = finished

    def _final_labels(self, snapshot: Snapshot) -> dict[tuple[int, date], int]:
        contract, workspace = self._scratch.contract, self._scratch
        as_of, target = (quoted(column.name) for column in (contract.row_key[-1], contract.target))
        with (
            workspace.storage.scratch() as folder,
            columnar.engine(workspace.settings.duckdb_memory_limit) as connection,
        ):
            scan_counted(connection, "counted", workspace.storage, snapshot, contract, range(columnar.BUCKETS), folder)
            rows = connection.execute(f"SELECT _customer, {as_of}, {target} FROM counted").fetchall()  # noqa: S608 -- quoted names
        return {(customer, day): int(label) for customer, day, label in rows}

    def _accept(self, batch: Batch) -> None:
        """Copy the accepted rows of a batch, and record them as they were."""
        source, scratch = self._source.storage, self._scratch.storage
        for name in [*source.names(accepted(batch.batch)), f"{accepted(batch.batch)}.parquet"]:
            if source.exists(name) and not scratch.exists(name):
                with source.reading(name) as stream, scratch.writing(name) as target:
                    for chunk in iter(lambda stream=stream: stream.read(4 << 20), b""):  # type: ignore[misc]
                        target.write(chunk)
        ledger = self._scratch.ledger
        ledger.add_batch(batch.batch, batch.name, batch.size, batch.arrived_at)
        ledger.judge_batch(
            batch.batch,
            "replayed",
            BatchVerdict(
                "accepted",
                batch.arrived_rows or 0,
                batch.accepted_rows or 0,
                batch.quarantined_rows or 0,
                events=batch.events or 0,
                accepted_sha256=batch.accepted_sha256,
                kind=batch.kind,
                complete_from=batch.complete_from,
                complete_through=batch.complete_through,
            ),
        )

    def _run(self, night: str, at: datetime, opened: ExitStack) -> None:
        """A run as it would have been, and what the other ways would have done with its challenger."""
        workspace, request = self._scratch, Request(night, at=at)
        challenger = steps.train(workspace, request)
        steps.compare(workspace, request, challenger)
        try:
            steps.promote(workspace, night, at)
        except NothingToDo as held:
            log.info("%s", held)
        new, versions = challenger.version, self._state["versions"]
        change = workspace.ledger.in_production(MODEL)
        if change is None or change.version is None:
            return
        if not versions:
            versions |= dict.fromkeys(WAYS, change.version)
            self._state["retrained"] = at.isoformat()
            return
        versions[OURS], versions[ALWAYS] = change.version, new
        if due_for_month(datetime.fromisoformat(self._state["retrained"]), at):
            versions[MONTHLY], self._state["retrained"] = new, at.isoformat()
        if self._is_better(new, versions[POINT], night, opened):
            versions[POINT] = new

    def _is_better(self, new: int, old: int, night: str, opened: ExitStack) -> bool:
        """Whether a version has the lower Brier score on the unseen customers, by whatever difference."""
        decision = self._scratch.ledger.decision(night)
        snapshot = self._scratch.ledger.snapshot(decision.snapshot) if decision else None
        if snapshot is None or new == old:
            return False
        losses, target = {new: 0.0, old: 0.0}, self._scratch.contract.target.name
        for piece in holdout_pieces(self._scratch.storage, snapshot, self._scratch.contract, _PIECE):
            labels = piece[target].to_numpy(np.float64)
            for version in losses:
                losses[version] += float(((self._scorer(version, opened)(piece) - labels) ** 2).sum())
        return losses[new] < losses[old]

    def _measure(self, batch: Batch, opened: ExitStack) -> None:
        """Measure the versions in production on the rows of a batch; with a horizon, `finish` does so once the labels are known."""
        labels, rows = self._later_rows(batch)
        versions = dict(self._state["versions"])
        if not len(rows):
            return
        found = {way: Figures(0, 0, None, None, None) for way in versions}
        if self._scratch.contract.horizon_days is None:
            found = {
                way: measure(labels, np.asarray(self._scorer(version, opened)(rows), np.float64), self._stake)
                for way, version in versions.items()
            }
        self.periods.append(Period(batch.batch, batch.arrived_at, versions, found))

    def _later_rows(self, batch: Batch) -> tuple[np.ndarray, pd.DataFrame]:
        """The rows of a batch whose customers no version can have been trained on: new ones, and those that are never trained on."""
        workspace, contract = self._scratch, self._scratch.contract
        pieces = list(_bucketed(workspace, batch))
        table = pa.concat_tables(pieces) if pieces else None
        if table is None or not table.num_rows:
            return np.zeros(0, np.int64), pd.DataFrame()
        before: set[int] = set()
        for earlier in workspace.ledger.batches(state="accepted"):
            if earlier.batch == batch.batch:
                break
            if (earlier.kind or ROWS) == ROWS:
                before |= self._customers_of(earlier)
        new = np.array([customer not in before for customer in table["_customer"].to_pylist()], bool)
        kept = table.filter(pa.array(new | (table["_bucket"].to_numpy() < TRAINING.start)))
        frame: pd.DataFrame = kept.to_pandas(date_as_object=False)
        return frame[contract.target.name].fillna(0).to_numpy(np.int64), frame

    def _customers_of(self, batch: Batch) -> set[int]:
        if batch.batch not in self._customers:
            pieces = _bucketed(self._scratch, batch)
            self._customers[batch.batch] = {customer for piece in pieces for customer in piece["_customer"].to_pylist()}
        return self._customers[batch.batch]

    def _scorer(self, version: int, opened: ExitStack) -> Scorer:
        if version not in self._scorers:
            workspace = self._scratch
            scorer = open_scorer(version, workspace.ledger, workspace.tracking, workspace.environments)
            self._scorers[version] = opened.enter_context(scorer)
        return self._scorers[version]


def _bucketed(workspace: Workspace, batch: Batch) -> Iterator[pa.Table]:
    """The accepted rows of a batch with the bucket and the keyed hash of each customer."""
    with columnar.engine(workspace.settings.duckdb_memory_limit) as connection:
        for name in part_names(workspace.storage, accepted(batch.batch)):
            file = Path(workspace.storage.path(name))
            contract, salt = workspace.contract, workspace.sampling.salt
            for rows in columnar.read_bucketed_rows(connection, file, 0, contract, salt, _ROWS):
                yield pa.Table.from_batches([rows])


def _stake_of(workspace: Workspace) -> Stake:
    """What a list is worth, by the scoring policy; a value column counts as one unit for each customer."""
    policy = read_policy(workspace)
    share = policy.capacity.share
    capacity = share if share is not None else 0.1
    return Stake(capacity, policy.value.amount or 1.0, policy.contact.cost, policy.contact.success_rate)


def as_plain(found: Backtest) -> dict[str, Any]:
    """A backtest as plain JSON."""
    return {
        "ways": [asdict(way) for way in found.ways],
        "periods": [to_json(period) for period in found.periods],
        "folder": str(found.folder),
        "picture": str(found.picture),
        "made_at": datetime.now(UTC).isoformat(),
    }
