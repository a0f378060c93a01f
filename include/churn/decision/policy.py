"""The rules that turn a comparison into a decision. Pure, and every rule reports its numbers.

The steps are in the order in which they decide. A step that must pass and does not holds the challenger, with the
reason of its first failing rule; a step that may promote does so if all its rules pass. Every rule that could be measured is
reported, including those after the one that decided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from churn.decision.comparative_rules import (
    dispute_rule,
    freshness_rules,
    scores_differ_rule,
    slice_harm_rule,
    superiority_rules,
)
from churn.decision.comparison import Comparison
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.rule_forms import RULES_VERSION
from churn.decision.rules import (
    CALIBRATION,
    FLOOR,
    Rule,
    describe_deltas,
    enough_and_sane_rules,
    frozen_rule,
    integrity_rules,
)
from churn.foundation.wording import as_sentence_end

UNMET = frozenset({Reason.BELOW_FLOOR, Reason.CALIBRATION})
"""The reasons of rules that a superior version need not meet: people are notified, because the version before it was worse."""


class Verdict(StrEnum):
    """What happens to the challenger."""

    PROMOTE = "promote"
    HOLD = "hold"


@dataclass(frozen=True)
class Decision:
    """Promote or hold, with the reason, a sentence and every rule; `watch` are the rules applied to the champion itself."""

    verdict: Verdict
    code: Reason
    sentence: str
    rules: tuple[Rule, ...]
    watch: tuple[Rule, ...] = ()

    def rules_as_dicts(self) -> list[dict[str, Any]]:
        """The rules as plain JSON."""
        return [rule.as_dict() for rule in self.rules]

    def watch_as_dicts(self) -> list[dict[str, Any]]:
        """The champion's rules as plain JSON."""
        return [rule.as_dict() for rule in self.watch]

    @property
    def alarms(self) -> list[str]:
        """The sentences of the rules that the champion itself fails."""
        return [rule.sentence for rule in self.watch if not rule.passed]


@dataclass(frozen=True)
class _Step:
    """Rules that must all pass; or, with a reason in `promotes`, rules that promote if all pass."""

    rules: list[Rule]
    promotes: Reason | None = None


def decide(comparison: Comparison, policy: Policy, rules_version: int = RULES_VERSION) -> Decision:
    """Turn evidence into a decision; the first step that decides gives the reason.

    Args:
        comparison: the evidence.
        policy: the limits.
        rules_version: the version of the rules to apply: an earlier one for a replay.
    """
    steps = _steps(comparison, policy, rules_version)
    rules = tuple(rule for step in steps for rule in step.rules)
    decision = replace(
        _first_that_decides(comparison, steps, rules), watch=watch_champion(comparison, policy, rules_version)
    )
    return _apply_force(decision, comparison)


def tests_superiority(comparison: Comparison, policy: Policy) -> bool:
    """Whether the challenger is tested against the champion at all, which spends a part of the error budget.

    A challenger that fails an earlier step spends nothing.
    """
    for step in _steps(comparison, policy, RULES_VERSION):
        if step.promotes is Reason.SUPERIOR:
            return True
        if not all(rule.passed for rule in step.rules):
            return False
    return False


def hold_invalid_policy(explanation: str) -> Decision:
    """The decision of a run whose policy cannot be read."""
    rule = Rule("policy", Reason.POLICY_INVALID, False, None, None, explanation)
    return Decision(Verdict.HOLD, rule.code, explanation, (rule,))


def watch_champion(comparison: Comparison, policy: Policy, rules_version: int = RULES_VERSION) -> tuple[Rule, ...]:
    """Check the champion itself against floor and calibration, on the newest unseen customers; empty if it was not scored."""
    if not comparison.evidence.champion:
        return ()
    return (
        *FLOOR.at(rules_version)("The champion's", comparison.evidence.champion, comparison.base_rate_brier, policy),
        *CALIBRATION.at(rules_version)("The champion's", comparison.champion_calibration, policy),
    )


def _steps(comparison: Comparison, policy: Policy, rules_version: int) -> list[_Step]:
    case = comparison.case
    alone = case.refusal is not None and case.refusal.code.leaves_challenger
    steps = [_Step(integrity_rules(None if alone else case.refusal))]
    if case.refusal and not alone:
        return steps
    steps.append(_Step(enough_and_sane_rules(comparison, policy, rules_version)))
    if not comparison.evidence.challenger:
        return steps
    floor = _Step(
        [
            *FLOOR.at(rules_version)(
                "The challenger's", comparison.evidence.challenger, comparison.base_rate_brier, policy
            ),
            *CALIBRATION.at(rules_version)("The challenger's", comparison.challenger_calibration, policy),
        ]
    )
    if case.champion is None:
        return [*steps, _Step([frozen_rule(comparison)]), floor, _Step([], Reason.NO_CHAMPION)]
    if not comparison.evidence.deltas:
        return steps
    return [
        *steps,
        _Step([scores_differ_rule(comparison)]),
        # Before the slices, which are measured on the very rows that are in dispute.
        _Step([dispute_rule(comparison, policy)]),
        _Step([slice_harm_rule(comparison, policy), frozen_rule(comparison)]),
        _Step(superiority_rules(comparison, policy), Reason.SUPERIOR),
        floor,
        _Step(freshness_rules(comparison, policy)),
        _Step([], Reason.FRESH_NONINFERIOR),
    ]


def _first_that_decides(comparison: Comparison, steps: list[_Step], rules: tuple[Rule, ...]) -> Decision:
    not_superior = ""
    for step in steps:
        failed = [rule for rule in step.rules if not rule.passed]
        if step.promotes is None and failed:
            code = failed[0].code
            sentences = " ".join(rule.sentence for rule in failed if rule.code is code)
            return Decision(Verdict.HOLD, code, f"{not_superior}{sentences}", rules)
        if step.promotes and not failed:
            return Decision(Verdict.PROMOTE, step.promotes, _why_promoted(step, comparison, rules), rules)
        if step.promotes:
            not_superior = f"Not superior: {failed[0].sentence} "
    raise AssertionError("the last step promotes")


def _why_promoted(step: _Step, comparison: Comparison, rules: tuple[Rule, ...]) -> str:
    version, champion = comparison.case.challenger, comparison.case.champion
    evidence = comparison.evidence
    if step.promotes is Reason.NO_CHAMPION:
        auc = evidence.challenger["roc_auc"]
        return (
            f"There is no champion yet, and version {version} passes floor and calibration: ROC AUC {auc.value:.4f} "
            f"(95% interval {auc.lower:.4f} to {auc.upper:.4f}) on {evidence.rows:,} unseen customers."
        )
    if step.promotes is Reason.SUPERIOR:
        better = (
            f"Version {version} is better than champion {champion}: {' '.join(rule.sentence for rule in step.rules)}"
        )
        unmet = " ".join(rule.sentence for rule in rules if not rule.passed and rule.code in UNMET)
        return (
            f"{better} It replaces a worse version, although it does not meet floor and calibration: {unmet}"
            if unmet
            else better
        )
    return (
        f"Version {version} is not inferior to champion {champion}, which has been in production for "
        f"{comparison.case.history.champion_days:.0f} days, nor to baseline version {comparison.case.anchor}: {describe_deltas(evidence.deltas)}"
    )


def _apply_force(decision: Decision, comparison: Comparison) -> Decision:
    """Promote where a person demands it, unless the evidence cannot be trusted."""
    force = comparison.case.history.force
    if force is None or decision.verdict is Verdict.PROMOTE:
        return decision
    if not decision.code.forceable:
        sentence = f"{decision.sentence} {force.by} asked to force the promotion, but this reason cannot be overridden."
        return replace(decision, sentence=sentence)
    sentence = (
        f"Forced by {force.by}: {as_sentence_end(force.reason)} "
        f"The policy alone would hold ({decision.code}): {decision.sentence}"
    )
    return replace(decision, verdict=Verdict.PROMOTE, code=Reason.FORCED, sentence=sentence)
