"""What MLflow keeps of a search: a table of the trials, a learning curve, and the importance of the features."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from churn.foundation import svg
from churn.learning.selection import Selected
from churn.learning.trials import Trial

TABLE, CURVE, IMPORTANCE, LEFT_OUT = "trials.csv", "learning_curve.svg", "permutation_importance.svg", "left_out.json"
_TWO_SIDED_95 = 1.959964
_LOOKS = ("challenger", "champion", "unsure")
_COLUMNS = (
    "rung", "kind", "capacity", "rows", "iterations", "log_loss", "lower", "upper", "roc_auc", "brier", "seconds", "selected",
)  # fmt: skip
_MOST_FEATURES = 30


def describe_capacity(trial: Trial) -> dict[str, Any]:
    """The parameters of a trial, or of the members of an average, by their short names."""
    if trial.members:
        return {
            f"{place}_{name}": value
            for place, member in enumerate(trial.members, start=1)
            for name, value in {"kind": member.kind, **describe_capacity(member)}.items()
        }
    capacity = {name.rpartition("__")[2]: value for name, value in trial.capacity.items()}
    if trial.iterations:
        capacity["iterations"] = trial.iterations
    return capacity


def write_search(selected: Selected, folder: Path) -> None:
    """Write the table and the pictures of a search into a folder."""
    with (folder / TABLE).open("w", newline="") as stream:
        table = csv.DictWriter(stream, _COLUMNS)
        table.writeheader()
        table.writerows(_row(trial, trial is selected.chosen) for trial in selected.trials)
    (folder / CURVE).write_text(svg.standalone(_draw_curve(selected.trials)))
    (folder / IMPORTANCE).write_text(svg.standalone(_draw_importance(selected)))
    if selected.left_out:
        (folder / LEFT_OUT).write_text(json.dumps(dict(selected.left_out), indent=2))


def _row(trial: Trial, is_selected: bool) -> dict[str, Any]:
    reach = _TWO_SIDED_95 * trial.standard_error
    return {
        "rung": trial.rung,
        "kind": trial.name,
        "capacity": ", ".join(
            f"{name}={value}" for name, value in describe_capacity(trial).items() if name != "iterations"
        ),
        "rows": trial.rows,
        "iterations": trial.iterations or "",
        "log_loss": round(trial.loss, 5),
        "lower": round(trial.loss - reach, 5),
        "upper": round(trial.loss + reach, 5),
        "roc_auc": round(trial.measured.metrics["roc_auc"], 5),
        "brier": round(trial.measured.metrics["brier"], 5),
        "seconds": round(trial.seconds, 2),
        "selected": "yes" if is_selected else "",
    }


def _draw_curve(trials: Sequence[Trial]) -> Any:
    """The best log loss of each kind, rung by rung; of the trials before the first rung, size by size."""
    steps = sorted({_step(trial) for trial in trials})
    rows = {step: max(trial.rows for trial in trials if _step(trial) == step) for step in steps}
    kinds = list(dict.fromkeys(trial.kind for trial in trials if not trial.members and not trial.method))
    series = [
        svg.Series(
            _LOOKS[place % len(_LOOKS)],
            [
                _best([trial for trial in trials if (trial.kind, _step(trial)) == (kind, step) and not trial.method])
                for step in steps
            ],
            label=kind,
        )
        for place, kind in enumerate(kinds)
    ]
    return svg.draw_series(
        "learning-curve",
        "Learning curve",
        "The lowest log loss of each kind of model on rows that it was not fitted on, with its 95% interval, by the number of "
        "training rows.",
        series,
        [f"{rows[step]:,} rows" for step in steps],
    )


def _step(trial: Trial) -> tuple[int, int]:
    return trial.rung, 0 if trial.rung else trial.rows


def _best(trials: Sequence[Trial]) -> tuple[float, float, float] | None:
    if not trials:
        return None
    best = min(trials, key=lambda trial: trial.loss)
    reach = _TWO_SIDED_95 * best.standard_error
    return best.loss, best.loss - reach, best.loss + reach


def _draw_importance(selected: Selected) -> Any:
    marks = [
        svg.Mark(
            each.feature,
            f"{each.increase:+.4f} ({each.lower:+.4f} to {each.upper:+.4f})",
            "better" if each.lower > 0 else "unsure",
            each.increase,
            each.lower,
            each.upper,
        )
        for each in selected.importance[:_MOST_FEATURES]
    ]
    return svg.draw_intervals(
        "permutation-importance",
        "Permutation importance",
        "How much the log loss rises when the values of a feature are shuffled among customers that the model was not fitted on, with "
        "its 95% interval.",
        marks,
    )
