"""The rules that turn a comparison into a decision: pure, and every rule says its numbers.

The rules stand in the order in which they decide. A rule that must hold and does not gives a hold and
its code; a group of rules that may promote does so if all of it holds. Every rule that could be
measured is reported, also those after the one that decided.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from scipy import stats

from churn.decision.calibration import Calibration
from churn.decision.comparison import UNSCORABLE, Comparison, Refusal
from churn.decision.inference import Estimate
from churn.decision.policy_file import Policy

UNFORCEABLE = frozenset(
    {"POLICY_INVALID", "INPUT_MISMATCH", "HOLDOUT_CONTAMINATED", "ARTIFACT_CHANGED", "SCORES_INVALID"}
)
"""The codes of integrity: no person's word stands against them."""
DISPUTED = "BATCH_DISPUTED"
TRIED = frozenset({"INFERIOR", "ANCHOR_INFERIOR"})
"""The codes of a night in which "no worse" was tested, and failed."""


class Verdict(StrEnum):
    """What happens to the challenger."""

    PROMOTE = "promote"
    HOLD = "hold"


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
        *_floor("The champion's", comparison.evidence.champion, comparison.base_rate_brier, policy),
        *_calibration("The champion's", comparison.champion_calibration, policy),
    )


def _steps(comparison: Comparison, policy: Policy) -> list[_Step]:
    case = comparison.case
    unscorable = case.refusal is not None and case.refusal.code == UNSCORABLE
    steps = [_Step(_integrity(None if unscorable else case.refusal))]
    if case.refusal and not unscorable:
        return steps
    steps.append(_Step(_enough_and_sane(comparison, policy)))
    if not comparison.evidence.challenger:
        return steps
    floor = _Step(
        [
            *_floor("The challenger's", comparison.evidence.challenger, comparison.base_rate_brier, policy),
            *_calibration("The challenger's", comparison.challenger_calibration, policy),
        ]
    )
    if case.champion is None:
        return [*steps, _Step([_frozen(comparison)]), floor, _Step([], "NO_CHAMPION")]
    if not comparison.evidence.deltas:
        return steps
    return [
        *steps,
        _Step([_scores_differ(comparison)]),
        # Before the groups of customers: those are measured on the very rows that are in dispute.
        _Step([_dispute(comparison, policy)]),
        _Step([_slice_harm(comparison, policy), _frozen(comparison)]),
        _Step(_superiority(comparison, policy), "SUPERIOR"),
        floor,
        _Step(_freshness(comparison, policy)),
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
        f"nor than anchor {comparison.case.anchor}: {_changes(evidence.deltas)}"
    )


def _forced(decision: Decision, comparison: Comparison) -> Decision:
    force = comparison.case.history.force
    if force is None or decision.verdict is Verdict.PROMOTE:
        return decision
    if decision.code in UNFORCEABLE:
        sentence = f"{decision.sentence} {force.by} asked to force it: this cannot be forced."
        return Decision(Verdict.HOLD, decision.code, sentence, decision.rules, decision.watch)
    sentence = f"Forced by {force.by}: {_ended(force.reason)} By itself the policy holds ({decision.code}): {decision.sentence}"
    return Decision(Verdict.PROMOTE, "FORCED", sentence, decision.rules, decision.watch)


def _integrity(refusal: Refusal | None) -> list[Rule]:
    if refusal is None:
        sentence = "Target, key and salt agree, no training saw a row, both models are the registered ones."
        return [Rule("integrity", "INPUT_MISMATCH", True, None, None, sentence)]
    return [Rule("integrity", refusal.code, False, None, None, _sentence(refusal.sentence))]


def _enough_and_sane(comparison: Comparison, policy: Policy) -> list[Rule]:
    case, evidence = comparison.case, comparison.evidence
    enough = policy.enough(case.champion is None)
    fewest = min(evidence.events, evidence.rows - evidence.events)
    rules = []
    if case.refusal:
        rules.append(Rule("champion_scorable", case.refusal.code, False, None, None, _sentence(case.refusal.sentence)))
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


def _floor(whose: str, metrics: dict[str, Estimate], base_rate_brier: float, policy: Policy) -> list[Rule]:
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


def _calibration(whose: str, found: Calibration | None, policy: Policy) -> list[Rule]:
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


def _scores_differ(comparison: Comparison) -> Rule:
    spread = comparison.evidence.deltas["brier"].standard_error
    return Rule(
        "scores_differ",
        "IDENTICAL_SCORES",
        spread > 0,
        spread,
        0.0,
        "The two models give different scores." if spread > 0 else "Both models give every customer the same score.",
    )


def _slice_harm(comparison: Comparison, policy: Policy) -> Rule:
    limits = policy.slices
    tested = [one for one in comparison.slices if one.p is not None and one.delta is not None]
    untested = len(comparison.slices) - len(tested)
    small = f" {untested} are too small to be tested." if untested else ""
    if not tested:
        return Rule(
            "no_slice_harmed", "SLICE_HARM", True, None, -limits.harm, f"No group of customers could be tested.{small}"
        )
    harmed = [one for one in tested if one.delta and (one.p or 0) < limits.level and one.delta.value < -limits.harm]
    worst = min(harmed or tested, key=lambda one: one.delta.value if one.delta else 0)
    value = worst.delta.value if worst.delta else 0.0
    return Rule(
        "no_slice_harmed",
        "SLICE_HARM",
        not harmed,
        value,
        -limits.harm,
        f"Of {len(tested)} groups {worst.column} {worst.name} fares worst: ROC AUC {value:+.4f} on {worst.rows} customers "
        f"(adjusted p = {worst.p:.2g}); harm is below {-limits.harm:+.2f} at p < {limits.level:.2f}.{small}",
    )


def _frozen(comparison: Comparison) -> Rule:
    why = comparison.case.history.frozen
    sentence = (
        f"Automatic promotion is off: {_ended(why)} `churn unfreeze --reason ...` turns it on again."
        if why
        else "Automatic promotion is on."
    )
    return Rule("not_frozen", "FROZEN", why is None, None, None, sentence)


def _dispute(comparison: Comparison, policy: Policy) -> Rule:
    """Better with the new batches, worse without: the world changed, or they are wrong."""
    limits, without, suspects = policy.dispute, comparison.undisputed, comparison.case.suspects

    def rule(passed: bool, value: float | None, sentence: str) -> Rule:
        return Rule("batches_agree", DISPUTED, passed, value, bound, sentence)

    bound = float(stats.norm.isf(limits.level))
    if not suspects:
        return rule(True, None, "No batch is new to the evidence.")
    if without is None or min(without.events, without.rows - without.events) < limits.min_each_class:
        return rule(
            True, None, "Too few unseen customers are left without the new batches to tell whether these agree."
        )
    worse = max(_z(without.deltas["brier"]), -_z(without.deltas["roc_auc"]))
    better = comparison.evidence.deltas["brier"].value < 0
    names = ", ".join(batch[:12] for batch in suspects)
    sentence = (
        f"Without batch {names} ({without.rows} customers) the challenger is {abs(worse):.2f} standard errors "
        f"{'worse' if worse >= 0 else 'better'}"
    )
    if better and worse >= bound:
        return rule(
            False,
            worse,
            f"{sentence}, with it better: the world has changed, or the batch is wrong. A person must say which: "
            f"`churn approve` if it is right, `churn batches withdraw` if it is wrong. {_changes(without.deltas)}",
        )
    return rule(True, worse, f"{sentence}; {bound:.2f} worse, and better with it, would be a contradiction.")


def _superiority(comparison: Comparison, policy: Policy) -> list[Rule]:
    auc, brier = comparison.evidence.deltas["roc_auc"], comparison.evidence.deltas["brier"]
    looks = comparison.case.history.looks_before
    z, needed = -_z(brier), float(stats.norm.isf(policy.superiority.level(looks)))
    spent = f" after {looks} earlier looks this night" if looks else ""
    return [
        Rule(
            "superior_brier",
            "SUPERIOR",
            z >= needed,
            z,
            needed,
            f"The Brier score changes by {brier.value:+.5f} (95 % interval {brier.lower:+.5f} to {brier.upper:+.5f}), "
            f"which is {abs(z):.2f} standard errors {'better' if z >= 0 else 'worse'}; at least {needed:.2f} better is needed{spent}.",
        ),
        Rule(
            "roc_auc_not_worse",
            "SUPERIOR",
            auc.value >= 0,
            auc.value,
            0.0,
            f"ROC AUC changes by {auc.value:+.4f} (95 % interval {auc.lower:+.4f} to {auc.upper:+.4f}); it must not fall.",
        ),
    ]


def _freshness(comparison: Comparison, policy: Policy) -> list[Rule]:
    limits, history, case = policy.freshness, comparison.case.history, comparison.case
    age, tried = history.champion_days, history.days_since_try
    return [
        Rule(
            "champion_old_enough",
            "TOO_FRESH",
            age is not None and age >= limits.champion_days,
            age,
            limits.champion_days,
            f"Champion {case.champion} is {age or 0:.0f} days old; one that is no better may replace it after {limits.champion_days:g} days.",
        ),
        Rule(
            "not_tried_lately",
            "RETRY_WAIT",
            tried is None or tried >= limits.retry_days,
            tried,
            limits.retry_days,
            f"No worse was last tested {tried:.1f} days ago; it may be every {limits.retry_days:g} days."
            if tried is not None
            else "No worse was not tested against this champion yet.",
        ),
        *_no_worse(f"champion {case.champion}", "INFERIOR", comparison.evidence.deltas, policy),
        *_no_worse_than_anchor(comparison, policy),
    ]


def _no_worse_than_anchor(comparison: Comparison, policy: Policy) -> list[Rule]:
    case = comparison.case
    if not comparison.anchor_deltas:
        why = (
            _sentence(case.anchor_refusal.sentence) if case.anchor_refusal else "There is no anchor to hold it against."
        )
        return [Rule("no_worse_than_anchor", "ANCHOR_INFERIOR", False, None, None, why)]
    return _no_worse(f"anchor {case.anchor}", "ANCHOR_INFERIOR", comparison.anchor_deltas, policy)


def _no_worse(than: str, code: str, deltas: dict[str, Estimate], policy: Policy) -> list[Rule]:
    limits = policy.freshness
    reach = float(stats.norm.isf(limits.level))
    auc, brier = deltas["roc_auc"], deltas["brier"]
    lowest, highest = auc.value - reach * auc.standard_error, brier.value + reach * brier.standard_error
    confidence = f"with {1 - limits.level:.0%} confidence"
    prefix = code.lower()
    return [
        Rule(
            f"{prefix}_roc_auc",
            code,
            lowest >= -limits.roc_auc_margin,
            lowest,
            -limits.roc_auc_margin,
            f"Against {than} ROC AUC changes by {auc.value:+.4f}, by at least {lowest:+.4f} {confidence}; no worse means {-limits.roc_auc_margin:+.3f}.",
        ),
        Rule(
            f"{prefix}_brier",
            code,
            highest <= limits.brier_margin,
            highest,
            limits.brier_margin,
            f"Against {than} the Brier score changes by {brier.value:+.5f}, by at most {highest:+.5f} {confidence}; no worse means {limits.brier_margin:+.4f}.",
        ),
    ]


def _z(found: Estimate) -> float:
    """Standard errors above zero; without any error there is none."""
    return found.value / found.standard_error if found.standard_error else 0.0


def _changes(deltas: dict[str, Estimate]) -> str:
    auc, brier = deltas["roc_auc"], deltas["brier"]
    return f"ROC AUC {auc.value:+.4f} ({auc.lower:+.4f} to {auc.upper:+.4f}), Brier {brier.value:+.5f} ({brier.lower:+.5f} to {brier.upper:+.5f})."


def _ended(text: str) -> str:
    """A person's words, as a sentence among others."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
