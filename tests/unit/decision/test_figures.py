"""The pictures of a comparison: what was measured is drawn, and nothing else."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from churn.decision.comparison import Case, Comparison, Evidence, EvidenceWindow, History, Refusal, compare
from churn.decision.figures import MOST_NIGHTS, MOST_POINTS, PastNight, draw_figures
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


def past_nights(nights: int = 5, measured: bool = True) -> list[PastNight]:
    """The last one a promotion."""
    found = []
    for at in range(nights):
        auc = Estimate.of(0.8 + at / 1000, 0.01) if measured else None
        verdict = "promote" if at == nights - 1 else "hold"
        when = NOW - timedelta(days=nights - at)
        found.append(PastNight(f"night-{at}", when, verdict, "SUPERIOR", 20 + at, 11, auc, auc))
    return found


def words(figure: Figure) -> list[str]:
    """Every text of a figure, as it is drawn."""
    figure.draw_without_rendering()
    axes = [
        label
        for one in figure.axes
        for label in (*one.get_yticklabels(), *one.get_xticklabels(), *one.texts, one.title, one._left_title)
    ]
    legends = [
        text
        for legend in (*figure.legends, *(one.get_legend() for one in figure.axes))
        if legend
        for text in legend.get_texts()
    ]
    return [text.get_text() for text in (*axes, *legends)]


def test_everything_is_drawn_of_a_full_comparison() -> None:
    """Two models, groups and a past give every figure, in the order of the review."""
    evidence = draw_evidence()
    drawn = draw_figures(compare_both(evidence), evidence, past_nights())
    assert list(drawn) == ["differences", "roc", "precision_recall", "calibration", "scores", "history"]


def test_without_a_champion_there_are_single_curves() -> None:
    """No champion: nothing to subtract, so no differences, and one curve besides the guide."""
    evidence = draw_evidence(champion=False)
    drawn = draw_figures(compare_both(evidence), evidence, [])
    assert set(drawn) == CURVES
    assert "challenger v12" in words(drawn["roc"])
    assert not any("champion" in word for word in words(drawn["roc"]))
    assert len(drawn["roc"].axes[0].lines) == 2


@pytest.mark.parametrize("evidence", [None, draw_evidence()], ids=["no rows", "refused rows"])
def test_of_a_refused_comparison_only_the_past_is_drawn(evidence: Evidence | None) -> None:
    """What was refused was not measured: no curve is made of its scores."""
    comparison = compare_both(evidence, refusal=Refusal(Reason.INPUT_MISMATCH, "another salt."))
    assert set(draw_figures(comparison, evidence, past_nights())) == {"history"}
    assert draw_figures(comparison, evidence, []) == {}
    assert draw_figures(comparison, evidence, past_nights(measured=False)) == {}


def test_without_the_rows_the_differences_are_drawn_still() -> None:
    """The forest plot needs the measured numbers only."""
    assert set(draw_figures(compare_both(draw_evidence()), None, [])) == {"differences"}


def test_curves_are_of_the_rows_that_decide() -> None:
    """Rows that are not used change nothing."""
    evidence = draw_evidence()
    spoiled = replace(evidence, challenger=np.where(evidence.used, evidence.challenger, 0.0))
    first, second = (
        draw_figures(compare_both(evidence), one, [])["roc"].axes[0].lines[1].get_xydata()
        for one in (evidence, spoiled)
    )
    assert np.array_equal(first, second)


def test_every_group_is_listed_the_worst_first_and_the_untested_last() -> None:
    """Groups go from the greatest loss to the greatest gain; one that is too small is said to be, not left out."""
    comparison = compare_both(draw_evidence())
    panel = draw_figures(comparison, None, [])["differences"].axes[-1]
    labels = [label.get_text() for label in panel.get_yticklabels()]
    tested = sorted((one for one in comparison.slices if one.p is not None), key=lambda one: one.delta.value)
    assert labels[:-1] == [f"{one.column} {one.name} (n = {one.rows:,})" for one in tested]
    assert labels[-1].startswith("Age 60 and over (n = ")
    assert [text.get_text() for text in panel.texts] == ["too few customers"]


def test_the_other_rows_and_the_anchor_have_a_line_where_they_were_measured() -> None:
    """Whole holdout, the rows without new batches and the anchor stand below the metric, or not at all."""
    every = ("whole holdout", "without new batches", "against anchor v9")
    full = words(draw_figures(compare_both(draw_evidence()), None, [])["differences"])
    assert all(any(word.startswith(one) for word in full) for one in every)
    evidence = draw_evidence(anchor=False)
    evidence = replace(evidence, used=evidence.current)
    bare = words(draw_figures(compare_both(evidence, suspects=[]), None, [])["differences"])
    assert not any(word.startswith(every) for word in bare)


def test_the_harm_margin_is_where_the_policy_has_it() -> None:
    """The dotted line stands at the margin that is handed in."""
    panel = draw_figures(compare_both(draw_evidence()), None, [], harm=-0.0123)["differences"].axes[-1]
    assert any(set(line.get_xdata()) == {-0.0123} and line.get_linestyle() == ":" for line in panel.lines)


def test_curves_of_many_customers_are_thinned() -> None:
    """A curve keeps its ends and its area with at most so many points."""
    evidence = draw_evidence(rows=100_000)
    comparison = compare_both(evidence)
    drawn = draw_figures(comparison, evidence, [])
    for title in ("roc", "precision_recall"):
        assert all(len(line.get_xdata()) <= MOST_POINTS for line in drawn[title].axes[0].lines)
    x, y = drawn["roc"].axes[0].lines[1].get_xydata().T
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(comparison.evidence.challenger["roc_auc"].value, abs=1e-3)


def test_the_history_is_the_newest_nights_oldest_left() -> None:
    """In any order handed in, at most so many nights; a promotion carries its version."""
    nights = past_nights(MOST_NIGHTS + 5)
    history = draw_figures(compare_both(None), None, nights[::-1])["history"]
    _, challenger = (container.lines[0].get_ydata() for container in history.axes[0].containers)
    assert list(challenger) == [one.challenger_auc.value for one in nights[5:]]
    assert "promoted" in words(history)
    assert f"v{nights[-1].challenger}" in words(history)


def test_a_night_without_a_measurement_is_a_gap() -> None:
    """A refused night keeps its place, empty."""
    nights = past_nights(3)
    nights[1] = replace(nights[1], challenger_auc=None, champion_auc=None)
    history = draw_figures(compare_both(None), None, nights)["history"]
    assert np.isnan(history.axes[0].containers[1].lines[0].get_ydata()).tolist() == [False, True, False]


def test_a_hostile_group_name_is_drawn_harmlessly() -> None:
    """A name is never read as a formula, and a long one is cut."""
    sliced = (Slicing("Gender", ("$\\frac{$\x00", "x" * 10_000)),)
    evidence = draw_evidence()
    figure = draw_figures(compare_both(evidence, sliced), evidence, [])["differences"]
    figure.savefig(io.BytesIO(), format="png")
    assert all(len(word) < 60 for word in words(figure))
