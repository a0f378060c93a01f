"""Measures challenger and champion on the same rows. Pure, so that it can be replayed.

The *evidence* is scored rows, and the *case* is everything else that the policy reads. Both together give the comparison,
today and in a replay years later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from churn.decision.calibration import Calibration, calibrate, expected_calibration_error
from churn.decision.inference import METRICS, Estimate, Labels, Ranked, Scores, estimate, measure, rank
from churn.decision.reasons import Reason
from churn.decision.slices import Codes, Slice, Slicing, compare_slices

Flags = NDArray[np.bool_]
TOP_SHARE = 0.1
OPERATING_POINT = 0.5


@dataclass(frozen=True)
class Refusal:
    """Why there is no evidence. Some codes leave something to measure: the challenger alone."""

    code: Reason
    sentence: str


@dataclass(frozen=True)
class EvidenceWindow:
    """The period in which the customers that count arrived. `widened` if the usual number of days was not enough."""

    since: datetime
    until: datetime
    days: float
    widened: bool


@dataclass(frozen=True)
class Leaks:
    """Possible leaks: features that identify a customer, and the single feature that ranks best."""

    identifiers: list[str] = field(default_factory=list)
    feature: str | None = None
    feature_auc: float | None = None


@dataclass(frozen=True)
class Force:
    """A person demands the promotion whatever the policy decides. Integrity reasons cannot be overridden."""

    by: str
    reason: str


@dataclass(frozen=True)
class Confirmed:
    """A person confirmed that a ROC AUC above `sanity.max_model_auc` is plausible for this registered model."""

    by: str
    reason: str


@dataclass(frozen=True)
class History:
    """What the policy needs to know about the past.

    `looks_before` counts earlier tests against this champion on the same calendar night. `days_since_try` is None if
    non-inferiority to it was never tested. `frozen` says why automatic promotion is off. `confirmed` is None as long as nobody
    has confirmed that a very high ROC AUC is plausible.
    """

    decided_at: datetime
    champion_days: float | None = None
    days_since_try: float | None = None
    looks_before: int = 0
    frozen: str | None = None
    force: Force | None = None
    confirmed: Confirmed | None = None


@dataclass(frozen=True)
class Contact:
    """Unseen customers whom a list had contacted before it was known whether they would leave.

    They are left out, and customers of a control group stand for them.

    - `left_out`: how many were contacted
    - `control`: how many of a control group stand for them
    """

    left_out: int = 0
    control: int = 0

    @property
    def unanswered(self) -> bool:
        """Whether customers are missing for whom nobody stands."""
        return self.left_out > 0 and not self.control


@dataclass(frozen=True)
class Case:
    """Which versions are compared on which snapshot, and what else the policy needs. `suspects` are batches that may be wrong."""

    challenger: int
    champion: int | None
    anchor: int | None
    snapshot: str
    history: History
    window: EvidenceWindow | None = None
    suspects: list[str] = field(default_factory=list)
    leaks: Leaks = field(default_factory=Leaks)
    refusal: Refusal | None = None
    anchor_refusal: Refusal | None = None
    contact: Contact = field(default_factory=Contact)


@dataclass(frozen=True)
class Evidence:
    """Scored rows, in the order of their customers. Every array has shape (rows,).

    `customers` are keyed hashes, and `batches` are numbers of the batches of the rows. The rows marked `used` decide, those marked
    `current` are the whole holdout of today, and `undisputed` are the rows as they would be without the suspect batches. `weights` say how
    many customers a row stands for; None if each stands for itself.
    """

    customers: NDArray[np.uint64]
    labels: Labels
    batches: NDArray[np.int64]
    codes: dict[str, Codes]
    used: Flags
    current: Flags
    undisputed: Flags
    challenger: Scores
    champion: Scores | None
    anchor: Scores | None
    weights: Scores | None = None


@dataclass(frozen=True)
class Figures:
    """Both models' metrics on a set of rows. `deltas` are challenger minus champion, and empty without a champion."""

    rows: int
    events: int
    challenger: dict[str, Estimate]
    champion: dict[str, Estimate]
    deltas: dict[str, Estimate]


@dataclass(frozen=True)
class Shown:
    """Figures for reviewers, which no rule reads.

    `lift` compares the tenth with the highest scores with all customers. `precision` (None if nobody is flagged) and `recall` are at
    a probability of .5. `calibration_error` is the expected calibration error.
    """

    lift: float
    calibration_error: float
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Comparison:
    """The measured evidence. `whole` and `undisputed` are None if they would be the same rows as the evidence, or none."""

    case: Case
    evidence: Figures
    base_rate_brier: float
    same_score_share: float
    challenger_calibration: Calibration | None = None
    champion_calibration: Calibration | None = None
    slices: list[Slice] = field(default_factory=list)
    anchor_deltas: dict[str, Estimate] = field(default_factory=dict)
    undisputed: Figures | None = None
    whole: Figures | None = None
    shown: dict[str, Shown] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON for the ledger."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Comparison:
        """Read what `as_dict` returned."""
        return _ADAPTER.validate_python(stored)

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no evidence, if there is none."""
        return self.case.refusal


_ADAPTER = TypeAdapter(Comparison)


def compare(case: Case, evidence: Evidence | None, sliced: tuple[Slicing, ...], slice_class: int) -> Comparison:
    """Measure both models. Pure.

    Args:
        case: what is compared. If it has a refusal, nothing is measured.
        evidence: the scored rows; None if nothing could be scored.
        sliced: the slices to compare.
        slice_class: number of customers of each class that a slice needs to be tested.
    """
    if evidence is None:
        return Comparison(case, Figures(0, 0, {}, {}, {}), 0.0, 0.0)
    y = evidence.labels[evidence.used]
    weights = None if evidence.weights is None else evidence.weights[evidence.used]
    events, share = int(y.sum()), float(np.average(y, weights=weights)) if len(y) else 0.0
    unmeasured = Comparison(case, Figures(len(y), events, {}, {}, {}), share * (1 - share), 0.0)
    if (case.refusal and not case.refusal.code.leaves_challenger) or not _both_classes(y):
        return unmeasured
    of_all = {
        role: rank(scores, evidence.weights)
        for role, scores in (("challenger", evidence.challenger), ("champion", evidence.champion))
        if scores is not None
    }
    used = {role: _among(ranked, evidence.used) for role, ranked in of_all.items()}
    challenger, champion = used["challenger"], used.get("champion")
    anchor = None if evidence.anchor is None else rank(evidence.anchor[evidence.used], weights)
    codes = {column: codes[evidence.used] for column, codes in evidence.codes.items()}
    return Comparison(
        case=case,
        evidence=_figures(y, challenger, champion),
        base_rate_brier=share * (1 - share),
        same_score_share=float(np.bincount(challenger.level).max() / len(y)),
        challenger_calibration=calibrate(y, challenger.scores, weights),
        champion_calibration=calibrate(y, champion.scores, weights) if champion else None,
        slices=compare_slices(y, challenger, champion, codes, sliced, slice_class) if champion else [],
        anchor_deltas={metric: measure(y, challenger, anchor, metric).delta for metric in ("roc_auc", "brier")}
        if anchor
        else {},
        undisputed=_figures_of(evidence, of_all, evidence.undisputed) if champion and case.suspects else None,
        whole=None
        if np.array_equal(evidence.used, evidence.current)
        else _figures_of(evidence, of_all, evidence.current),
        shown={role: _shown(y, ranked) for role, ranked in used.items()},
    )


def find_invalid_scores(version: int, scores: Scores, rows: int, constant: bool = False) -> Refusal | None:
    """Explain why scores cannot be probabilities of these rows; None if they can. `constant`: all may be the same."""
    if scores.shape != (rows,):
        what = f"gave {len(scores)} scores for {rows} customers"
    elif not np.isfinite(scores).all():
        what = f"gave {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that are not numbers"
    elif ((scores < 0) | (scores > 1)).any():
        what = "gave scores outside 0 to 1"
    elif len(scores) > 1 and np.ptp(scores) == 0 and not constant:
        what = "gives every customer the same score"
    else:
        return None
    return Refusal(Reason.SCORES_INVALID, f"version {version} {what}.")


def _figures_of(evidence: Evidence, ranked: dict[str, Ranked], chosen: Flags) -> Figures | None:
    y = evidence.labels[chosen]
    if not _both_classes(y):
        return None
    selected = {role: _among(scores, chosen) for role, scores in ranked.items()}
    return _figures(y, selected["challenger"], selected.get("champion"))


def _figures(y: Labels, challenger: Ranked, champion: Ranked | None) -> Figures:
    events = int(y.sum())
    if champion is None:
        return Figures(len(y), events, {metric: estimate(y, challenger, metric) for metric in METRICS}, {}, {})
    measured = {metric: measure(y, challenger, champion, metric) for metric in METRICS}
    return Figures(
        len(y),
        events,
        {metric: pair.first for metric, pair in measured.items()},
        {metric: pair.second for metric, pair in measured.items()},
        {metric: pair.delta for metric, pair in measured.items()},
    )


def _shown(y: Labels, ranked: Ranked) -> Shown:
    weights = np.ones(len(y)) if ranked.weights is None else ranked.weights
    above = weights[ranked.order][::-1].cumsum()[::-1]  # customers with this score or a higher one
    top = ranked.order[above <= max(above[-1], round(above[0] * TOP_SHARE))]
    flagged = ranked.scores >= OPERATING_POINT
    hits = float(weights[flagged] @ y[flagged])
    return Shown(
        lift=float(np.average(y[top], weights=weights[top]) / np.average(y, weights=weights)),
        calibration_error=expected_calibration_error(y, ranked),
        precision=hits / float(weights[flagged].sum()) if flagged.any() else None,
        recall=hits / float(weights @ y),
    )


def _both_classes(y: Labels) -> bool:
    return 1 < int(y.sum()) < len(y) - 1


def _among(ranked: Ranked, chosen: Flags) -> Ranked:
    return ranked if chosen.all() else ranked.among(chosen)
