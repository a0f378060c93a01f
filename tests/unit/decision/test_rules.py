"""The rules that a model must meet on its own, at their bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from churn.decision.reasons import Reason
from churn.decision.rules import calibration_rules, floor_rules
from churn.foundation.wording import as_sentence_end
from support.evidence_cases import POLICY, make_comparison

METRICS = make_comparison().evidence.challenger


def test_the_floor_holds_at_its_bound_and_not_below() -> None:
    """The lower bound of ROC AUC decides, not its value."""
    for lower, passed in ((POLICY.floor.roc_auc + 1e-9, True), (POLICY.floor.roc_auc - 1e-6, False)):
        rule, _ = floor_rules("The", METRICS | {"roc_auc": replace(METRICS["roc_auc"], lower=lower)}, 1.0, POLICY)
        assert (rule.passed, rule.code, rule.bound) == (passed, Reason.BELOW_FLOOR, POLICY.floor.roc_auc)
        assert rule.value == pytest.approx(lower)


def test_a_model_must_beat_the_base_rate() -> None:
    """By more than the margin."""
    brier, margin = METRICS["brier"].value, POLICY.floor.brier_margin
    for gain, passed in ((margin + 1e-9, True), (margin - 1e-9, False), (-0.1, False)):
        _, rule = floor_rules("The", METRICS, brier + gain, POLICY)
        assert rule.passed is passed
        assert rule.value == pytest.approx(gain)


def test_calibration_that_cannot_be_measured_fails() -> None:
    """With the reason and without figures."""
    (rule,) = calibration_rules("The", None, POLICY)
    assert (rule.passed, rule.code, rule.value) == (False, Reason.CALIBRATION, None)


def test_a_figure_that_is_not_a_number_fails() -> None:
    """A comparison with NaN is false, and false means held."""
    auc = replace(METRICS["roc_auc"], lower=math.nan)
    assert not floor_rules("The", METRICS | {"roc_auc": auc}, 1.0, POLICY)[0].passed


def test_a_reason_ends_as_a_sentence() -> None:
    """One full stop, whatever the person wrote."""
    assert [as_sentence_end(text) for text in ("bad data", "bad data.", "bad data! ")] == [
        "bad data.",
        "bad data.",
        "bad data! ",
    ]
