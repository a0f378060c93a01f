"""Proposes the thresholds of a promotion policy for other data than those that the shipped policy was fitted to.

Everything is measured on training rows of a snapshot: the unseen customers, on which a policy will decide, are only counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.model_selection import cross_val_predict

from churn.candidate import Context
from churn.contract import Contract
from churn.decision.inference import Estimate, rank, roc_auc
from churn.decision.leaks import find_leaks
from churn.decision.policy_file import Policy
from churn.errors import ChurnError
from churn.foundation.examples import model_input
from churn.foundation.ledger import Ledger
from churn.foundation.parts import has_table
from churn.foundation.paths import snapshot_rows
from churn.foundation.records import Snapshot
from churn.foundation.sampling import Sampling
from churn.foundation.storage import Storage
from churn.learning.candidates import standard
from churn.learning.fitting import fold_splits, read_customers, read_rows
from churn.learning.snapshot import drawn_training_rows
from churn.learning.unseen import holdout_pieces

MOST_ROWS = 50_000
"""Number of training rows that are used to see what a model can reach."""
FOLDS = 5
_FIRST, _COMPARED = 100, 150
"""Customers of each class that a first champion and a comparison should have."""
_FEWEST = 50
_SPARE = 1.25
_LEAST_FLOOR, _MOST_AUC = 0.52, 0.999
_USUAL_LIMIT = 0.90
_KEPT_SKILL = 0.55
_WIDTH = 100


@dataclass(frozen=True)
class PolicyFacts:
    """What the thresholds are derived from: customers of the snapshot, and what a simple model reaches across folds.

    `feature` is the single feature that ranks best, with its ROC AUC.
    """

    snapshot: str
    customers: int
    unseen: int
    unseen_events: int
    event_rate: float
    roc_auc: Estimate
    brier: float
    feature: str | None
    feature_auc: float

    @property
    def unseen_of_rarer_class(self) -> int:
        """Number of unseen customers of the class that has fewer."""
        return min(self.unseen_events, self.unseen - self.unseen_events)


@dataclass(frozen=True)
class Proposal:
    """A proposed threshold: its section and key in the policy, its value, and why."""

    section: str
    key: str
    value: float
    why: str


def find_snapshot(ledger: Ledger, storage: Storage, contract: Contract) -> Snapshot:
    """The first snapshot of a contract whose rows are kept.

    Raises:
        ChurnError: there is none.
    """
    for snapshot in reversed(ledger.snapshots()):
        if snapshot.contract_fingerprint == contract.fingerprint and has_table(
            storage, snapshot_rows(snapshot.snapshot)
        ):
            return snapshot
    raise ChurnError(
        f"There is no snapshot of accepted rows under the contract {contract.name} yet, so no thresholds can be proposed. "
        "Next: `churn land FILE`, then `churn run`: it takes a snapshot even if its policy then holds the version."
    )


def measure_facts(
    snapshot: Snapshot, storage: Storage, contract: Contract, sampling: Sampling, seed: int
) -> PolicyFacts:
    """Measure what the thresholds are derived from.

    Raises:
        ChurnError: the training rows are too few to be divided into folds.
    """
    with drawn_training_rows(storage, snapshot, contract, sampling, MOST_ROWS) as file:
        rows, customers = read_rows(file, 0, MOST_ROWS), read_customers(file, 0, MOST_ROWS, contract)
    labels = rows[contract.target.name].to_numpy(np.int64)
    rarer = int(min(labels.sum(), len(labels) - labels.sum())) if len(labels) else 0
    if rarer < FOLDS:
        raise ChurnError(
            f"The snapshot {snapshot.snapshot[:12]} has {len(rows):,} training customers, {rarer} of the rarer class. "
            f"At least {FOLDS} are needed to propose thresholds. Land more data and run again."
        )
    candidate = next(iter(standard(contract, Context(rows=len(rows), seed=seed)).values()))
    folds = fold_splits(labels, FOLDS, seed, customers)
    features = model_input(contract, rows)
    scores = cross_val_predict(candidate.estimator, features, labels, cv=folds, method="predict_proba")[:, 1]
    unseen = [piece[contract.target.name] for piece in holdout_pieces(storage, snapshot, contract, MOST_ROWS)]
    leaks = find_leaks(rows, contract)
    return PolicyFacts(
        snapshot=snapshot.snapshot,
        customers=snapshot.rows,
        unseen=snapshot.holdout_rows,
        unseen_events=int(pd.concat(unseen).sum()) if unseen else 0,
        event_rate=float(labels.mean()),
        roc_auc=_auc(labels, scores),
        brier=float(np.mean((scores - labels) ** 2)),
        feature=leaks.feature,
        feature_auc=leaks.feature_auc or 0.5,
    )


def propose_thresholds(facts: PolicyFacts) -> list[Proposal]:
    """Derive the thresholds that depend on the data. Pure."""
    auc, rarer = facts.roc_auc.value, min(facts.event_rate, 1 - facts.event_rate)
    first, compared = (_each_class(wanted, facts) for wanted in (_FIRST, _COMPARED))
    reached = f"A simple model reaches a ROC AUC of {auc:.3f} ± {1.96 * facts.roc_auc.standard_error:.3f} across {FOLDS} folds."
    return [
        Proposal("evidence", "min_each_class", compared, _why_each(compared, _COMPARED, facts)),
        Proposal("evidence", "min_rows", _nice(_SPARE * compared / rarer), _why_rows(compared, rarer)),
        Proposal("first_champion", "min_each_class", first, _why_each(first, _FIRST, facts)),
        Proposal("first_champion", "min_rows", _nice(first / rarer), _why_rows(first, rarer)),
        Proposal(
            "floor",
            "roc_auc",
            max(_LEAST_FLOOR, round((0.5 + _KEPT_SKILL * (auc - 0.5)) * 20) / 20),
            f"{reached} The floor keeps a little more than half of its lead over guessing (0.5).",
        ),
        Proposal(
            "sanity",
            "max_model_auc",
            min(_MOST_AUC, floor(1000 * (auc + (1 - auc) / 3)) / 1000),
            f"{reached} More than a third of the remaining way to 1 is treated as a leak until a person says that it is plausible.",
        ),
        Proposal("sanity", "max_feature_auc", *_feature_limit(facts)),
        Proposal(
            "freshness",
            "brier_margin",
            float(f"{0.02 * facts.brier:.1g}"),
            f"Two percent of the Brier score of the simple model, {facts.brier:.3f}.",
        ),
    ]


def write_policy(template: str, proposals: Sequence[Proposal], facts: PolicyFacts) -> str:
    """Write a policy: the template with the proposed values, each with a comment that says why.

    Args:
        template: the text of the policy that has the other values.
        proposals: the proposed values.
        facts: what they were derived from.

    Raises:
        PolicyInvalid: the template is not a policy.
    """
    Policy.read(template, "the present policy")
    proposed = {(proposal.section, proposal.key): proposal for proposal in proposals}
    lines = [
        f"# Thresholds proposed from the snapshot {facts.snapshot[:12]}: {facts.customers:,} customers, {facts.event_rate:.1%} with the event.",
        f"# Of {facts.unseen:,} unseen customers, {facts.unseen_events:,} have the event. Review each value, then name this file in CHURN_POLICY_FILE.",
        "# Values without a comment above are those of the present policy; they do not depend on the data.",
    ]
    section = ""
    for line in template.splitlines():
        heading, value = re.match(r"(\w+):\s*$", line), re.match(r"  (\w+):", line)
        if heading:
            section = heading[1]
        proposal = proposed.get((section, value[1])) if value else None
        if proposal is None:
            if line.startswith("#") and not section and "Minimum" not in line:
                continue  # the introduction of the shipped file
            lines.append(line)
            continue
        comment = line.partition("#")[2].strip()
        lines += [f"  # {part}" for part in wrap(proposal.why, _WIDTH)]
        lines.append(f"  {proposal.key}: {proposal.value:g}" + (f"  # {comment}" if comment else ""))
    text = "\n".join(lines) + "\n"
    Policy.read(text, "the proposed policy")
    return text


def present_values(template: str) -> Mapping[str, Mapping[str, Any]]:
    """The values of a policy, by section and key."""
    values: Mapping[str, Mapping[str, Any]] = yaml.safe_load(template)
    return values


def _auc(labels: np.ndarray[Any, np.dtype[np.int64]], scores: np.ndarray[Any, np.dtype[np.float64]]) -> Estimate:
    measured = roc_auc(labels, rank(scores))
    variance = sum(float(np.var(group, ddof=1)) / len(group) for group in measured.groups)
    return Estimate.of(measured.value, sqrt(variance))


def _each_class(wanted: int, facts: PolicyFacts) -> int:
    """The number of customers of each class to ask for: as many as wanted, or fewer if the first snapshot has fewer."""
    available = facts.unseen_of_rarer_class
    return wanted if available >= wanted else max(_FEWEST, min(wanted, 10 * (available // 10)))


def _why_each(proposed: int, wanted: int, facts: PolicyFacts) -> str:
    available = facts.unseen_of_rarer_class
    width = 1.96 * facts.roc_auc.standard_error * sqrt(_rarer_training(facts) / proposed)
    precise = f"With {proposed}, the ROC AUC of one version is known to about ± {width:.3f}."
    if proposed == wanted:
        return f"{precise} The first snapshot has {available:,} unseen customers of the rarer class."
    if proposed > available:
        more = ceil(proposed / max(available, 1))
        return f"{precise} The first snapshot has only {available:,}: about {more} times its data are needed."
    return (
        f"{precise} The first snapshot has only {available:,} unseen customers of the rarer class; {wanted} are better."
    )


def _rarer_training(facts: PolicyFacts) -> float:
    """Number of customers of the rarer class that the standard error belongs to."""
    used = min(MOST_ROWS, 0.75 * facts.customers)
    return used * min(facts.event_rate, 1 - facts.event_rate)


def _why_rows(each: int, rarer: float) -> str:
    return f"{each} customers of the rarer class, which is {rarer:.1%} of all."


def _feature_limit(facts: PolicyFacts) -> tuple[float, str]:
    best = f"The best single feature, {facts.feature}, has {facts.feature_auc:.3f}." if facts.feature else ""
    if facts.feature_auc <= _USUAL_LIMIT - 0.02:
        return _USUAL_LIMIT, best
    limit = min(_MOST_AUC, ceil(1000 * (facts.feature_auc + (1 - facts.feature_auc) / 3)) / 1000)
    return (
        limit,
        f"{best} Is it known before the event? If not, remove it from the contract, and draft the policy again.",
    )


def _nice(number: float) -> int:
    """The next round number: one or two digits, then zeros."""
    size = 10 ** max(0, floor(log10(number)) - 1)
    return int(ceil(number / size / 5) * 5 * size)
