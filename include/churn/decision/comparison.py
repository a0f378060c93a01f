"""Challenger and champion on the same rows, measured: pure, so that it can be replayed.

The evidence is scored rows; the case is whatever else the policy reads. Both together give the
comparison, today and in a replay years later.
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
    """Why there is no evidence. Only `CHAMPION_UNSCORABLE` leaves something to measure: the challenger alone."""

    code: Reason
    sentence: str


@dataclass(frozen=True)
class EvidenceWindow:
    """The customers that count are those that arrived since; `widened` if the usual days were not enough."""

    since: datetime
    until: datetime
    days: float
    widened: bool


@dataclass(frozen=True)
class Leaks:
    """What might tell the model the answer: features that identify a customer, and the single feature that ranks best."""

    identifiers: list[str] = field(default_factory=list)
    feature: str | None = None
    feature_auc: float | None = None


@dataclass(frozen=True)
class Force:
    """Somebody wants the promotion whatever the policy says; integrity excepted."""

    by: str
    reason: str


@dataclass(frozen=True)
class History:
    """What the policy must know of the past.

    `looks_before` counts earlier looks of this calendar night at this champion; `days_since_try` is None if no worse
    was never tested against it; `frozen` says why automatic promotion is off.
    """

    decided_at: datetime
    champion_days: float | None = None
    days_since_try: float | None = None
    looks_before: int = 0
    frozen: str | None = None
    force: Force | None = None


@dataclass(frozen=True)
class Case:
    """Who is compared, on what, and what the policy must know besides; `suspects` are batches that may be wrong."""

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


@dataclass(frozen=True)
class Evidence:
    """Scored rows, in the order of their customers. Every array has shape (rows,).

    `customers` are keyed hashes, `batches` numbers of the batches that the rows came with. Of the rows, `used` decide;
    `current` are the whole holdout of today; `undisputed` are the rows as they would be without the suspect batches.
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


@dataclass(frozen=True)
class Figures:
    """Both models' metrics on a set of rows; `deltas` are challenger - champion, none without a champion."""

    rows: int
    events: int
    challenger: dict[str, Estimate]
    champion: dict[str, Estimate]
    deltas: dict[str, Estimate]


@dataclass(frozen=True)
class Shown:
    """Figures that a reviewer asks for and no rule reads.

    `lift` compares the tenth with the highest scores with all; `precision` (None if nobody is flagged) and `recall`
    are at a probability of .5; `calibration_error` is the expected calibration error.
    """

    lift: float
    calibration_error: float
    precision: float | None
    recall: float


@dataclass(frozen=True)
class Comparison:
    """The measured evidence. `whole` and `undisputed` are None where they would be the same rows, or none."""

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
        """The comparison that `as_dict` stored."""
        return _ADAPTER.validate_python(stored)

    @property
    def refusal(self) -> Refusal | None:
        """Why there is no evidence, if there is none."""
        return self.case.refusal


_ADAPTER = TypeAdapter(Comparison)


def compare(case: Case, evidence: Evidence | None, sliced: tuple[Slicing, ...], slice_class: int) -> Comparison:
    """Measure both models; pure.

    Args:
        case: who is compared on what; its refusal, if it has one, is kept and nothing is measured.
        evidence: the scored rows, None where nothing could be scored.
        sliced: the groups to look at.
        slice_class: customers of each class that a group needs to be tested.
    """
    if evidence is None:
        return Comparison(case, Figures(0, 0, {}, {}, {}), 0.0, 0.0)
    y = evidence.labels[evidence.used]
    events, share = int(y.sum()), float(y.mean()) if len(y) else 0.0
    unmeasured = Comparison(case, Figures(len(y), events, {}, {}, {}), share * (1 - share), 0.0)
    if (case.refusal and case.refusal.code is not Reason.CHAMPION_UNSCORABLE) or not _both_classes(y):
        return unmeasured
    of_all = {
        role: rank(scores)
        for role, scores in (("challenger", evidence.challenger), ("champion", evidence.champion))
        if scores is not None
    }
    used = {role: _among(one, evidence.used) for role, one in of_all.items()}
    mine, theirs = used["challenger"], used.get("champion")
    anchor = None if evidence.anchor is None else rank(evidence.anchor[evidence.used])
    codes = {column: codes[evidence.used] for column, codes in evidence.codes.items()}
    return Comparison(
        case=case,
        evidence=_figures(y, mine, theirs),
        base_rate_brier=share * (1 - share),
        same_score_share=float(np.bincount(mine.level).max() / len(y)),
        challenger_calibration=calibrate(y, mine.scores),
        champion_calibration=calibrate(y, theirs.scores) if theirs else None,
        slices=compare_slices(y, mine, theirs, codes, sliced, slice_class) if theirs else [],
        anchor_deltas={metric: measure(y, mine, anchor, metric).delta for metric in ("roc_auc", "brier")}
        if anchor
        else {},
        undisputed=_figures_of(evidence, of_all, evidence.undisputed) if theirs and case.suspects else None,
        whole=None
        if np.array_equal(evidence.used, evidence.current)
        else _figures_of(evidence, of_all, evidence.current),
        shown={role: _shown(y, one) for role, one in used.items()},
    )


def invalid(version: int, scores: Scores, rows: int) -> Refusal | None:
    """Why scores are no probabilities of these rows, if they are none."""
    if scores.shape != (rows,):
        what = f"gave {len(scores)} scores for {rows} customers"
    elif not np.isfinite(scores).all():
        what = f"gave {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that are no numbers"
    elif ((scores < 0) | (scores > 1)).any():
        what = "gave scores outside 0 to 1"
    elif len(scores) > 1 and np.ptp(scores) == 0:
        what = "gives every customer the same score"
    else:
        return None
    return Refusal(Reason.SCORES_INVALID, f"version {version} {what}.")


def _figures_of(evidence: Evidence, ranked: dict[str, Ranked], chosen: Flags) -> Figures | None:
    y = evidence.labels[chosen]
    if not _both_classes(y):
        return None
    some = {role: _among(one, chosen) for role, one in ranked.items()}
    return _figures(y, some["challenger"], some.get("champion"))


def _figures(y: Labels, challenger: Ranked, champion: Ranked | None) -> Figures:
    events = int(y.sum())
    if champion is None:
        return Figures(len(y), events, {metric: estimate(y, challenger, metric) for metric in METRICS}, {}, {})
    found = {metric: measure(y, challenger, champion, metric) for metric in METRICS}
    return Figures(
        len(y),
        events,
        {metric: one.one for metric, one in found.items()},
        {metric: one.other for metric, one in found.items()},
        {metric: one.delta for metric, one in found.items()},
    )


def _shown(y: Labels, ranked: Ranked) -> Shown:
    top = ranked.order[-max(1, round(len(y) * TOP_SHARE)) :]
    flagged = ranked.scores >= OPERATING_POINT
    hits = int(y[flagged].sum())
    return Shown(
        lift=float(y[top].mean() / y.mean()),
        calibration_error=expected_calibration_error(y, ranked),
        precision=hits / int(flagged.sum()) if flagged.any() else None,
        recall=hits / int(y.sum()),
    )


def _both_classes(y: Labels) -> bool:
    return 1 < int(y.sum()) < len(y) - 1


def _among(ranked: Ranked, chosen: Flags) -> Ranked:
    return ranked if chosen.all() else ranked.among(chosen)
