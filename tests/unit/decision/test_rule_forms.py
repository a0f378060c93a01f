"""A rule whose meaning changes keeps its earlier form, and decisions are replayed by the form that made them."""

import pytest

from churn.decision import policy
from churn.decision.policy import Verdict, decide
from churn.decision.reasons import Reason
from churn.decision.rule_forms import FIRST_VERSION, RULES_VERSION, Forms
from support.evidence_cases import POLICY, make_comparison


def test_the_latest_form_up_to_the_version_is_used() -> None:
    """Forms of versions 1, 3 and 4: version 2 uses the first."""
    forms = Forms({1: "first", 3: "second", 4: "third"})
    assert [forms.at(version) for version in (1, 2, 3, 4, 9)] == ["first", "first", "second", "third", "third"]


def test_every_version_of_the_rules_has_steps() -> None:
    """There is a form of the steps for each version that a decision may have been made by."""
    assert [policy._STEPS.at(version) for version in range(FIRST_VERSION, RULES_VERSION + 1)]


def test_a_decision_is_made_by_the_rules_of_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new rule that holds everybody decides today, and not a decision of the version before."""
    comparison = make_comparison(champion_noise=1.2)
    before = decide(comparison, POLICY)
    assert (before.verdict, before.code) == (Verdict.PROMOTE, Reason.SUPERIOR)
    earlier = policy._STEPS.at(RULES_VERSION)
    forms = Forms({1: earlier, RULES_VERSION + 1: lambda made, limits: earlier(made, limits)[:-4]})
    monkeypatch.setattr(policy, "_STEPS", forms)
    assert decide(comparison, POLICY, RULES_VERSION) == before
    with pytest.raises(AssertionError):  # the planted rules end without a step that promotes
        decide(comparison, POLICY, RULES_VERSION + 1)
