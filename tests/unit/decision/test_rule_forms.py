"""A rule whose meaning changes keeps its earlier form, and decisions are replayed by the form that made them."""

import pytest

from churn.decision import policy, rules
from churn.decision.comparison import Confirmed
from churn.decision.policy import Verdict, decide
from churn.decision.reasons import Reason
from churn.decision.rule_forms import FIRST_VERSION, RULES_VERSION, Forms
from support.evidence_cases import POLICY, make_case, make_comparison

FORMS = [value for value in vars(rules).values() if isinstance(value, Forms)]


def test_the_latest_form_up_to_the_version_is_used() -> None:
    """Forms of versions 1, 3 and 4: version 2 uses the first."""
    forms = Forms({1: "first", 3: "second", 4: "third"})
    assert [forms.at(version) for version in (1, 2, 3, 4, 9)] == ["first", "first", "second", "third", "third"]


def test_every_rule_has_a_form_for_every_version() -> None:
    """A decision of any version can be replayed, and no form is newer than the version of today."""
    assert FORMS
    for forms in FORMS:
        assert [forms.at(version) for version in range(FIRST_VERSION, RULES_VERSION + 1)]
        assert max(forms.by_version) <= RULES_VERSION


def test_the_version_goes_up_with_every_new_form() -> None:
    """Each version of the rules after the first has a rule that changed in it."""
    changed = {version for forms in FORMS for version in forms.by_version}
    assert changed == set(range(FIRST_VERSION, RULES_VERSION + 1))


def test_a_decision_of_the_first_version_is_replayed_without_the_confirmation() -> None:
    """Since version 2 a person can confirm a high ROC AUC; the first version knew no confirmation and no jump."""
    confirmed = make_case(None, history={"confirmed": Confirmed("Ann", "a small, clean data set")})
    high = make_comparison(quality=6.0, case=confirmed)
    before, today = (decide(high, POLICY, version) for version in (1, 2))
    assert (before.verdict, before.code) == (Verdict.HOLD, Reason.LEAK_SUSPECTED)
    assert (today.verdict, today.code) == (Verdict.PROMOTE, Reason.NO_CHAMPION)


def test_a_decision_is_made_by_the_rules_of_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new form that holds everybody decides today, and not a decision of the version before."""
    comparison = make_comparison(champion_noise=1.2)
    before = decide(comparison, POLICY)
    assert (before.verdict, before.code) == (Verdict.PROMOTE, Reason.SUPERIOR)
    earlier = rules._TOO_GOOD.at(RULES_VERSION)
    refusing = rules.Rule("not_too_good", Reason.LEAK_SUSPECTED, False, None, None, "Planted.")
    monkeypatch.setattr(rules, "_TOO_GOOD", Forms({1: earlier, RULES_VERSION + 1: lambda *_: refusing}))
    assert decide(comparison, POLICY, RULES_VERSION) == before
    assert decide(comparison, POLICY, RULES_VERSION + 1).code == Reason.LEAK_SUSPECTED


def test_the_champion_is_watched_by_the_rules_of_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new form of the floor watches the champion from the next version on; an earlier decision is replayed by the earlier form."""
    comparison = make_comparison(champion_noise=0.3)
    before = decide(comparison, POLICY)
    refusing = rules.Rule("roc_auc_floor", Reason.BELOW_FLOOR, False, 0.5, 0.99, "Planted.")
    forms = Forms({FIRST_VERSION: rules.floor_rules, RULES_VERSION + 1: lambda *_: [refusing]})
    monkeypatch.setattr(policy, "FLOOR", forms)
    assert decide(comparison, POLICY, RULES_VERSION).watch == before.watch
    assert refusing in decide(comparison, POLICY, RULES_VERSION + 1).watch
