"""Logs a comparison to MLflow: one run with two children, the decision first.

Both children have identical metric names on the same dataset. The parent has every difference with its bounds, because
MLflow's compare view rounds.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from churn.contract import Contract
from churn.decision.calibration import Calibration
from churn.decision.card import CardFacts, parity_table, render_card
from churn.decision.comparison import Comparison, Evidence, Shown
from churn.decision.figures import PastRun, draw_figures
from churn.decision.formatting import describe_compared
from churn.decision.inference import Estimate
from churn.decision.slices import Slicing
from churn.foundation.paths import decision_rows
from churn.foundation.records import DecisionRecord, Drift, Snapshot
from churn.foundation.svg import standalone
from churn.foundation.tracking import Tracking
from churn.intake.drift import draw_drift

CARD = "card.html"
MOST_DRAWN = 20
"""Batches of which the drift is drawn, those with the most."""
_HERE = "Comparison in MLflow"


@dataclass(frozen=True)
class Review:
    """Everything that a reviewer sees of a run.

    `past` are the earlier decisions, newest first. `harm` is the change of ROC AUC below which a slice counts as harmed. `drift` has
    the drift of each column, by batch. `context` has further lines of the note, and `links` has URLs by title.
    """

    record: DecisionRecord
    comparison: Comparison
    evidence: Evidence | None
    slicings: tuple[Slicing, ...]
    snapshot: Snapshot | None
    past: Sequence[DecisionRecord]
    harm: float
    drift: dict[str, list[Drift]]
    context: dict[str, str]
    links: dict[str, str]
    capacity: float | None = None


_USUAL_CAPACITY = 0.1
"""Where the slices are compared if the scoring policy cannot be read."""


def log_comparison(review: Review, contract: Contract, tracking: Tracking) -> str:
    """Log the comparison to MLflow. Repeating this logs to the same runs.

    Returns:
        The id of the comparison run.

    Raises:
        TrackingUnreachable: MLflow is unavailable.
    """
    record, comparison = review.record, review.comparison
    with tracking.explained("log the comparison"):
        parent = str(tracking.run(record.night, "night", record.night).info.run_id)
        roles = {"challenger": f"challenger v{record.challenger}"}
        if record.champion is not None:
            roles["champion"] = f"champion v{record.champion}"
        for role, name in roles.items():
            run = str(tracking.run(record.night, role, name, parent=parent).info.run_id)
            metrics = _metrics_of(role, comparison) | _at_capacity(record.curves, role)
            _log(tracking, run, metrics, {"mlflow.runName": name})
            if review.evidence is not None:
                tracking.client.log_inputs(run, [_dataset(record, comparison)])
            tracking.client.set_terminated(run)
        links = _links(review, parent, tracking)
        _log_files(review, contract, parent, links, tracking)
        tags = {
            "churn.verdict": record.verdict,
            "churn.code": record.code,
            "churn.comparison": "true",
            "churn.challenger": str(record.challenger),
            "churn.champion": str(record.champion or ""),
            "churn.snapshot": record.snapshot,
            "mlflow.note.content": _note(review, contract, links),
        }
        params = {
            "challenger": record.challenger,
            "champion": record.champion or "none",
            "anchor": comparison.case.anchor or "none",
        }
        _log(tracking, parent, _metrics_of_night(review), tags, params)
        tracking.client.set_terminated(parent)
    tracking.tag_version(
        record.challenger, {"churn.comparison": tracking.run_link(parent), "churn.verdict": record.verdict}
    )
    return parent


def _log(
    tracking: Tracking,
    run_id: str,
    metrics: dict[str, float],
    tags: dict[str, str],
    params: dict[str, Any] | None = None,
) -> None:
    """Log all metrics, tags and parameters of a run in one call."""
    now = int(time.time() * 1000)
    tracking.client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
        params=[Param(name, str(value)) for name, value in (params or {}).items()],
    )


def _log_files(review: Review, contract: Contract, run_id: str, links: dict[str, str], tracking: Tracking) -> None:
    """Log figures, card and numbers in one upload."""
    past = [_past_run(earlier) for earlier in reversed(review.past) if earlier.night != review.record.night]
    figures = draw_figures(
        review.comparison, review.evidence, [*past, _past_run(review.record)], review.harm, contract.event_names
    )
    drifted = [(batch, columns) for batch, columns in review.drift.items() if columns]
    drifted.sort(key=lambda batch: -max(column.psi for column in batch[1]))
    figures |= {
        f"drift_{batch[:12]}": draw_drift(columns, f"drift-{batch[:12]}") for batch, columns in drifted[:MOST_DRAWN]
    }
    facts = CardFacts(
        title=review.record.night,
        model=review.record.model,
        verdict=review.record.verdict,
        code=review.record.code,
        sentence=review.record.sentence,
        rules=review.record.rules,
        watch=review.record.watch,
        comparison=review.comparison,
        figures=figures,
        parity=parity_table(review.evidence, review.slicings, review.capacity or _USUAL_CAPACITY)
        if review.evidence is not None
        else [],
        links=links,
        facts=_facts(review, contract),
        note=review.record.note,
        names=contract.event_names,
        curves=review.record.curves,
        capacity=review.capacity,
    )
    with tempfile.TemporaryDirectory(prefix="churn-review-") as scratch:
        folder = Path(scratch)
        for title, figure in figures.items():
            (folder / f"{title}.svg").write_text(standalone(figure), encoding="utf-8")
        (folder / CARD).write_text(render_card(facts), encoding="utf-8")
        numbers = {
            "comparison": review.record.comparison,
            "rules": review.record.rules,
            "champion": review.record.watch,
        }
        (folder / "comparison.json").write_text(json.dumps(numbers, indent=1))
        (folder / "policy.yaml").write_text(review.record.policy)
        tracking.client.log_artifacts(run_id, scratch)


def _metrics_of(role: str, comparison: Comparison) -> dict[str, float]:
    """The metrics of one model, under the same names for both."""
    metrics = comparison.evidence.challenger if role == "challenger" else comparison.evidence.champion
    calibration = comparison.challenger_calibration if role == "challenger" else comparison.champion_calibration
    return _named(metrics) | _of_calibration(calibration) | _of_shown(comparison.shown.get(role))


def _at_capacity(curves: dict[str, Any] | None, role: str) -> dict[str, float]:
    """Precision, recall and lift at the capacity of the scoring policy, if it is known."""
    point = ((curves or {}).get(role) or {}).get("at") or []
    named = zip(("capacity", "precision_at_capacity", "recall_at_capacity", "lift_at_capacity"), point, strict=False)
    return {name: float(value) for name, value in named if value is not None}


def _metrics_of_night(review: Review) -> dict[str, float]:
    comparison = review.comparison
    named = {
        "holdout_rows": comparison.evidence.rows,
        "holdout_events": comparison.evidence.events,
        **_named(comparison.evidence.deltas, "delta_"),
        **_named(comparison.anchor_deltas, "delta_anchor_"),
        **{f"drift_psi_{column.column}": 0.0 for columns in review.drift.values() for column in columns},
    }
    if comparison.whole:
        named |= _named(comparison.whole.deltas, "delta_whole_")
    if comparison.undisputed:
        named |= _named(comparison.undisputed.deltas, "delta_undisputed_")
    for column in (column for columns in review.drift.values() for column in columns):  # the largest of several batches
        named[f"drift_psi_{column.column}"] = max(column.psi, named[f"drift_psi_{column.column}"])
    return named


def _named(estimates: dict[str, Estimate], prefix: str = "") -> dict[str, float]:
    named = {}
    for metric, estimate in estimates.items():
        named[f"{prefix}{metric}"] = estimate.value
        named[f"{prefix}{metric}_lower"] = estimate.lower
        named[f"{prefix}{metric}_upper"] = estimate.upper
    return named


def _of_calibration(calibration: Calibration | None) -> dict[str, float]:
    if calibration is None:
        return {}
    return _named({"calibration_slope": calibration.slope, "observed_expected": calibration.observed_expected})


def _of_shown(shown: Shown | None) -> dict[str, float]:
    if shown is None:
        return {}
    named = {
        "lift_top_tenth": shown.lift,
        "calibration_error": shown.calibration_error,
        "recall": shown.recall,
        "precision": shown.precision,
    }
    return {name: value for name, value in named.items() if value is not None}


def _dataset(record: DecisionRecord, comparison: Comparison) -> DatasetInput:
    """The evidence as a dataset of MLflow, with the same hash on both children."""
    digest = record.digests["evidence"][:32]
    dataset = Dataset(
        name=f"unseen customers of {record.snapshot[:12]}",
        digest=digest,
        source_type="local",
        source=json.dumps({"uri": decision_rows(record.digests["evidence"])}),
        profile=json.dumps({"num_rows": comparison.evidence.rows, "events": comparison.evidence.events}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "holdout")])


def _links(review: Review, run_id: str, tracking: Tracking) -> dict[str, str]:
    record = review.record
    links = {_HERE: tracking.run_link(run_id)}
    for role, version in (
        ("Challenger", record.challenger),
        ("Champion", record.champion),
        ("Baseline", review.comparison.case.anchor),
    ):
        if version is not None:
            links[f"{role} v{version}"] = tracking.version_link(version)
    return links | review.links


def _past_run(record: DecisionRecord) -> PastRun:
    comparison = Comparison.from_dict(record.comparison)
    return PastRun(
        night=record.night,
        decided_at=record.decided_at,
        verdict=record.verdict,
        code=record.code,
        challenger=record.challenger,
        champion=record.champion,
        challenger_auc=comparison.evidence.challenger.get("roc_auc"),
        champion_auc=comparison.evidence.champion.get("roc_auc"),
    )


def _facts(review: Review, contract: Contract) -> dict[str, str]:
    record, snapshot = review.record, review.snapshot
    facts = {
        "Decided": f"{record.decided_at:%Y-%m-%d %H:%M} UTC",
        "Started by": record.requested_by,
        "Snapshot": record.snapshot[:12],
        "Contract": f"{contract.name} ({contract.fingerprint})",
        "Features": ", ".join(contract.feature_names),
        "Training customers": f"{snapshot.training_rows}, from {len(snapshot.batches)} batches" if snapshot else None,
        "Event": contract.event_in_words,
        "Evidence from": describe_compared(review.comparison, contract.event_names),
        "Evidence": record.digests.get("evidence", "none")[:12],
        "Policy": record.digests["policy"][:12],
        "Code": record.code_version,
    }
    return {title: text for title, text in facts.items() if text}


def _note(review: Review, contract: Contract, links: dict[str, str]) -> str:
    """The description of the run as Markdown. MLflow folds it after a few lines, so the decision comes first."""
    record, comparison = review.record, review.comparison
    alarms = [rule["sentence"] for rule in record.watch if not rule["passed"]]
    pages = ", ".join(f"[{title}]({url})" for title, url in links.items() if title != _HERE)
    lines = [
        f"**{record.verdict.upper()}** ({record.code}). {record.sentence}",
        f"**Champion {record.champion} needs attention:** {' '.join(alarms)}" if alarms else "",
        describe_compared(comparison, contract.event_names),
        f"Pages: {pages}",
        f'The artifact `{CARD}` shows everything on one page. `churn replay "{record.night}"` reproduces this decision.',
        *(f"{title}: {text}" for title, text in review.context.items()),
        _metric_table(comparison),
        _rule_table(record.rules),
    ]
    return "\n\n".join(line for line in lines if line)


def _metric_table(comparison: Comparison) -> str:
    figures = comparison.evidence
    if not figures.challenger:
        return ""
    rows = ["| metric | challenger | champion | difference | 95% interval |", "|---|---|---|---|---|"]
    for metric, challenger in figures.challenger.items():
        champion, delta = figures.champion.get(metric), figures.deltas.get(metric)
        rows.append(
            f"| {metric} | {challenger.value:.4f} | {f'{champion.value:.4f}' if champion else '-'} | "
            f"{f'{delta.value:+.4f}' if delta else '-'} | {f'{delta.lower:+.4f} to {delta.upper:+.4f}' if delta else '-'} |"
        )
    return "\n".join(rows)


def _rule_table(rules: Sequence[dict[str, Any]]) -> str:
    rows = ["| rule | passed | why |", "|---|---|---|"]
    rows += [f"| {rule['name']} | {'yes' if rule['passed'] else '**no**'} | {rule['sentence']} |" for rule in rules]
    return "\n".join(rows)
