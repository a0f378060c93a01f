"""The rules that turn a comparison into a decision: pure, and every rule says its numbers.

The rules stand in the order in which they decide. A rule that must hold and does not gives a hold and
its code; a group of rules that may promote does so if all of it holds. Every rule that could be
measured is reported, also those after the one that decided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from churn.decision.comparative_rules import (
    dispute_rule,
    freshness_rules,
    scores_differ_rule,
    slice_harm_rule,
    superiority_rules,
)
from churn.decision.comparison import UNSCORABLE, Comparison
from churn.decision.policy_file import Policy
from churn.decision.rules import (
    Rule,
    as_sentence_end,
    calibration_rules,
    enough_and_sane_rules,
    floor_rules,
    frozen_rule,
    integrity_rules,
    say_changes,
)

UNFORCEABLE = frozenset(
    {"POLICY_INVALID", "INPUT_MISMATCH", "HOLDOUT_CONTAMINATED", "ARTIFACT_CHANGED", "SCORES_INVALID"}
)
"""The codes of integrity: no person's word stands against them."""
FORCED = "FORCED"
"""The code of a promotion that a person wanted and the policy did not."""
TRIED = frozenset({"INFERIOR", "ANCHOR_INFERIOR"})
"""The codes of a night in which "no worse" was tested, and failed."""


class Verdict(StrEnum):
    """What happens to the challenger."""

    PROMOTE = "promote"
    HOLD = "hold"


@dataclass(frozen=True)
class Decision:
    """Promote or hold: the code of the rule that decided, a sentence, and every rule; and how the champion does."""

    verdict: Verdict
    code: str
    sentence: str
    rules: tuple[Rule, ...]
    watch: tuple[Rule, ...] = ()

    def rules_as_dicts(self) -> list[dict[str, Any]]:
        """The rules as plain JSON."""
        return [asdict(rule) for rule in self.rules]

    def watch_as_dicts(self) -> list[dict[str, Any]]:
        """The champion's rules as plain JSON."""
        return [asdict(rule) for rule in self.watch]

    @property
    def alarms(self) -> list[str]:
        """What the champion itself fails."""
        return [rule.sentence for rule in self.watch if not rule.passed]


@dataclass(frozen=True)
class _Step:
    """Rules that all must hold, or with a `promotes` code: that promote if all hold."""

    rules: list[Rule]
    promotes: str | None = None


def decide(comparison: Comparison, policy: Policy) -> Decision:
    """Turn evidence into a decision; the first rule that decides gives the code."""
    steps = _steps(comparison, policy)
    rules = tuple(rule for step in steps for rule in step.rules)
    decision = _first_that_decides(comparison, steps, rules)
    decision = Decision(decision.verdict, decision.code, decision.sentence, rules, watch_champion(comparison, policy))
    return _forced(decision, comparison)


def tests_superiority(comparison: Comparison, policy: Policy) -> bool:
    """Whether the challenger is held against the champion at all, which spends a look; what fails before spends none."""
    for step in _steps(comparison, policy):
        if step.promotes == "SUPERIOR":
            return True
        if not all(rule.passed for rule in step.rules):
            return False
    return False


def hold_invalid_policy(reason: str) -> Decision:
    """The decision of a night whose policy cannot be read."""
    rule = Rule("policy", "POLICY_INVALID", False, None, None, reason)
    return Decision(Verdict.HOLD, rule.code, reason, (rule,))


def watch_champion(comparison: Comparison, policy: Policy) -> tuple[Rule, ...]:
    """Hold the champion itself against floor and calibration, on the newest unseen customers; none if not scored."""
    if not comparison.evidence.champion:
        return ()
    return (
        *floor_rules("The champion's", comparison.evidence.champion, comparison.base_rate_brier, policy),
        *calibration_rules("The champion's", comparison.champion_calibration, policy),
    )


def _steps(comparison: Comparison, policy: Policy) -> list[_Step]:
    case = comparison.case
    unscorable = case.refusal is not None and case.refusal.code == UNSCORABLE
    steps = [_Step(integrity_rules(None if unscorable else case.refusal))]
    if case.refusal and not unscorable:
        return steps
    steps.append(_Step(enough_and_sane_rules(comparison, policy)))
    if not comparison.evidence.challenger:
        return steps
    floor = _Step(
        [
            *floor_rules("The challenger's", comparison.evidence.challenger, comparison.base_rate_brier, policy),
            *calibration_rules("The challenger's", comparison.challenger_calibration, policy),
        ]
    )
    if case.champion is None:
        return [*steps, _Step([frozen_rule(comparison)]), floor, _Step([], "NO_CHAMPION")]
    if not comparison.evidence.deltas:
        return steps
    return [
        *steps,
        _Step([scores_differ_rule(comparison)]),
        # Before the groups of customers: those are measured on the very rows that are in dispute.
        _Step([dispute_rule(comparison, policy)]),
        _Step([slice_harm_rule(comparison, policy), frozen_rule(comparison)]),
        _Step(superiority_rules(comparison, policy), "SUPERIOR"),
        floor,
        _Step(freshness_rules(comparison, policy)),
        _Step([], "FRESH_NONINFERIOR"),
    ]


def _first_that_decides(comparison: Comparison, steps: list[_Step], rules: tuple[Rule, ...]) -> Decision:
    not_superior = ""
    for step in steps:
        failed = [rule for rule in step.rules if not rule.passed]
        if step.promotes is None and failed:
            code = failed[0].code
            reasons = " ".join(rule.sentence for rule in failed if rule.code == code)
            return Decision(Verdict.HOLD, code, f"{not_superior}{reasons}", rules)
        if step.promotes and not failed:
            return Decision(Verdict.PROMOTE, step.promotes, _why_promoted(step, comparison), rules)
        if step.promotes:
            not_superior = f"Not superior: {failed[0].sentence} "
    raise AssertionError("the last step promotes")


def _why_promoted(step: _Step, comparison: Comparison) -> str:
    version, champion = comparison.case.challenger, comparison.case.champion
    evidence = comparison.evidence
    if step.promotes == "NO_CHAMPION":
        auc = evidence.challenger["roc_auc"]
        return (
            f"There is no champion yet, and version {version} clears floor and calibration: ROC AUC {auc.value:.4f} "
            f"(95 % interval {auc.lower:.4f} to {auc.upper:.4f}) on {evidence.rows} unseen customers."
        )
    if step.promotes == "SUPERIOR":
        return f"Version {version} beats champion {champion}: {' '.join(rule.sentence for rule in step.rules)}"
    return (
        f"Version {version} is no worse than champion {champion}, which is {comparison.case.history.champion_days:.0f} days old, "
        f"nor than anchor {comparison.case.anchor}: {say_changes(evidence.deltas)}"
    )


def _forced(decision: Decision, comparison: Comparison) -> Decision:
    force = comparison.case.history.force
    if force is None or decision.verdict is Verdict.PROMOTE:
        return decision
    if decision.code in UNFORCEABLE:
        sentence = f"{decision.sentence} {force.by} asked to force it: this cannot be forced."
        return Decision(Verdict.HOLD, decision.code, sentence, decision.rules, decision.watch)
    sentence = f"Forced by {force.by}: {as_sentence_end(force.reason)} By itself the policy holds ({decision.code}): {decision.sentence}"
    return Decision(Verdict.PROMOTE, FORCED, sentence, decision.rules, decision.watch)
