"""The rules for a batch as a whole. Some reject it, others only warn.

A rule is a number with its bounds, which Great Expectations compares. This module computes the numbers and words the messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Self

from churn.contract import Contract
from churn.foundation.records import Drift
from churn.foundation.spread import Spread
from churn.foundation.spread_choice import choose_spread
from churn.intake.division import PART_SIZE
from churn.intake.history import History
from churn.intake.judged_rows import Judged
from churn.settings import Settings

ONE_CLASS_ROWS = 50
"""With fewer rows, a single class does not indicate a faulty export."""
FEWEST_DISPUTED = 5
"""Fewer customers than this are corrections, and not a poisoned or mixed-up file."""
RATE_FACTOR, RATE_SIGMAS = 2.0, 4.0
MEASURES = {"kolmogorov_smirnov": "Kolmogorov-Smirnov distance", "cramers_v": "Cramér's V"}


@dataclass(frozen=True)
class IntakeLimits:
    """The limits for a batch, where the work on its parts runs, and their size in bytes.

    `salt` assigns customers to buckets; without it, a batch is compared with the history on this machine.
    """

    max_rejected_share: float
    spread: Spread
    max_disputed_share: float = 0.02
    max_size_ratio: float = 3.0
    drift_limit: float = 0.2
    part_size: int = PART_SIZE
    salt: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings say."""
        return cls(
            max_rejected_share=settings.max_rejected_share,
            spread=choose_spread(settings),
            max_disputed_share=settings.max_disputed_share,
            max_size_ratio=settings.max_size_ratio,
            drift_limit=settings.drift_limit,
            part_size=settings.part_size,
            salt=settings.bucket_salt.get_secret_value().encode(),
        )


@dataclass(frozen=True)
class TableRule:
    """One rule: `value` must be between the bounds. `sentence` explains what it means if it is not."""

    name: str
    critical: bool
    value: float
    minimum: float = -inf
    maximum: float = inf
    sentence: str = ""


def table_rules(
    judged: Judged,
    history: History | None,
    drift: list[Drift],
    contract: Contract,
    limits: IntakeLimits,
    short_hash: str | None,
) -> list[TableRule]:
    """Every rule for a batch as a whole with its number, critical ones first; `short_hash` names the batch in commands, if it is one."""
    rules = [_share(judged, limits, short_hash), _rows(judged)]
    apart = contract.horizon_days is not None or not contract.featured  # early rows have no events yet
    if not apart:
        rules.append(_classes(judged, contract))
    if history and contract.labelled:
        rules += _disputes(history, contract, limits, short_hash)
    if history and contract.featured:
        rules.append(_size(judged, history, limits))
    if history and not apart:
        rules.append(_rate(judged, history, contract))
    return rules + [_drifted(column) for column in drift]


def _share(judged: Judged, limits: IntakeLimits, short_hash: str | None) -> TableRule:
    faulty = judged.set_aside - judged.unlabelled
    again = f" and send it again, or raise CHURN_MAX_REJECTED_SHARE and run `churn batches rejudge {short_hash}`."
    step = (
        f" Fix the file{again if short_hash else ' or the contract, or raise CHURN_MAX_REJECTED_SHARE.'}"
        if judged.accepted  # otherwise no limit would help, and the next rule says what to do
        else ""
    )
    return TableRule(
        "batch.rejected_share",
        True,
        judged.rejected_share,
        maximum=limits.max_rejected_share,
        sentence=(
            f"{faulty:,} of {judged.arrived:,} rows broke a rule ({judged.rejected_share:.1%}, limit {limits.max_rejected_share:.1%}).{step}"
        ),
    )


def _rows(judged: Judged) -> TableRule:
    waiting = f", {judged.unlabelled} of them because they have no label yet" if judged.unlabelled else ""
    return TableRule(
        "batch.accepted_rows",
        True,
        judged.accepted,
        minimum=1,
        sentence=f"No row can be accepted: all {judged.arrived:,} are quarantined{waiting}. Fix the file and send it again.",
    )


def _classes(judged: Judged, contract: Contract) -> TableRule:
    fewest = min(judged.events, judged.accepted - judged.events)
    only = int(judged.events > 0)
    return TableRule(
        "batch.one_class",
        True,
        fewest,
        minimum=1 if judged.accepted >= ONE_CLASS_ROWS else 0,
        sentence=(
            f"{contract.target.name} is {contract.target.texts.get(only, only)} in all {judged.accepted:,} rows (each customer {contract.event_names[not only]}), and nothing can be learned from one class. "
            "Check the export of the label and send the file again."
        ),
    )


def _disputes(
    history: History,
    contract: Contract,
    limits: IntakeLimits,
    short_hash: str | None,
) -> list[TableRule]:
    found = history.compared
    customers, reversed_labels, changed = found.customers, found.relabelled, found.changed
    names, target = " or ".join(column.name for column in contract.permanent), contract.target.texts
    apart = contract.horizon_days is not None or not contract.featured
    disputes = {
        "batch.labels_reversed": (
            reversed_labels,
            f"are reported as “{contract.non_event}” and were “{contract.event}” before ({contract.target.name} from {target.get(1, 1)} to {target.get(0, 0)})"
            + (", or contradict a final label" if apart else ""),
        ),
        "batch.identities_changed": (changed, f"have a different {names} than before"),
    }
    return [contradicted(reversed_labels)] * apart + [
        TableRule(
            name,
            True,
            count / customers if count >= FEWEST_DISPUTED else 0.0,
            maximum=limits.max_disputed_share,
            sentence=(
                f"{count:,} of {customers:,} known customers {what} "
                f"({count / max(customers, 1):.1%}, limit {limits.max_disputed_share:.1%}), so the file may be poisoned or mixed up. "
                f"Ask the sender to check it. If it is right, raise CHURN_MAX_DISPUTED_SHARE for one run and run `churn batches rejudge {short_hash}`."
            ),
        )
        for name, (count, what) in disputes.items()
    ]


def contradicted(labels: int) -> TableRule:
    """A warning for labels that say otherwise than what was known; too many of them reject the batch by another rule."""
    return TableRule(
        "batch.labels_contradicted",
        False,
        labels,
        maximum=0,
        sentence=f"{labels:,} labels contradict what was known. Both values are kept, and the later one is in the next snapshot. A label that "
        "arrives before its horizon has passed does not undo a departure from a file of leavers. Earlier snapshots do not change.",
    )


def _size(judged: Judged, history: History, limits: IntakeLimits) -> TableRule:
    ratio = judged.arrived / history.median_size if history.median_size else 0.0
    return TableRule(
        "batch.size",
        False,
        ratio,
        maximum=limits.max_size_ratio,
        sentence=f"{judged.arrived:,} rows arrived, which is {ratio:.1f} times the median of past batches ({history.median_size:,.0f}).",
    )


def _rate(judged: Judged, history: History, contract: Contract) -> TableRule:
    """The share of events. It may differ by a factor, and by what chance alone does with the number of rows."""
    rate, past = judged.events / max(judged.accepted, 1), history.event_rate
    chance = RATE_SIGMAS * sqrt(past * (1 - past) / max(judged.accepted, 1))
    return TableRule(
        "batch.event_rate",
        False,
        rate,
        minimum=min(past / RATE_FACTOR, past - chance),
        maximum=max(past * RATE_FACTOR, past + chance),
        sentence=f"{rate:.1%} of the customers {contract.event_in_words}, compared with {past:.1%} before.",
    )


def _drifted(drift: Drift) -> TableRule:
    named = f"; new values: {', '.join(drift.new_categories)}" if drift.new_categories else ""
    return TableRule(
        f"drift.{drift.column}",
        False,
        drift.psi,
        maximum=drift.bound,
        sentence=(
            f"{drift.column} has drifted from the accepted history (PSI {drift.psi:.2f}, limit {drift.bound:.2f}; "
            f"{MEASURES[drift.measure]} {drift.value:.2f}{named})."
        ),
    )
