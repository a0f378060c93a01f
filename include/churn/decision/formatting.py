"""How figures and texts are shown, wherever a person reads them: the words, the digits, and no character that could harm a page."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup

ABSENT = "–"  # noqa: RUF001 - the dash of a cell that holds nothing
METRIC_NAMES = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "brier": "Brier score", "log_loss": "Log loss"}
SMALLER_IS_BETTER = frozenset({"brier", "log_loss"})
CAPTIONS = {
    "differences": (
        "Differences with 95 % intervals",
        "Challenger minus champion on the same customers: each metric, then the ROC AUC of each group from worst to best. "
        "An interval that crosses the line at 0 cannot tell the models apart.",
    ),
    "roc": (
        "ROC curves",
        "Share of leavers found against share of stayers flagged, at every threshold. Nearer to the upper left is better.",
    ),
    "precision_recall": (
        "Precision and recall",
        "Of those flagged, how many left; of those that left, how many were flagged. The dotted line is a model without skill.",
    ),
    "calibration": (
        "Calibration",
        "Ten equally large groups by predicted probability, with 95 % intervals. On the diagonal the probabilities are right.",
    ),
    "scores": (
        "Scores by outcome",
        "How the predicted probabilities spread among customers that stayed and that left. The less they overlap, the better.",
    ),
    "history": (
        "The last nights",
        "ROC AUC with 95 % interval, each night on its own unseen customers. Dotted lines mark promotions, with the version.",
    ),
}
"""Of each figure its heading and how to read it."""
_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_DIGITS = {"brier": 5}
_MANY = 1000


def clean(text: str) -> str:
    """A text without the characters that no page may hold or that turn others around."""
    return _HARMFUL.sub("�", text)


def harmless(value: Any) -> Any:
    """Every value on its way into a page: cleaned, and the dash for what is absent."""
    if value is None:
        return ABSENT
    return value if isinstance(value, Markup) else clean(str(value))


def is_web(url: str) -> bool:
    """Whether a link leads to the web, and not to a script or a file."""
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def metric_value(value: float | None) -> str:
    """A metric."""
    return ABSENT if value is None else f"{value:.4f}"


def difference(value: float | None, metric: str) -> str:
    """A difference of a metric, with its sign."""
    return ABSENT if value is None else f"{value:+.{_DIGITS.get(metric, 4)}f}"


def bounds(lower: float, upper: float, metric: str, sign: str = "+") -> str:
    """An interval of a metric's difference, or with no sign of the metric itself."""
    digits = _DIGITS.get(metric, 4) if sign else 4
    return f"{lower:{sign}.{digits}f}\u00a0to {upper:{sign}.{digits}f}"


def share(value: float | None) -> str:
    """A share as percent."""
    return ABSENT if value is None or math.isnan(value) else f"{100 * value:.1f}\u00a0%"


def rule_value(value: float | None) -> str:
    """A rule's number: a count as a count."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= _MANY or float(value).is_integer() else f"{value:.4f}"
