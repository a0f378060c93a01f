"""Challenger and champion scored now, by version number, on the same holdout customers.

Stored metrics of earlier runs are never compared. What makes two versions incomparable is evidence
too: it is stated as a refusal, and the policy holds on it.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn.contract import Contract
from churn.decision.inference import METRICS, Estimate, estimate, paired_estimate
from churn.errors import ChurnError
from churn.foundation.examples import model_input
from churn.foundation.records import Snapshot
from churn.foundation.storage import Storage
from churn.foundation.tracking import Tracking
from churn.learning.snapshot import holdout_rows
from churn.learning.training import Challenger, evidence_tags

log = logging.getLogger(__name__)
Scores = NDArray[np.float64]


class ModelUnloadable(ChurnError):  # noqa: N818 -- it says what happened
    """A registered version cannot be loaded: its artifacts are missing or damaged."""


@dataclass(frozen=True)
class Refusal:
    """Why there is no evidence: INPUT_MISMATCH, CHAMPION_UNSCORABLE or SCORES_INVALID, and a sentence."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """Both models on the same rows. `deltas` are challenger - champion; without a champion there are none."""

    challenger: int
    champion: int | None
    rows: int
    events: int
    snapshot: str
    base_rate_brier: float
    challenger_metrics: dict[str, Estimate]
    champion_metrics: dict[str, Estimate]
    deltas: dict[str, Estimate]
    refusal: Refusal | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON for the ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Comparison:
        """The comparison that `as_dict` stored."""
        tables = {
            name: {metric: Estimate(**figures) for metric, figures in stored[name].items()}
            for name in ("challenger_metrics", "champion_metrics", "deltas")
        }
        refusal = Refusal(**stored["refusal"]) if stored["refusal"] else None
        return cls(**{**stored, **tables, "refusal": refusal})


@dataclass(frozen=True)
class Scored:
    """The labels and scores behind a comparison; `champion` is None where there is none, or none that scores."""

    labels: NDArray[np.int64]
    challenger: Scores
    champion: Scores | None


def score_holdout(
    challenger: Challenger,
    champion: int | None,
    snapshot: Snapshot,
    storage: Storage,
    contract: Contract,
    tracking: Tracking,
) -> tuple[Comparison, Scored]:
    """Score both versions on the holdout customers of the snapshot, and measure the difference.

    Raises:
        ModelUnloadable: a version's artifacts are missing or damaged.
        TrackingUnreachable: MLflow is away.
    """
    rows = holdout_rows(storage, snapshot)
    labels = rows[contract.target.name].to_numpy()
    inputs = model_input(contract, rows)
    ours = evidence_tags(contract, snapshot.salt_fingerprint)
    refusal = (
        _mismatch(tracking, challenger.version, ours) or (champion and _mismatch(tracking, champion, ours)) or None
    )
    ours_scores = _score(tracking, challenger.version, inputs)
    theirs: Scores | None = None
    if champion is not None and refusal is None:
        theirs, refusal = _score_champion(tracking, champion, inputs)
    scored = Scored(labels, ours_scores, theirs)
    return compare(scored, challenger.version, champion, snapshot.snapshot, refusal), scored


def compare(
    scored: Scored, challenger: int, champion: int | None, snapshot: str, refusal: Refusal | None = None
) -> Comparison:
    """Measure both models; pure.

    Args:
        scored: labels and scores, each of shape (rows,).
        challenger: its version.
        champion: its version, or None if nothing is in production.
        snapshot: the snapshot of the rows.
        refusal: why the two cannot be compared, if they cannot.
    """
    y, mine, theirs = scored.labels, scored.challenger, scored.champion
    events = int(y.sum())
    refusal = refusal or _invalid(challenger, mine) or (_invalid(champion, theirs) if theirs is not None else None)
    measurable = refusal is None and 1 < events < len(y) - 1
    both = measurable and theirs is not None
    return Comparison(
        challenger=challenger,
        champion=champion,
        rows=len(y),
        events=events,
        snapshot=snapshot,
        base_rate_brier=events / len(y) * (1 - events / len(y)) if len(y) else 0.0,
        challenger_metrics={metric: estimate(y, mine, metric) for metric in METRICS} if measurable else {},
        champion_metrics={metric: estimate(y, theirs, metric) for metric in METRICS}
        if both and theirs is not None
        else {},
        deltas={metric: paired_estimate(y, mine, theirs, metric) for metric in METRICS}
        if both and theirs is not None
        else {},
        refusal=refusal,
    )


def _mismatch(tracking: Tracking, version: int, ours: dict[str, str]) -> Refusal | None:
    """A version trained under another key, target or salt may have seen the holdout: it is no evidence."""
    with tracking.explained(f"read the tags of version {version}"):
        tags = tracking.version(version).tags
    differing = [name.removeprefix("churn.") for name, value in ours.items() if tags.get(name) != value]
    if not differing:
        return None
    return Refusal(
        "INPUT_MISMATCH",
        f"version {version} was trained under another {', '.join(differing)}: it may have seen these customers, "
        "or predicts something else. Restore the setting, or take the version out of production.",
    )


def _score(tracking: Tracking, version: int, inputs: pd.DataFrame) -> Scores:
    tracking.version(version)  # an outage is an outage, not a damaged artifact
    try:
        model = tracking.load(version)
    except Exception as error:
        raise ModelUnloadable(
            f"Version {version} of {tracking.model} cannot be loaded ({type(error).__name__}): its artifacts are missing or damaged. "
            f"Nothing was promoted. Look at {tracking.version_link(version)}, restore the artifacts, and run the step again."
        ) from error
    return np.asarray(model.predict(inputs), dtype=np.float64)[:, 1]


def _score_champion(tracking: Tracking, champion: int, inputs: pd.DataFrame) -> tuple[Scores | None, Refusal | None]:
    try:
        return _score(tracking, champion, inputs), None
    except ChurnError:
        raise
    except Exception as error:  # a model can fail on rows in any way; the reason is kept, and the policy holds
        log.exception("Champion %s cannot score the holdout.", champion)
        return None, Refusal(
            "CHAMPION_UNSCORABLE",
            f"version {champion} cannot score today's rows ({type(error).__name__}): it was made for another contract.",
        )


def _invalid(version: int | None, scores: Scores) -> Refusal | None:
    if not np.isfinite(scores).all():
        what = f"gave {int((~np.isfinite(scores)).sum())} of {len(scores)} scores that are no numbers"
    elif ((scores < 0) | (scores > 1)).any():
        what = "gave scores outside 0 to 1"
    elif len(scores) > 1 and np.ptp(scores) == 0:
        what = "gives every customer the same score"
    else:
        return None
    return Refusal("SCORES_INVALID", f"version {version} {what}.")
