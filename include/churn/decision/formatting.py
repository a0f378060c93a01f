"""Formats numbers and texts for people, without characters that could harm a page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from markupsafe import Markup

from churn.contract import CHURNED, EventNames
from churn.foundation.plain_text import clean
from churn.foundation.wording import describe_contact, describe_evidence

if TYPE_CHECKING:
    from churn.decision.comparison import Comparison

ABSENT = "–"  # noqa: RUF001 - the dash of a cell that holds nothing
METRIC_NAMES = {"roc_auc": "ROC AUC", "pr_auc": "PR AUC", "brier": "Brier score", "log_loss": "Log loss"}
SMALLER_IS_BETTER = frozenset({"brier", "log_loss"})
_CAPTIONS = {
    "differences": (
        "Differences with 95% intervals",
        "Challenger minus champion on the same customers. "
        "Where an interval includes 0, the models cannot be told apart.",
    ),
    "slices": (
        "Slices",
        "ROC AUC, challenger minus champion, in each slice of the customers, with 95% intervals, the worst first. "
        "The dashed tick marks harm.",
    ),
    "roc": (
        "ROC curves",
        "True positive rate (customers that {event} and were flagged) and false positive rate (customers that {non_event} and were flagged) at every threshold. Closer to the upper left is better.",
    ),
    "precision_recall": (
        "Precision and recall",
        "Precision: how many of the flagged customers {event}. Recall: how many of those that {event} were flagged. The dotted line is a model without skill.",
    ),
    "capacity": (
        "What a list would find",
        "The share of those that {event} that is among the customers with the highest scores, for every capacity. The diagonal is a list drawn by lot.",
    ),
    "calibration": (
        "Calibration",
        "Ten groups of equal size by predicted probability, with 95% intervals. On the diagonal, the probabilities are right.",
    ),
    "scores": (
        "Scores by outcome",
        "Predicted probabilities of customers that {non_event} and of customers that {event}. The less they overlap, the better.",
    ),
    "history": (
        "The last runs",
        "ROC AUC with 95% interval, each run on its own unseen customers. Dotted lines mark promotions, with the version.",
    ),
}
"""The heading of each figure, and how to read it, with places for the names of the event and its opposite."""
_DIGITS = {"brier": 5}
_MANY = 1000


def harmless(value: Any) -> Any:
    """Prepare a value for a page: cleaned, with a dash for a missing one."""
    if value is None:
        return ABSENT
    return value if isinstance(value, Markup) else clean(str(value))


def caption(figure: str, names: EventNames = CHURNED) -> tuple[str, str]:
    """Return the heading of a figure, and how to read it; of one that is not known, its name alone."""
    heading, reading = _CAPTIONS.get(figure, (figure, ""))
    return heading, reading.format(**names._asdict()) if reading else ""


def is_web(url: str) -> bool:
    """Whether a link is a web address, and not a script or a file."""
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def metric_value(value: float | None) -> str:
    """A metric."""
    return ABSENT if value is None else f"{value:.4f}"


def difference(value: float | None, metric: str) -> str:
    """Format a difference of a metric, with its sign."""
    return ABSENT if value is None else f"{value:+.{_DIGITS.get(metric, 4)}f}"


def bounds(lower: float, upper: float, metric: str, sign: str = "+") -> str:
    """Format the interval of a difference; with an empty sign, of the metric itself."""
    digits = _DIGITS.get(metric, 4) if sign else 4
    return f"{lower:{sign}.{digits}f}\u00a0to {upper:{sign}.{digits}f}"


def share(value: float | None) -> str:
    """Format a share as a percentage."""
    return ABSENT if value is None or math.isnan(value) else f"{100 * value:.1f}%"


def rule_value(value: float | None) -> str:
    """Format the number of a rule; a count without decimals."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= _MANY or float(value).is_integer() else f"{value:.4f}"


def describe_compared(comparison: Comparison, names: EventNames = CHURNED) -> str:
    """Say on which customers both versions were compared; empty if nothing was measured."""
    window, evidence, contact = comparison.case.window, comparison.evidence, comparison.case.contact
    if window is None:
        return ""
    about = describe_evidence(evidence.rows, evidence.events, (window.since, window.until), window.widened, names)
    return " ".join(filter(None, [about, describe_contact(contact.left_out, contact.control)]))
