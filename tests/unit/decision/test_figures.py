"""The charts of a comparison: what was measured is drawn, and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from churn.decision.comparison import Case, Comparison, Evidence, EvidenceWindow, History, Refusal, compare
from churn.decision.figures import MOST_POINTS, MOST_RUNS, MOST_SLICES, PastRun, draw_figures
from churn.decision.inference import Estimate
from churn.decision.reasons import Reason
from churn.decision.slices import Slicing

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
SLICINGS = (
    Slicing("Geography", ("France", "Germany", "Spain")),
    Slicing("Gender", ("Female", "Male"), parity=True),
    Slicing("Age", ("under 30", "30 to under 45", "45 to under 60", "60 and over"), parity=True),
)
CURVES = {"roc", "precision_recall", "calibration", "scores"}


def draw_evidence(rows: int = 3000, champion: bool = True, anchor: bool = True, noise: float = 0.6) -> Evidence:
    """Calibrated scores, the champion's made worse by noise; hardly anybody is 60 and over."""
    rng = np.random.default_rng(7)
    signal = 1.6 * rng.normal(size=rows) - 1.5

    def scores(more: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(signal + more * rng.normal(size=rows))))

    return Evidence(
        customers=np.arange(rows, dtype=np.uint64),
        labels=(rng.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64),
        batches=np.arange(rows) * 4 // rows,
        codes={
            "Geography": rng.choice(3, rows, p=[0.5, 0.25, 0.25]).astype(np.int8),
            "Gender": rng.choice(2, rows).astype(np.int8),
            "Age": rng.choice(4, rows, p=[0.3, 0.4, 0.29, 0.01]).astype(np.int8),
        },
        used=np.arange(rows) >= rows // 4,
        current=np.ones(rows, dtype=bool),
        undisputed=np.arange(rows) < rows * 3 // 4,
        challenger=scores(0.1),
        champion=scores(noise) if champion else None,
        anchor=scores(noise) if anchor else None,
    )


def make_case(champion: int | None = 11, **changes: Any) -> Case:
    window = EvidenceWindow(NOW - timedelta(days=180), NOW, 180, widened=False)
    case = Case(12, champion, 9, "5e" * 32, History(NOW, 40.0), window, suspects=["ba" * 32])
    return replace(case, **changes)


def compare_both(evidence: Evidence | None, sliced: tuple[Slicing, ...] = SLICINGS, **changes: Any) -> Comparison:
    champion = 11 if evidence is None or evidence.champion is not None else None
    return compare(make_case(champion, **changes), evidence, sliced, 50)


def past_runs(count: int = 5, measured: bool = True) -> list[PastRun]:
    """The last one a promotion."""
    runs = []
    for at in range(count):
        auc = Estimate.of(0.8 + at / 1000, 0.01) if measured else None
        verdict = "promote" if at == count - 1 else "hold"
        when = NOW - timedelta(days=count - at)
        runs.append(PastRun(f"night-{at}", when, verdict, "SUPERIOR", 20 + at, 11, auc, auc))
    return runs


def texts(chart: str) -> list[str]:
    """Every text of a chart, in the order in which it is drawn."""
    return [element.text or "" for element in ET.fromstring(chart).iter("text")]  # noqa: S314 -- our own


def paths(chart: str, look: str) -> list[str]:
    """The paths of a chart with a class."""
    root = ET.fromstring(chart)  # noqa: S314 -- our own
    return [element.get("d", "") for element in root.iter("path") if element.get("class") == look]


def points(path: str) -> np.ndarray:
    """The points of a path of straight lines, shape (points, 2)."""
    return np.array([[float(number) for number in point.split()] for point in re.split("[ML]", path) if point])


def test_everything_is_drawn_of_a_full_comparison() -> None:
    """Two models, slices and a past give every chart, in the order of the review."""
    evidence = draw_evidence()
    drawn = draw_figures(compare_both(evidence), evidence, past_runs())
    assert list(drawn) == ["differences", "slices", "roc", "precision_recall", "calibration", "scores", "history"]


def test_without_a_champion_there_are_single_curves() -> None:
    """No champion: nothing to subtract, so no differences, and one curve."""
    evidence = draw_evidence(champion=False)
    drawn = draw_figures(compare_both(evidence), evidence, [])
    assert set(drawn) == CURVES
    assert len(paths(drawn["roc"], "line challenger")) == 1
    assert paths(drawn["roc"], "line champion") == []


@pytest.mark.parametrize("evidence", [None, draw_evidence()], ids=["no rows", "refused rows"])
def test_of_a_refused_comparison_only_the_past_is_drawn(evidence: Evidence | None) -> None:
    """What was refused was not measured: no curve is made of its scores."""
    comparison = compare_both(evidence, refusal=Refusal(Reason.INPUT_MISMATCH, "another salt."))
    assert set(draw_figures(comparison, evidence, past_runs())) == {"history"}
    assert draw_figures(comparison, evidence, []) == {}
    assert draw_figures(comparison, evidence, past_runs(measured=False)) == {}


def test_without_the_rows_the_differences_are_still_drawn() -> None:
    """Intervals need the measured numbers only."""
    assert set(draw_figures(compare_both(draw_evidence()), None, [])) == {"differences", "slices"}


def test_curves_are_of_the_rows_that_decide() -> None:
    """Rows that are not used change nothing."""
    evidence = draw_evidence()
    spoiled = replace(evidence, challenger=np.where(evidence.used, evidence.challenger, 0.0))
    comparison = compare_both(evidence)
    assert draw_figures(comparison, spoiled, [])["roc"] == draw_figures(comparison, evidence, [])["roc"]


def test_every_slice_is_listed_the_worst_first_and_the_untested_last() -> None:
    """Slices go from the greatest loss to the greatest gain. One that is too small is listed as such."""
    comparison = compare_both(draw_evidence())
    drawn = texts(draw_figures(comparison, None, [])["slices"])
    tested = sorted(
        (measured for measured in comparison.slices if measured.p is not None), key=lambda one: one.delta.value
    )
    labels = [text for text in drawn if "(n = " in text]
    assert labels[:-1] == [f"{measured.column} {measured.name} (n = {measured.rows:,})" for measured in tested]
    assert labels[-1].startswith("Age 60 and over (n = ")
    assert drawn.count("too few customers") == 1


def test_other_rows_and_the_baseline_have_a_line_where_they_were_measured() -> None:
    """Whole holdout, the rows without new batches and the baseline follow the metric, or are left out."""
    sources = ("whole holdout", "without the new batches", "against baseline v9")
    full = " ".join(texts(draw_figures(compare_both(draw_evidence()), None, [])["differences"]))
    assert all(source in full for source in sources)
    evidence = draw_evidence(anchor=False)
    evidence = replace(evidence, used=evidence.current)
    bare = " ".join(texts(draw_figures(compare_both(evidence, suspects=[]), None, [])["differences"]))
    assert not any(source in bare for source in sources)


def test_the_harm_margin_is_drawn_where_the_policy_has_it() -> None:
    """Another margin moves the dashed ticks."""
    comparison = compare_both(draw_evidence())
    ticks = []
    for harm in (-0.001, -0.002):
        root = ET.fromstring(draw_figures(comparison, None, [], harm=harm)["slices"])  # noqa: S314 -- our own
        ticks.append({line.get("x1") for line in root.iter("line") if line.get("class") == "margin"})
    assert len(ticks[0]) == len(ticks[1]) == 1
    assert ticks[0] != ticks[1]


def test_curves_of_many_customers_are_thinned() -> None:
    """A curve keeps its ends and its area with a limited number of points."""
    evidence = draw_evidence(rows=100_000)
    comparison = compare_both(evidence)
    drawn = draw_figures(comparison, evidence, [])
    for title in ("roc", "precision_recall"):
        for role in ("challenger", "champion"):
            (path,) = paths(drawn[title], f"line {role}")
            assert len(points(path)) <= MOST_POINTS
    curve = points(paths(drawn["roc"], "line challenger")[0])
    x, y = (curve[:, 0] - curve[0, 0]) / 260, (curve[0, 1] - curve[:, 1]) / 260
    assert (x[-1], y[-1]) == (1, 1)
    assert np.trapezoid(y, x) == pytest.approx(comparison.evidence.challenger["roc_auc"].value, abs=2e-3)


def test_the_history_is_the_newest_runs_with_the_oldest_on_the_left() -> None:
    """In any order, at most a limited number of runs. A promotion carries its version."""
    runs = past_runs(MOST_RUNS + 5)
    history = draw_figures(compare_both(None), None, runs[::-1])["history"]
    (line,) = paths(history, "line challenger")
    heights = points(line)[:, 1]
    assert len(heights) == MOST_RUNS
    assert list(heights) == sorted(heights, reverse=True)  # the AUC grows, and y points down
    assert f"v{runs[-1].challenger}" in texts(history)


def test_a_run_without_a_measurement_is_a_gap() -> None:
    """A refused run keeps its place, empty."""
    runs = past_runs(3)
    runs[1] = replace(runs[1], challenger_auc=None, champion_auc=None)
    history = draw_figures(compare_both(None), None, runs)["history"]
    first, last = points(paths(history, "line challenger")[0])[:, 0]
    whole = points(paths(draw_figures(compare_both(None), None, past_runs(3))["history"], "line challenger")[0])[:, 0]
    assert [first, last] == [whole[0], whole[2]]


def test_a_hostile_slice_name_is_drawn_harmlessly() -> None:
    """A name is cleaned and escaped, and a long one is cut."""
    sliced = (Slicing("Gender", ("<script>\x00", "x" * 10_000)),)
    chart = draw_figures(compare_both(draw_evidence(), sliced), None, [])["slices"]
    assert "<script>" not in chart
    assert all(len(text) < 60 and "\x00" not in text for text in texts(chart))


def test_many_slices_are_limited_to_the_worst() -> None:
    """A contract with hundreds of slices gives a chart that can be read."""
    sliced = tuple(Slicing(column, ("a", "b", "c", "d")) for column in ("Geography", "Gender", "Age"))
    comparison = compare_both(draw_evidence(), sliced)
    many = replace(comparison, slices=comparison.slices * 10)
    assert sum("(n = " in text for text in texts(draw_figures(many, None, [])["slices"])) == MOST_SLICES
