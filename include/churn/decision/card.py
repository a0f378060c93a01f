"""The review of one night as one page: no script, nothing loaded from anywhere, pictures inside.

Names and notes come from people and may be anything: every text is escaped and cleaned where the
template puts it, and a link is one only to the web.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from churn.decision.comparison import OPERATING_POINT, Comparison, Evidence
from churn.decision.figures import CHALLENGER_COLOUR, CHAMPION_COLOUR, GUIDE
from churn.decision.formatting import (
    ABSENT,
    CAPTIONS,
    METRIC_NAMES,
    bounds,
    clean,
    difference,
    harmless,
    is_web,
    metric_value,
    rule_value,
    share,
)
from churn.decision.inference import Estimate
from churn.decision.slices import Slicing

_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_INK = {
    "#000000": "ink",
    CHALLENGER_COLOUR: "challenger",
    CHAMPION_COLOUR: "champion",
    GUIDE: "guide",
    "#444444": "guide",
}
_DRIFT = "How far each column of the batch is from the accepted history; beyond its limit it has drifted."
_LEAST_P = 0.001


@dataclass(frozen=True)
class ParityRow:
    """How one model treats one group of customers; shares are None where there is nobody to take them of.

    `flagged` is the share with a probability of at least .5; `recall` and `precision` are at that threshold.
    """

    column: str
    group: str
    model: str
    rows: int
    observed: float | None
    predicted: float | None
    flagged: float | None
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class CardFacts:
    """All that the page shows.

    `rules` and `watch` are rules as plain JSON, `figures` by their title, `links` title to URL, `facts` what else there
    is to say of where the numbers come from.
    """

    title: str
    model: str
    verdict: str
    code: str
    sentence: str
    rules: Sequence[dict[str, Any]]
    watch: Sequence[dict[str, Any]]
    comparison: Comparison
    figures: dict[str, Figure]
    parity: Sequence[ParityRow]
    links: dict[str, str]
    facts: dict[str, str]
    note: str | None


def parity_table(evidence: Evidence, sliced: tuple[Slicing, ...]) -> list[ParityRow]:
    """Each model in each group of the slicings that are held side by side, on the rows that decide; pure."""
    used = evidence.used
    y = evidence.labels[used]
    models = {"challenger": evidence.challenger, "champion": evidence.champion}
    found = []
    for slicing in (one for one in sliced if one.parity):
        codes = evidence.codes[slicing.column][used]
        for code, group in enumerate(slicing.names):
            chosen = codes == code
            for model, scores in models.items():
                if scores is None:
                    continue
                inside, left = scores[used][chosen], y[chosen] == 1
                flagged = inside >= OPERATING_POINT
                found.append(
                    ParityRow(
                        column=slicing.column,
                        group=group,
                        model=model,
                        rows=len(left),
                        observed=_mean(left),
                        predicted=_mean(inside),
                        flagged=_mean(flagged),
                        recall=_mean(flagged[left]),
                        precision=_mean(left[flagged]),
                    )
                )
    return found


def render_card(facts: CardFacts) -> str:
    """The page as HTML; the same facts give the same bytes."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "metric": _metric,
        "delta": _delta,
        "interval": _interval,
        "share": share,
        "value": rule_value,
        "p_value": lambda p: f"{p:.3f}" if p >= _LEAST_P else f"< {_LEAST_P}",
        "count": lambda number: f"{number:,}",
        "metric_name": lambda metric: METRIC_NAMES.get(metric, metric),
    }
    return templates.get_template("card.html.j2").render(
        facts=facts,
        case=facts.comparison.case,
        comparison=facts.comparison,
        measured=bool(facts.comparison.evidence.challenger),
        rules=sorted(facts.rules, key=lambda rule: bool(rule["passed"])),
        alarms=[rule for rule in facts.watch if not rule["passed"]],
        blocks=_metric_blocks(facts.comparison),
        shown=_shown_rows(facts.comparison),
        untested=[one for one in facts.comparison.slices if one.p is None],
        pictures=[_picture(at, title, figure) for at, (title, figure) in enumerate(facts.figures.items())],
        links={title: url if is_web(url) else None for title, url in facts.links.items()},
    )


def _metric_blocks(comparison: Comparison) -> list[dict[str, Any]]:
    """Title, figures, and whether it is those that decide, of each set of rows that was measured."""
    whole, undisputed = comparison.whole, comparison.undisputed
    named = [
        ("Unseen customers that decide", comparison.evidence),
        ("Whole holdout of today", whole),
        ("Without the batches that are new", undisputed),
    ]
    return [{"title": title, "figures": found} for title, found in named if found and found.challenger]


def _shown_rows(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """What no rule reads: a name, and a text for the challenger and the champion."""
    roles = [role for role in ("challenger", "champion") if role in comparison.shown]
    calibrations = {"challenger": comparison.challenger_calibration, "champion": comparison.champion_calibration}
    both = [(comparison.shown[role], calibrations[role]) for role in roles]
    if not both:
        return []
    return [
        ("Calibration slope", [_metric(found.slope if found else None) for _, found in both]),
        ("Observed / expected", [_metric(found.observed_expected if found else None) for _, found in both]),
        ("Calibration error", [f"{shown.calibration_error:.4f}" for shown, _ in both]),
        ("Lift of the top tenth", [f"{shown.lift:.2f}" for shown, _ in both]),
        ("Precision at .5", [share(shown.precision) for shown, _ in both]),
        ("Recall at .5", [share(shown.recall) for shown, _ in both]),
    ]


def _picture(at: int, title: str, figure: Figure) -> dict[str, Any]:
    drift = f"Drift of batch {title.removeprefix('drift_')}", _DRIFT
    heading, reading = CAPTIONS.get(title, drift if title.startswith("drift_") else (title, ""))
    width, height = figure.get_size_inches()
    return {
        "heading": heading,
        "reading": reading,
        "tall": height > width,
        "svg": _inline_svg(f"figure-{at}", figure, f"{heading}. {reading}".strip()),
    }


def _inline_svg(prefix: str, figure: Figure, alternative: str) -> Markup:
    """The figure as an element of the page: its colours follow the page's, its ids are its own."""
    if figure.get_layout_engine() is not None:  # every drawing would move the axes a little again
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(written, format="svg", transparent=True)
    root = ET.fromstring(clean(written.getvalue()))  # noqa: S314 - our own figure
    for parent in list(root.iter()):
        parent.tag = parent.tag.rpartition("}")[2]
        parent.attrib = {name.rpartition("}")[2]: _of_page(name, text, prefix) for name, text in parent.attrib.items()}
        for child in [child for child in parent if child.tag.rpartition("}")[2] in {"metadata", "style"}]:
            parent.remove(child)
    named = ET.Element("title", {"id": f"{prefix}-title"})
    named.text = alternative
    root.insert(0, named)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-labelledby": f"{prefix}-title"}
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - the serialiser has escaped its texts


def _of_page(name: str, text: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{text}"
    if name.endswith("href"):
        return f"#{prefix}-{text.removeprefix('#')}"
    for colour, variable in _INK.items():
        text = text.replace(colour, f"var(--{variable})")
    return _REFERENCE.sub(rf"url(#{prefix}-\1)", text)


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _metric(found: Estimate | None) -> str:
    return metric_value(found.value if found else None)


def _delta(found: Estimate | None, metric: str) -> str:
    return difference(found.value if found else None, metric)


def _interval(found: Estimate | None, metric: str, sign: str = "+") -> str:
    return bounds(found.lower, found.upper, metric, sign) if found else ABSENT
