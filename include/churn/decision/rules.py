"""What a rule says, and the rules that any model must keep by itself."""

from __future__ import annotations

from dataclasses import dataclass

from churn.decision.calibration import Calibration
from churn.decision.comparison import Comparison, Refusal
from churn.decision.inference import Estimate
from churn.decision.policy_file import Policy


@dataclass(frozen=True)
class Rule:
    """One rule's result. `bound` is what `value` was held against; both None where there was nothing to measure.

    `code` is the reason that the rule gives when it decides.
    """

    name: str
    code: str
    passed: bool
    value: float | None
    bound: float | None
    sentence: str


def integrity_rules(refusal: Refusal | None) -> list[Rule]:
    """Target, key and salt agree, no training saw a row, the files are the registered ones, the scores are scores."""
    if refusal is None:
        sentence = "Target, key and salt agree, no training saw a row, both models are the registered ones."
        return [Rule("integrity", "INPUT_MISMATCH", True, None, None, sentence)]
    return [Rule("integrity", refusal.code, False, None, None, as_sentence(refusal.sentence))]


def enough_and_sane_rules(comparison: Comparison, policy: Policy) -> list[Rule]:
    """There are enough customers, and nothing about the challenger is too uniform or too good to be true."""
    case, evidence = comparison.case, comparison.evidence
    enough = policy.enough(case.champion is None)
    fewest = min(evidence.events, evidence.rows - evidence.events)
    rules = []
    if case.refusal:
        rules.append(
            Rule("champion_scorable", case.refusal.code, False, None, None, as_sentence(case.refusal.sentence))
        )
    rules += [
        Rule(
            "holdout_rows",
            "HOLDOUT_TOO_SMALL",
            evidence.rows >= enough.min_rows,
            evidence.rows,
            enough.min_rows,
            f"There are {evidence.rows} unseen customers to compare on; {enough.min_rows} are needed.",
        ),
        Rule(
            "holdout_classes",
            "HOLDOUT_TOO_SMALL",
            fewest >= enough.min_each_class,
            fewest,
            enough.min_each_class,
            f"The rarer class has {fewest} unseen customers; {enough.min_each_class} are needed.",
        ),
    ]
    if evidence.challenger:
        rules += _sane(comparison, policy)
    return rules


def _sane(comparison: Comparison, policy: Policy) -> list[Rule]:
    limits, leaks = policy.sanity, comparison.case.leaks
    auc, share = comparison.evidence.challenger["roc_auc"].value, comparison.same_score_share
    alone = (
        f"{leaks.feature} alone has ROC AUC {leaks.feature_auc:.4f}; above {limits.max_feature_auc:.2f} it would know the answer."
        if leaks.feature_auc is not None
        else "No single feature could be measured."
    )
    return [
        Rule(
            "scores_spread",
            "DEGENERATE",
            share <= limits.max_same_score,
            share,
            limits.max_same_score,
            f"One and the same score goes to {share:.1%} of the customers; at most {limits.max_same_score:.0%} may share one.",
        ),
        Rule(
            "no_identifiers",
            "LEAK_SUSPECTED",
            not leaks.identifiers,
            len(leaks.identifiers),
            0,
            f"The model learns from {', '.join(leaks.identifiers)}, which identifies customers: take it out of the features."
            if leaks.identifiers
            else "No feature identifies a customer.",
        ),
        Rule(
            "no_telling_feature",
            "LEAK_SUSPECTED",
            (leaks.feature_auc or 0) <= limits.max_feature_auc,
            leaks.feature_auc,
            limits.max_feature_auc,
            alone,
        ),
        Rule(
            "not_too_good",
            "LEAK_SUSPECTED",
            auc <= limits.max_model_auc,
            auc,
            limits.max_model_auc,
            f"The challenger's ROC AUC is {auc:.4f}; above {limits.max_model_auc:.2f} it is too good to be true for this data.",
        ),
    ]


def floor_rules(whose: str, metrics: dict[str, Estimate], base_rate_brier: float, policy: Policy) -> list[Rule]:
    """A model ranks, and predicts better than the base rate; `whose` begins the sentences."""
    auc, brier = metrics["roc_auc"], metrics["brier"]
    gain, floor = base_rate_brier - brier.value, policy.floor
    return [
        Rule(
            "roc_auc_floor",
            "BELOW_FLOOR",
            auc.lower >= floor.roc_auc,
            auc.lower,
            floor.roc_auc,
            f"{whose} ROC AUC is {auc.value:.4f}, at least {auc.lower:.4f} with 97.5 % confidence; the floor is {floor.roc_auc:.2f}.",
        ),
        Rule(
            "better_than_base_rate",
            "BELOW_FLOOR",
            gain > floor.brier_margin,
            gain,
            floor.brier_margin,
            f"{whose} Brier score {brier.value:.4f} is {gain:+.4f} better than always predicting the base rate; "
            f"more than {floor.brier_margin:.4f} is needed.",
        ),
    ]


def calibration_rules(whose: str, found: Calibration | None, policy: Policy) -> list[Rule]:
    """A model's probabilities are about right; `whose` begins the sentences."""
    limits = policy.calibration
    if found is None:
        sentence = f"{whose} calibration cannot be measured on these customers."
        return [Rule("calibration_slope", "CALIBRATION", False, None, None, sentence)]
    return [
        _within("calibration_slope", f"{whose} calibration slope", found.slope, limits.slope, limits.level),
        _within(
            "observed_expected",
            f"{whose} ratio of observed to expected churn",
            found.observed_expected,
            limits.observed_expected,
            limits.level,
        ),
    ]


def _within(name: str, what: str, found: Estimate, bounds: tuple[float, float], level: float) -> Rule:
    low, high = found.interval(level)
    passed = high >= bounds[0] and low <= bounds[1]
    near = bounds[0] if found.value < 1 else bounds[1]
    sentence = (
        f"{what} is {found.value:.3f} ({level:.0%} interval {low:.3f} to {high:.3f}), "
        f"{'not wholly' if passed else 'wholly'} outside {bounds[0]:g} to {bounds[1]:g}."
    )
    return Rule(name, "CALIBRATION", passed, found.value, near, sentence)


def frozen_rule(comparison: Comparison) -> Rule:
    """Nobody has turned automatic promotion off."""
    why = comparison.case.history.frozen
    sentence = (
        f"Automatic promotion is off: {as_sentence_end(why)} `churn unfreeze --reason ...` turns it on again."
        if why
        else "Automatic promotion is on."
    )
    return Rule("not_frozen", "FROZEN", why is None, None, None, sentence)


def say_changes(deltas: dict[str, Estimate]) -> str:
    """The two differences that decide, with their intervals."""
    auc, brier = deltas["roc_auc"], deltas["brier"]
    return f"ROC AUC {auc.value:+.4f} ({auc.lower:+.4f} to {auc.upper:+.4f}), Brier {brier.value:+.5f} ({brier.lower:+.5f} to {brier.upper:+.5f})."


def as_sentence_end(text: str) -> str:
    """A person's words, as a sentence among others."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."


def as_sentence(text: str) -> str:
    """Words that begin in the middle of one, as a sentence."""
    return text[:1].upper() + text[1:]
