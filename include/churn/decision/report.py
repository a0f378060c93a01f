"""What a reviewer reads in MLflow: one run a night with two children, the decision first.

Both children carry identical metric names; the parent carries every difference with its bounds,
because the compare view rounds.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mlflow.entities import Metric, Param, RunTag
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from churn.decision.comparison import Comparison, Scored
from churn.decision.inference import Estimate
from churn.decision.policy import Decision
from churn.foundation.records import Drift
from churn.foundation.tracking import Tracking
from churn.intake.drift import draw_drift

CHALLENGER_COLOUR, CHAMPION_COLOUR, GUIDE = "#0072b2", "#d55e00", "#888888"  # told apart by the colour-blind
BINS = 10


def log_comparison(
    night: str,
    comparison: Comparison,
    decision: Decision,
    scored: Scored,
    tracking: Tracking,
    context: dict[str, str],
    drift: dict[str, list[Drift]],
) -> str:
    """Write the night's comparison into MLflow; repeated, it writes into the same runs.

    Args:
        night: the night.
        comparison: the evidence.
        decision: what the policy made of it.
        scored: labels and scores behind the evidence, for the figures.
        tracking: MLflow.
        context: further lines of the note, title to text (links, the reviewer's note).
        drift: of each batch of the night, its columns against the accepted history.

    Returns:
        Id of the comparison run.
    """
    client = tracking.client
    with tracking.explained("log the comparison"):
        parent = tracking.run(night, "night", night).info.run_id
        challenger = tracking.run(night, "challenger", "challenger", parent=parent).info.run_id
        _log(
            tracking,
            challenger,
            _named(comparison.challenger_metrics),
            {"mlflow.runName": f"challenger v{comparison.challenger}"},
        )
        client.set_terminated(challenger)
        if comparison.champion is not None:
            name = f"champion v{comparison.champion}"
            champion = tracking.run(night, "champion", name, parent=parent).info.run_id
            _log(tracking, champion, _named(comparison.champion_metrics), {"mlflow.runName": name})
            client.set_terminated(champion)
        figures = _figures(comparison, scored)
        figures |= {f"drift_{batch[:12]}": draw_drift(columns) for batch, columns in drift.items() if columns}
        for title, figure in figures.items():
            client.log_figure(parent, figure, f"{title}.png")
        client.log_dict(
            parent, {"comparison": comparison.as_dict(), "rules": decision.rules_as_dicts()}, "comparison.json"
        )
        tags = {
            "churn.verdict": decision.verdict.value,
            "churn.code": decision.code,
            "churn.comparison": "true",
            "mlflow.note.content": _note(comparison, decision, tracking, context),
        }
        metrics = {
            "holdout_rows": comparison.rows,
            "holdout_events": comparison.events,
            **_named(comparison.deltas, "delta_"),
            **_drift_metrics(drift),
        }
        _log(
            tracking,
            parent,
            metrics,
            tags,
            {"challenger": comparison.challenger, "champion": comparison.champion or "none"},
        )
        client.set_terminated(parent)
    return str(parent)


def _log(
    tracking: Tracking,
    run_id: str,
    metrics: dict[str, float],
    tags: dict[str, str],
    params: dict[str, Any] | None = None,
) -> None:
    """One call for all of a run's metrics, tags and parameters."""
    now = int(time.time() * 1000)
    tracking.client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
        params=[Param(name, str(value)) for name, value in (params or {}).items()],
    )


def _named(estimates: dict[str, Estimate], prefix: str = "") -> dict[str, float]:
    named = {}
    for metric, found in estimates.items():
        named[f"{prefix}{metric}"] = found.value
        named[f"{prefix}{metric}_lower"] = found.lower
        named[f"{prefix}{metric}_upper"] = found.upper
    return named


def _drift_metrics(drift: dict[str, list[Drift]]) -> dict[str, float]:
    """The population stability index of each column; of several batches, the largest."""
    found: dict[str, float] = {}
    for one in (one for columns in drift.values() for one in columns):
        name = f"drift_psi_{one.column}"
        found[name] = max(one.psi, found.get(name, 0.0))
    return found


def _note(comparison: Comparison, decision: Decision, tracking: Tracking, context: dict[str, str]) -> str:
    """Markdown. The description folds after a few lines, so the decision goes first."""
    versions = [f"[challenger v{comparison.challenger}]({tracking.version_link(comparison.challenger)})"]
    if comparison.champion is not None:
        versions.append(f"[champion v{comparison.champion}]({tracking.version_link(comparison.champion)})")
    lines = [
        f"**{decision.verdict.upper()}** ({decision.code}). {decision.sentence}",
        f"{' against '.join(versions)} on the same {comparison.rows} unseen customers, {comparison.events} of them churned.",
        *(f"{title}: {text}" for title, text in context.items()),
        _metric_table(comparison),
        _rule_table(decision),
    ]
    return "\n\n".join(line for line in lines if line)


def _metric_table(comparison: Comparison) -> str:
    if not comparison.challenger_metrics:
        return ""
    rows = ["| metric | challenger | champion | difference | 95 % interval |", "|---|---|---|---|---|"]
    for metric, mine in comparison.challenger_metrics.items():
        theirs, delta = comparison.champion_metrics.get(metric), comparison.deltas.get(metric)
        rows.append(
            f"| {metric} | {mine.value:.4f} | {f'{theirs.value:.4f}' if theirs else '-'} | "
            f"{f'{delta.value:+.4f}' if delta else '-'} | {f'{delta.lower:+.4f} to {delta.upper:+.4f}' if delta else '-'} |"
        )
    return "\n".join(rows)


def _rule_table(decision: Decision) -> str:
    rows = ["| rule | passed | why |", "|---|---|---|"]
    rows += [f"| {rule.name} | {'yes' if rule.passed else '**no**'} | {rule.sentence} |" for rule in decision.rules]
    return "\n".join(rows)


def _figures(comparison: Comparison, scored: Scored) -> dict[str, Figure]:
    if not comparison.challenger_metrics:
        return {}
    curves = [(f"challenger v{comparison.challenger}", CHALLENGER_COLOUR, "-", scored.challenger)]
    if comparison.champion_metrics and scored.champion is not None:
        curves.append((f"champion v{comparison.champion}", CHAMPION_COLOUR, "--", scored.champion))
    roc, roc_axes = _axes("ROC", "false positive rate", "true positive rate")
    pr, pr_axes = _axes("Precision and recall", "recall", "precision")
    calibration, calibration_axes = _axes(
        "Calibration", "predicted probability of churn", "observed share that churned"
    )
    roc_axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":")
    calibration_axes.plot([0, 1], [0, 1], color=GUIDE, linewidth=1, linestyle=":")
    for label, colour, style, scores in curves:
        false_positive, true_positive, _ = roc_curve(scored.labels, scores)
        precision, recall, _ = precision_recall_curve(scored.labels, scores)
        observed, predicted = calibration_curve(scored.labels, np.clip(scores, 0, 1), n_bins=BINS, strategy="quantile")
        roc_axes.plot(false_positive, true_positive, color=colour, linestyle=style, label=label)
        pr_axes.plot(recall, precision, color=colour, linestyle=style, label=label)
        calibration_axes.plot(predicted, observed, color=colour, linestyle=style, marker="o", label=label)
    for axes in (roc_axes, pr_axes, calibration_axes):
        axes.legend(frameon=False)
    return {"roc": roc, "precision_recall": pr, "calibration": calibration}


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
