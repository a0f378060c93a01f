"""Fits the candidates, selects one by cross-validation on the training rows, and registers it.

The holdout is never read here. Repeating a run returns the same MLflow run and the same version.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from churn.candidate import Candidate as Competitor
from churn.candidate import Context
from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.artifacts import downloaded
from churn.foundation.digests import folder_digest
from churn.foundation.examples import model_input
from churn.foundation.ledger import Ledger
from churn.foundation.records import Snapshot, VersionRecord
from churn.foundation.storage import Storage
from churn.foundation.tracking import RegistryChanged, Tracking
from churn.learning.candidate_module import load_candidates, own_module
from churn.learning.candidates import AVERAGE
from churn.learning.extra_packages import EXTRA_LOCK
from churn.learning.needs import NO_TYPES, ModelNeeds, TypeRule, log_needs, needs_of
from churn.learning.registered_model import describe_registered_model, describe_use, log_model
from churn.learning.snapshot import snapshot_url, training_rows
from churn.learning.trial import try_model
from churn.settings import HOME

log = logging.getLogger(__name__)

EVIDENCE_TAGS = ("churn.target", "churn.key", "churn.salt_fingerprint")


class NotEnoughRows(ChurnError):  # noqa: N818 -- it says what is the matter
    """There are too few accepted rows for a training."""


@dataclass(frozen=True)
class TrainingSpec:
    """Everything besides the rows that determines the model."""

    min_rows: int
    folds: int
    seed: int
    git_commit: str | None
    lock: Path
    candidates: str = "churn.learning.candidates:standard"
    extra_lock: Path = HOME / EXTRA_LOCK


@dataclass(frozen=True)
class Challenger:
    """The version that a run has trained, and its MLflow run."""

    version: int
    run_id: str
    kind: str
    snapshot: str


@dataclass(frozen=True)
class Candidate:
    """One kind of model in cross-validation. `losses` is the out-of-fold log loss of each training row, shape (rows,)."""

    kind: str
    metrics: dict[str, float]
    losses: NDArray[np.float64]


def evidence_tags(contract: Contract, salt_fingerprint: str) -> dict[str, str]:
    """The tags that must agree before two versions may be compared: target, key, and salt of the buckets."""
    return dict(zip(EVIDENCE_TAGS, (contract.target.name, contract.key.name, salt_fingerprint), strict=True))


def train_challenger(
    night: str,
    snapshot: Snapshot,
    storage: Storage,
    ledger: Ledger,
    contract: Contract,
    tracking: Tracking,
    spec: TrainingSpec,
) -> Challenger:
    """Train on a snapshot and register a new version, once per run. The ledger records the hash of its files.

    Raises:
        NotEnoughRows: too few training rows, or too few of one class.
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
            rule = NO_TYPES if known else type_rule(contract, Context(snapshot.training_rows, spec.seed), spec)
            remember_version(trained, run.info.run_id, night, snapshot, ledger, tracking, rule)
            return Challenger(trained, run.info.run_id, run.data.tags["churn.kind"], snapshot.snapshot)
    rows = training_rows(storage, snapshot)
    features, target = model_input(contract, rows), rows[contract.target.name].to_numpy()
    _require_enough(target, contract, spec)
    candidates = cross_validate(features, target, contract, spec)
    chosen = choose_candidate(candidates)
    log.info("Selected from %d candidates: %s.", len(candidates), chosen.kind)
    competitors = competing(contract, Context(len(target), spec.seed), spec)
    model, made_of = clone(competitors[chosen.kind][0]).fit(features, target), competitors[chosen.kind][1]
    needs = needs_of(chosen.kind, made_of, spec.candidates, own_module(spec.candidates), spec.lock, spec.extra_lock)
    types = try_model(chosen.kind, model, contract, needs)
    with tracking.explained("log and register the challenger"):
        uri = _log_training(run.info.run_id, model, candidates, chosen, snapshot, storage, contract, spec, needs, types)
        version = _register(run.info.run_id, uri, chosen, night, snapshot, contract, tracking)
    remember_version(version, run.info.run_id, night, snapshot, ledger, tracking, needs.types)
    return Challenger(version, run.info.run_id, chosen.kind, snapshot.snapshot)


def cross_validate(
    features: pd.DataFrame, target: NDArray[np.int64], contract: Contract, spec: TrainingSpec
) -> list[Candidate]:
    """Score each kind out of fold, the simplest first. The average needs no fit of its own."""
    folds = StratifiedKFold(spec.folds, shuffle=True, random_state=spec.seed)
    models = competing(contract, Context(len(target), spec.seed), spec)
    scores = {
        kind: cross_val_predict(models[kind][0], features, target, cv=folds, method="predict_proba")[:, 1]
        for kind in models
        if kind != AVERAGE
    }
    if AVERAGE in models:
        scores[AVERAGE] = np.mean(list(scores.values()), axis=0)
    return [_candidate(kind, target, scores[kind]) for kind in models]


def competing(contract: Contract, context: Context, spec: TrainingSpec) -> dict[str, tuple[Any, list[Competitor]]]:
    """The unfitted models by name, each with the candidates that it is made of; the average of all is the last."""
    loaded = load_candidates(spec.candidates, contract, context)
    models: dict[str, tuple[Any, list[Competitor]]] = {
        name: (candidate.estimator, [candidate]) for name, candidate in loaded.items()
    }
    if len(loaded) > 1:
        parts = [(name, clone(candidate.estimator)) for name, candidate in loaded.items()]
        models[AVERAGE] = (VotingClassifier(parts, voting="soft"), list(loaded.values()))
    return models


def type_rule(contract: Contract, context: Context, spec: TrainingSpec) -> TypeRule:
    """Which types a version that was registered before may contain, by the candidates as they are now."""
    loaded = load_candidates(spec.candidates, contract, context)
    return TypeRule.of(loaded.values(), own_module(spec.candidates))


def choose_candidate(candidates: list[Candidate]) -> Candidate:
    """The simplest candidate that is within one paired standard error of the best on log loss.

    The one-standard-error rule of Breiman et al., Classification and Regression Trees (1984), on
    paired differences of per-row losses.
    """
    best = min(candidates, key=lambda candidate: float(candidate.losses.mean()))
    for candidate in candidates:
        worse = candidate.losses - best.losses
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)):
            return candidate
    return best


def _candidate(kind: str, target: NDArray[np.int64], scores: NDArray[np.float64]) -> Candidate:
    likelihood = np.clip(np.where(target == 1, scores, 1 - scores), 1e-15, 1)
    losses = -np.log(likelihood)
    metrics = {
        "roc_auc": float(roc_auc_score(target, scores)),
        "pr_auc": float(average_precision_score(target, scores)),
        "brier": float(brier_score_loss(target, scores)),
        "log_loss": float(losses.mean()),
    }
    return Candidate(kind, metrics, losses)


def _require_enough(target: NDArray[np.int64], contract: Contract, spec: TrainingSpec) -> None:
    events = int(target.sum())
    fewest = min(events, len(target) - events)
    if len(target) < spec.min_rows or fewest < spec.folds:
        raise NotEnoughRows(
            f"There are {len(target):,} training rows, {events:,} of them with {contract.target.name} = 1. At least {spec.min_rows:,} rows "
            f"and {spec.folds} of each class are required. Land more data, or lower CHURN_MIN_TRAINING_ROWS."
        )


def _log_training(
    run_id: str,
    model: Any,
    candidates: list[Candidate],
    chosen: Candidate,
    snapshot: Snapshot,
    storage: Storage,
    contract: Contract,
    spec: TrainingSpec,
    needs: ModelNeeds,
    types: list[str],
) -> str:
    """Log parameters, model and metrics; in this order each is one call. Returns the URI of the model."""
    with mlflow.start_run(run_id=run_id):
        mlflow.set_tags(_tags(chosen, snapshot, contract, spec))
        mlflow.log_params(
            {
                "kind": chosen.kind,
                "features": ", ".join(contract.feature_names),
                "training_rows": snapshot.training_rows,
                "folds": spec.folds,
                "seed": spec.seed,
            }
            | {name: value for name, value in model.get_params().items() if isinstance(value, int | float | str)}
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
        logged = log_model(model, contract, needs, types)
        mlflow.log_metrics({f"cv_{name}": value for name, value in chosen.metrics.items()}, model_id=logged.model_id)
        mlflow.log_dict({candidate.kind: candidate.metrics for candidate in candidates}, "candidates.json")
        log_needs(needs)
    return str(logged.model_uri)


def remember_version(
    version: int,
    run_id: str,
    night: str,
    snapshot: Snapshot,
    ledger: Ledger,
    tracking: Tracking,
    types: TypeRule = NO_TYPES,
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
            tracking.model, version, night, run_id, snapshot.snapshot, digest, datetime.now(UTC), parameters, trusted
        )
    )


def _tags(chosen: Candidate, snapshot: Snapshot, contract: Contract, spec: TrainingSpec) -> dict[str, str]:
    tags = {
        **evidence_tags(contract, snapshot.salt_fingerprint),
        "churn.kind": chosen.kind,
        "churn.snapshot": snapshot.snapshot,
        "churn.contract": contract.fingerprint,
    }
    return tags | ({"mlflow.source.git.commit": spec.git_commit} if spec.git_commit else {})


def _register(
    run_id: str, uri: str, chosen: Candidate, night: str, snapshot: Snapshot, contract: Contract, tracking: Tracking
) -> int:
    client = tracking.client
    describe_registered_model(contract, tracking)
    made = client.create_model_version(
        tracking.model,
        source=uri,
        run_id=run_id,
        model_id=uri.removeprefix("models:/"),
        description=(
            f"Trained in run {night} as {chosen.kind} on {snapshot.training_rows:,} customers "
            f"(snapshot {snapshot.snapshot[:12]}, {len(snapshot.batches)} batches). Run: {tracking.run_link(run_id)}\n\n"
            f"{describe_use(uri, contract)}"
        ),
        tags={
            **evidence_tags(contract, snapshot.salt_fingerprint),
            "churn.kind": chosen.kind,
            "churn.snapshot": snapshot.snapshot,
            "churn.night": night,
        },
    )
    return int(made.version)
