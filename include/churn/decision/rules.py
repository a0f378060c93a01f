"""The result of a rule, and the rules that a model must meet on its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from churn.decision.calibration import Calibration
from churn.decision.comparison import Comparison, Refusal
from churn.decision.inference import Estimate
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.rule_forms import FIRST_VERSION, Forms
from churn.foundation.wording import as_sentence, as_sentence_end


@dataclass(frozen=True)
class Rule:
    """The result of one rule. `bound` is the limit for `value`; both are None where there was nothing to measure.

    `code` is the reason of the decision if this rule decides.
    """

    name: str
    code: Reason
    passed: bool
    value: float | None
    bound: float | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"code": self.code.value}


def integrity_rules(refusal: Refusal | None) -> list[Rule]:
    """Check that the evidence can be trusted.

    Target, key and salt agree, no version was trained on these customers, the model files are the registered ones, and the
    scores are probabilities.
    """
    if refusal is None:
        sentence = "Target, key and salt agree, neither model was trained on these customers, and both models are the registered ones."
        return [Rule("integrity", Reason.INPUT_MISMATCH, True, None, None, sentence)]
    return [Rule("integrity", refusal.code, False, None, None, as_sentence(refusal.sentence))]


def enough_and_sane_rules(comparison: Comparison, policy: Policy, rules_version: int) -> list[Rule]:
    """Check that there are enough customers, and that the challenger is neither degenerate nor too good to be true."""
    case, evidence = comparison.case, comparison.evidence
    enough = policy.enough(case.champion is None)
    rarer_class = min(evidence.events, evidence.rows - evidence.events)
    rules = []
    if case.refusal:
        rules.append(
            Rule("champion_scorable", case.refusal.code, False, None, None, as_sentence(case.refusal.sentence))
        )
    rules += [
        Rule(
            "holdout_rows",
            Reason.HOLDOUT_TOO_SMALL,
            evidence.rows >= enough.min_rows,
            evidence.rows,
            enough.min_rows,
            f"There are {evidence.rows:,} unseen customers to compare on; at least {enough.min_rows:,} are required.",
        ),
        Rule(
            "holdout_classes",
            Reason.HOLDOUT_TOO_SMALL,
            rarer_class >= enough.min_each_class,
            rarer_class,
            enough.min_each_class,
            f"The rarer class has {rarer_class:,} unseen customers; at least {enough.min_each_class:,} are required.",
        ),
    ]
    if evidence.challenger:
        rules += [*_sanity_rules(comparison, policy), _TOO_GOOD.at(rules_version)(comparison, policy)]
    return rules


def _sanity_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    limits, leaks = policy.sanity, comparison.case.leaks
    share = comparison.same_score_share
    best_feature = (
        f"{leaks.feature} alone has a ROC AUC of {leaks.feature_auc:.4f}; above {limits.max_feature_auc:.2f} it is treated as a leak."
        if leaks.feature_auc is not None
        else "No single feature could be measured."
    )
    return [
        Rule(
            "scores_spread",
            Reason.DEGENERATE,
            share <= limits.max_same_score,
            share,
            limits.max_same_score,
            f"The most frequent score is shared by {share:.1%} of the customers; the limit is {limits.max_same_score:.0%}.",
        ),
        Rule(
            "no_identifiers",
            Reason.LEAK_SUSPECTED,
            not leaks.identifiers,
            len(leaks.identifiers),
            0,
            f"The model learns from {', '.join(leaks.identifiers)}, which identifies customers. Remove it from the features."
            if leaks.identifiers
            else "No feature identifies a customer.",
        ),
        Rule(
            "no_telling_feature",
            Reason.LEAK_SUSPECTED,
            (leaks.feature_auc or 0) <= limits.max_feature_auc,
            leaks.feature_auc,
            limits.max_feature_auc,
            best_feature,
        ),
    ]


def _too_good_rule(comparison: Comparison, policy: Policy) -> Rule:
    """Check that the ROC AUC is plausible: within the limit, confirmed, or no great jump over a champion above the limit."""
    limit, confirmed = policy.sanity.max_model_auc, comparison.case.history.confirmed
    auc, champion = comparison.evidence.challenger["roc_auc"].value, comparison.evidence.champion.get("roc_auc")
    if champion and champion.value > limit and auc > limit:
        return _jump_rule(comparison, policy)
    within = f"The challenger's ROC AUC is {auc:.4f}; the policy treats more than {limit:.2f} (sanity.max_model_auc) as a leak"
    if auc <= limit:
        sentence = f"{within}."
    elif confirmed:
        sentence = (
            f"{within}, but {confirmed.by} has confirmed that it is plausible: {as_sentence_end(confirmed.reason)}"
        )
    else:
        sentence = f"{within} until a person confirms that it is plausible: `churn policy confirm --reason ...`."
    return Rule("not_too_good", Reason.LEAK_SUSPECTED, auc <= limit or confirmed is not None, auc, limit, sentence)


def _jump_rule(comparison: Comparison, policy: Policy) -> Rule:
    limits, gain = policy.sanity, comparison.evidence.deltas["roc_auc"]
    return Rule(
        "not_too_good",
        Reason.LEAK_SUSPECTED,
        gain.lower <= limits.max_jump,
        gain.lower,
        limits.max_jump,
        f"Both ROC AUCs are above {limits.max_model_auc:.2f}. The challenger's is {gain.value:+.4f} higher, and at least {gain.lower:+.4f} with "
        f"95% confidence; the policy treats more than {limits.max_jump:+.2f} (sanity.max_jump) as a leak.",
    )


def _too_good_rule_without_confirmation(comparison: Comparison, policy: Policy) -> Rule:
    """The rule as it was before a person could confirm that a high ROC AUC is plausible."""
    auc, limit = comparison.evidence.challenger["roc_auc"].value, policy.sanity.max_model_auc
    sentence = f"The challenger's ROC AUC is {auc:.4f}; above {limit:.2f} it is too good to be true for this data."
    return Rule("not_too_good", Reason.LEAK_SUSPECTED, auc <= limit, auc, limit, sentence)


_TOO_GOOD = Forms({1: _too_good_rule_without_confirmation, 2: _too_good_rule})


def floor_rules(whose: str, metrics: dict[str, Estimate], base_rate_brier: float, policy: Policy) -> list[Rule]:
    """Check that a model ranks well enough and predicts better than the base rate.

    Args:
        whose: the beginning of the sentences, such as "The champion's".
        metrics: the model's metrics, by name.
        base_rate_brier: the Brier score of always predicting the base rate.
        policy: has the limits.
    """
    auc, brier = metrics["roc_auc"], metrics["brier"]
    gain, floor = base_rate_brier - brier.value, policy.floor
    return [
        Rule(
            "roc_auc_floor",
            Reason.BELOW_FLOOR,
            auc.lower >= floor.roc_auc,
            auc.lower,
            floor.roc_auc,
            f"{whose} ROC AUC is {auc.value:.4f}; the lower bound of its 95% interval is {auc.lower:.4f}, and must be at least {floor.roc_auc:.2f}.",
        ),
        Rule(
            "better_than_base_rate",
            Reason.BELOW_FLOOR,
            gain > floor.brier_margin,
            gain,
            floor.brier_margin,
            f"{whose} Brier score of {brier.value:.4f} is {abs(gain):.4f} {'better' if gain >= 0 else 'worse'} than always predicting "
            f"the base rate; it must be more than {floor.brier_margin:.4f} better.",
        ),
    ]


def calibration_rules(whose: str, calibration: Calibration | None, policy: Policy) -> list[Rule]:
    """Check that a model's probabilities are about right.

    Args:
        whose: the beginning of the sentences, such as "The champion's".
        calibration: None if it could not be measured, which fails.
        policy: has the limits.
    """
    limits = policy.calibration
    if calibration is None:
        sentence = f"{whose} calibration cannot be measured on these customers."
        return [Rule("calibration_slope", Reason.CALIBRATION, False, None, None, sentence)]
    return [
        _overlap_rule("calibration_slope", f"{whose} calibration slope", calibration.slope, limits.slope, limits.level),
        _overlap_rule(
            "observed_expected",
            f"{whose} ratio of observed to expected churn",
            calibration.observed_expected,
            limits.observed_expected,
            limits.level,
        ),
    ]


def _overlap_rule(name: str, what: str, estimate: Estimate, bounds: tuple[float, float], level: float) -> Rule:
    """Fail where the interval of an estimate lies entirely outside the bounds."""
    low, high = estimate.interval(level)
    passed = high >= bounds[0] and low <= bounds[1]
    nearer_bound = bounds[0] if estimate.value < 1 else bounds[1]
    sentence = (
        f"{what} is {estimate.value:.3f} ({level:.0%} interval {low:.3f} to {high:.3f}), "
        f"{'which overlaps' if passed else 'which lies entirely outside'} the range {bounds[0]:g} to {bounds[1]:g}."
    )
    return Rule(name, Reason.CALIBRATION, passed, estimate.value, nearer_bound, sentence)


FLOOR = Forms({FIRST_VERSION: floor_rules})
CALIBRATION = Forms({FIRST_VERSION: calibration_rules})


def frozen_rule(comparison: Comparison) -> Rule:
    """Check that automatic promotion is on."""
    why = comparison.case.history.frozen
    sentence = (
        f"Automatic promotion is off: {as_sentence_end(why)} `churn unfreeze --reason ...` turns it on again."
        if why
        else "Automatic promotion is on."
    )
    return Rule("not_frozen", Reason.FROZEN, why is None, None, None, sentence)


def describe_deltas(deltas: dict[str, Estimate]) -> str:
    """Describe the two differences that decide, with their 95% intervals."""
    auc, brier = deltas["roc_auc"], deltas["brier"]
    return (
        f"ROC AUC {auc.value:+.4f} ({auc.lower:+.4f} to {auc.upper:+.4f}), "
        f"Brier score {brier.value:+.5f} ({brier.lower:+.5f} to {brier.upper:+.5f})."
    )
