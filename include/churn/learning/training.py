"""Trains a challenger on the training rows of a snapshot, and registers it.

The holdout is never read here. Repeating a run returns the same MLflow run and the same version.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.data.pandas_dataset import from_pandas
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH
from numpy.typing import NDArray

from churn.candidate import Context
from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.artifacts import downloaded
from churn.foundation.digests import folder_digest
from churn.foundation.ledger import Ledger
from churn.foundation.records import Snapshot, VersionRecord
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.foundation.tracking import RegistryChanged, Tracking
from churn.learning.candidate_module import own_module, read_candidates
from churn.learning.fitting import read_customers, read_rows
from churn.learning.needs import NO_TYPES, TypeRule, log_needs
from churn.learning.registered_model import describe_registered_model, describe_use, log_model
from churn.learning.search import plan_search
from churn.learning.search_report import describe_capacity, write_search
from churn.learning.selection import SearchSpec, Selected, select_model
from churn.learning.snapshot import count_contacted, drawn_training_rows, snapshot_url

log = logging.getLogger(__name__)

SEARCH = "search"
"""Artifact folder with the trials of the search, and its pictures."""
EVIDENCE_TAGS = ("churn.target", "churn.key", "churn.salt_fingerprint")


class NotEnoughRows(ChurnError):  # noqa: N818 -- it says what is the matter
    """There are too few accepted rows for a training."""


@dataclass(frozen=True)
class TrainingSpec:
    """Everything besides the rows that determines the model.

    `treated` are the customers whom lists have contacted, as for `columnar.leave_out_contacted`. Their rows are counted, and left out of the
    training if `leave_out_contacted`.
    """

    min_rows: int
    git_commit: str | None
    search: SearchSpec
    treated: pa.Table | None = None
    leave_out_contacted: bool = False


@dataclass(frozen=True)
class TrainedRows:
    """The rows that a version is trained on.

    - `rows`: their number
    - `contacted`: how many rows of the snapshot are of customers whom a list had contacted
    - `contacted_trained`: whether these are among them
    """

    rows: int
    contacted: int
    contacted_trained: bool


@dataclass(frozen=True)
class Challenger:
    """The version that a run has trained, and its MLflow run."""

    version: int
    run_id: str
    kind: str
    snapshot: str


def evidence_tags(contract: Contract, salt_fingerprint: str) -> dict[str, str]:
    """The tags that must agree before two versions may be compared: target, key, and salt of the buckets."""
    return dict(zip(EVIDENCE_TAGS, (contract.target.name, contract.key.name, salt_fingerprint), strict=True))


def train_challenger(
    night: str,
    snapshot: Snapshot,
    storage: Storage,
    ledger: Ledger,
    contract: Contract,
    sampling: Sampling,
    tracking: Tracking,
    spec: TrainingSpec,
) -> Challenger:
    """Train on a snapshot and register a new version, once per run. The ledger records the hash of its files.

    Raises:
        NotEnoughRows: too few training rows, or too few of one class.
        CandidateFailed: a standard candidate failed.
        CandidateUnusable: the selected model cannot be used where its image has no more than it needs.
        NoCandidate: every candidate failed.
        RegistryChanged: the registered model is not the one that the ledger describes.
        TrackingGone: the experiment was deleted.
        TrackingUnreachable: MLflow is unavailable. Nothing is registered; run the step again.
    """
    with tracking.explained("find the MLflow runs of this run"):
        parent = tracking.run(night, "night", night)
        run = tracking.run(night, "challenger", "challenger", parent=parent.info.run_id)
        trained = tracking.version_of_run(run.info.run_id)
        if trained:
            log.info("Run %s has already trained version %s.", night, trained)
            known = ledger.version(tracking.model, trained)  # its module may have been deleted since
            rule = NO_TYPES if known else type_rule(snapshot, contract, spec.search)
            rows = _count_rows(snapshot, storage, contract, sampling, spec)
            remember_version(trained, run.info.run_id, night, snapshot, ledger, tracking, rule, rows)
            return Challenger(trained, run.info.run_id, run.data.tags["churn.kind"], snapshot.snapshot)
    rows = _count_rows(snapshot, storage, contract, sampling, spec)
    plan = plan_search(rows.rows, spec.search.max_rows)
    without = None if rows.contacted_trained else spec.treated
    with drawn_training_rows(storage, snapshot, contract, sampling, plan.end, without) as file:
        target = read_rows(file, 0, plan.end, [contract.target.name])[contract.target.name].to_numpy(dtype="int64")
        _require_enough(target, contract, spec)
        customers = read_customers(file, 0, plan.end, contract)
        plan = plan.between_customers(customers)
        selected = select_model(file, target, plan, contract, spec.search, customers)
    with tracking.explained("log and register the challenger"):
        uri = _log_training(run.info.run_id, selected, snapshot, storage, contract, spec, rows)
        version = _register(run.info.run_id, uri, selected, night, snapshot, contract, tracking, rows)
    remember_version(version, run.info.run_id, night, snapshot, ledger, tracking, selected.ready.needs.types, rows)
    return Challenger(version, run.info.run_id, selected.chosen.name, snapshot.snapshot)


def _count_rows(
    snapshot: Snapshot, storage: Storage, contract: Contract, sampling: Sampling, spec: TrainingSpec
) -> TrainedRows:
    contacted = 0
    if spec.treated is not None:
        contacted = count_contacted(storage, snapshot, contract, sampling, spec.treated)
    if not contacted:
        return TrainedRows(snapshot.training_rows, 0, contacted_trained=True)
    trained = not spec.leave_out_contacted
    log.info(
        "%s training rows are of customers whom a list had contacted; the challenger is %s them.",
        f"{contacted:,}",
        "trained on" if trained else "not trained on",
    )
    return TrainedRows(snapshot.training_rows - (0 if trained else contacted), contacted, trained)


def type_rule(snapshot: Snapshot, contract: Contract, search: SearchSpec) -> TypeRule:
    """Which types a version that was registered before may contain, by the candidates as they are now."""
    read = read_candidates(search.candidates, contract, Context(snapshot.training_rows, search.seed))
    return TypeRule.of(read.usable.values(), own_module(search.candidates))


def _require_enough(target: NDArray[np.int64], contract: Contract, spec: TrainingSpec) -> None:
    events = int(target.sum())
    fewest = min(events, len(target) - events)
    if len(target) < spec.min_rows or fewest < spec.search.folds:
        raise NotEnoughRows(
            f"There are {len(target):,} training rows, {events:,} of them with {contract.target.name} = 1. At least {spec.min_rows:,} rows "
            f"and {spec.search.folds} of each class are required. Land more data, or lower CHURN_MIN_TRAINING_ROWS."
        )


def _log_training(
    run_id: str,
    selected: Selected,
    snapshot: Snapshot,
    storage: Storage,
    contract: Contract,
    spec: TrainingSpec,
    rows: TrainedRows,
) -> str:
    """Log parameters, model and metrics; in this order each is one call. Returns the URI of the model."""
    chosen = selected.chosen
    with mlflow.start_run(run_id=run_id):
        mlflow.set_tags(_tags(selected, snapshot, contract, spec))
        mlflow.log_params(
            {
                "kind": chosen.name,
                "features": ", ".join(contract.feature_names),
                "training_rows": rows.rows,
                "fitted_rows": selected.rows,
                "folds": spec.search.folds,
                "seed": spec.search.seed,
            }
            | describe_capacity(chosen)
            | ({"left_out": _left_out(selected)} if selected.left_out else {})
            | (
                {"contacted_rows": rows.contacted, "contacted_trained": rows.contacted_trained}
                if rows.contacted
                else {}
            )
        )
        schema = pd.DataFrame({name: [] for name in [*contract.feature_names, contract.target.name]})
        mlflow.log_input(
            from_pandas(
                schema,
                source=snapshot_url(storage, snapshot),
                targets=contract.target.name,
                name=f"snapshot {snapshot.snapshot[:12]}",
                digest=snapshot.snapshot[:32],
            ),
            context="training",
        )
        logged = log_model(selected.model, contract, selected.ready.needs, selected.ready.types)
        mlflow.log_metrics(
            {f"cv_{name}": value for name, value in chosen.measured.metrics.items()}, model_id=logged.model_id
        )
        with TemporaryDirectory(prefix="churn-search-") as folder:
            write_search(selected, Path(folder))
            mlflow.log_artifacts(folder, SEARCH)
        log_needs(selected.ready.needs)
    return str(logged.model_uri)


def _left_out(selected: Selected) -> str:
    """The candidates that could not be used, each with the reason, as a parameter of the version."""
    return " ".join(f"{name}: {reason}" for name, reason in selected.left_out.items())[:MAX_PARAM_VAL_LENGTH]


def remember_version(
    version: int,
    run_id: str,
    night: str,
    snapshot: Snapshot,
    ledger: Ledger,
    tracking: Tracking,
    types: TypeRule = NO_TYPES,
    rows: TrainedRows | None = None,
) -> None:
    """Record the hash of the version's files as they are in the store now, its parameters, and the types that its candidates brought.

    A version that is recorded already is left as it is.

    Raises:
        RegistryChanged: the ledger knows this version from another MLflow run.
    """
    recorded = ledger.version(tracking.model, version)
    if recorded and recorded.run_id != run_id:
        raise RegistryChanged(tracking.other_version(version, recorded.run_id, run_id))
    if recorded:
        return
    with downloaded(version, tracking) as files:
        digest, trusted = folder_digest(files), types.types_of(files)
    with tracking.explained("read the parameters of the version"):
        parameters = dict(tracking.client.get_run(run_id).data.params)
    ledger.add_version(
        VersionRecord(
            tracking.model,
            version,
            night,
            run_id,
            snapshot.snapshot,
            digest,
            datetime.now(UTC),
            parameters,
            trusted,
            rows.contacted if rows else None,
            rows.contacted_trained if rows else None,
        )
    )


def _tags(selected: Selected, snapshot: Snapshot, contract: Contract, spec: TrainingSpec) -> dict[str, str]:
    tags = {
        **evidence_tags(contract, snapshot.salt_fingerprint),
        "churn.kind": selected.chosen.name,
        "churn.snapshot": snapshot.snapshot,
        "churn.contract": contract.fingerprint,
    }
    return tags | ({"mlflow.source.git.commit": spec.git_commit} if spec.git_commit else {})


def _register(
    run_id: str,
    uri: str,
    selected: Selected,
    night: str,
    snapshot: Snapshot,
    contract: Contract,
    tracking: Tracking,
    rows: TrainedRows,
) -> int:
    client = tracking.client
    describe_registered_model(contract, tracking)
    made = client.create_model_version(
        tracking.model,
        source=uri,
        run_id=run_id,
        model_id=uri.removeprefix("models:/"),
        description=(
            f"Trained in run {night} as {selected.chosen.name} on {rows.rows:,} customers "
            f"(snapshot {snapshot.snapshot[:12]}, {len(snapshot.batches)} batches). Run: {tracking.run_link(run_id)}\n\n"
            f"{describe_use(uri, contract)}"
        ),
        tags={
            **evidence_tags(contract, snapshot.salt_fingerprint),
            "churn.kind": selected.chosen.name,
            "churn.snapshot": snapshot.snapshot,
            "churn.night": night,
        },
    )
    return int(made.version)
