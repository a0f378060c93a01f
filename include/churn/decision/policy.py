"""The rules that turn a comparison into a decision: pure, and every rule says its numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from churn.decision.comparison import Comparison
from churn.errors import ChurnError


class PolicyInvalid(ChurnError):  # noqa: N818 -- it says what is the matter
    """The policy file cannot be used."""


class Verdict(StrEnum):
    """What happens to the challenger."""

    PROMOTE = "promote"
    HOLD = "hold"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FirstChampion(_Section):
    """What the first version in production must show."""

    min_rows: int = Field(ge=2)
    min_each_class: int = Field(ge=2)
    roc_auc_floor: float = Field(ge=0.5, le=1)
    brier_margin: float = Field(ge=0, lt=1)


class Enough(_Section):
    """How much evidence a comparison needs."""

    min_rows: int = Field(ge=2)
    min_each_class: int = Field(ge=2)


class Superiority(_Section):
    """How sure a promotion must be."""

    error_budget: float = Field(gt=0, lt=1)
    nights: int = Field(ge=1)

    @property
    def level(self) -> float:
        """One-sided level of one night's test."""
        return self.error_budget / self.nights


class Policy(_Section):
    """The whole of promotion_policy.yaml."""

    first_champion: FirstChampion
    comparison: Enough
    superiority: Superiority


@dataclass(frozen=True)
class Rule:
    """One rule's result. `bound` is what `value` was held against; both None where there was nothing to measure."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
    sentence: str


@dataclass(frozen=True)
class Decision:
    """Promote or hold: the code of the rule that decided, a sentence, and every rule that was looked at."""

    verdict: Verdict
    code: str
    sentence: str
    rules: tuple[Rule, ...]

    def rules_as_dicts(self) -> list[dict[str, Any]]:
        """The rules as plain JSON."""
        return [asdict(rule) for rule in self.rules]


def read_policy(text: str, name: str) -> Policy:
    """Parse a policy.

    Args:
        text: YAML.
        name: what to call it in errors.

    Raises:
        PolicyInvalid: names every key that is unknown, missing or out of its range.
    """
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise PolicyInvalid(
            f"{name} is not YAML: {str(error).splitlines()[0]}. Nothing is promoted until it is."
        ) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors())
        raise PolicyInvalid(f"{name}: {faults}. Nothing is promoted until it is mended.") from None


def load_policy_text(path: Path) -> str:
    """The policy file's text, which is stored with every decision.

    Raises:
        PolicyInvalid: there is no such file.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyInvalid(f"The policy file {path} cannot be read ({why}). Set CHURN_POLICY_FILE.") from error


def decide(comparison: Comparison, policy: Policy) -> Decision:
    """Turn evidence into a decision; the first rule that decides gives the code."""
    if comparison.refusal:
        return _hold([Rule("evidence", False, None, None, comparison.refusal.sentence)], comparison.refusal.code)
    if comparison.champion is None:
        return _decide_first(comparison, policy.first_champion)
    return _decide_between(comparison, policy)


def _decide_first(comparison: Comparison, floor: FirstChampion) -> Decision:
    enough = _enough(comparison, floor.min_rows, floor.min_each_class)
    if not all(rule.passed for rule in enough):
        return _hold(enough, "HOLDOUT_TOO_SMALL")
    auc, brier = comparison.challenger_metrics["roc_auc"], comparison.challenger_metrics["brier"]
    gain = comparison.base_rate_brier - brier.value
    rules = [
        *enough,
        Rule(
            "roc_auc_floor",
            auc.lower >= floor.roc_auc_floor,
            auc.lower,
            floor.roc_auc_floor,
            f"ROC AUC is {auc.value:.4f}, at least {auc.lower:.4f} with 97.5 % confidence; the floor is {floor.roc_auc_floor:.2f}.",
        ),
        Rule(
            "better_than_base_rate",
            gain >= floor.brier_margin,
            gain,
            floor.brier_margin,
            f"The Brier score {brier.value:.4f} is {gain:.4f} better than always predicting the base rate; the margin is {floor.brier_margin:.4f}.",
        ),
    ]
    if not all(rule.passed for rule in rules):
        return _hold(rules, "BELOW_FLOOR")
    sentence = f"There is no champion yet, and version {comparison.challenger} clears the floors: {rules[-2].sentence}"
    return Decision(Verdict.PROMOTE, "NO_CHAMPION", sentence, tuple(rules))


def _decide_between(comparison: Comparison, policy: Policy) -> Decision:
    rules = _enough(comparison, policy.comparison.min_rows, policy.comparison.min_each_class)
    if not all(rule.passed for rule in rules):
        return _hold(rules, "HOLDOUT_TOO_SMALL")
    auc, brier = comparison.deltas["roc_auc"], comparison.deltas["brier"]
    identical = brier.standard_error == 0
    rules.append(
        Rule(
            "scores_differ",
            not identical,
            brier.standard_error,
            0.0,
            "Both models give every customer the same score." if identical else "The two models give different scores.",
        )
    )
    if identical:
        return _hold(rules, "IDENTICAL_SCORES")
    z, needed = -brier.value / brier.standard_error, float(stats.norm.isf(policy.superiority.level))
    rules += [
        Rule(
            "superior_brier",
            z >= needed,
            z,
            needed,
            f"The Brier score changes by {brier.value:+.5f} (95 % interval {brier.lower:+.5f} to {brier.upper:+.5f}), "
            f"which is {abs(z):.2f} standard errors {'better' if z >= 0 else 'worse'}; at least {needed:.2f} better is needed.",
        ),
        Rule(
            "roc_auc_not_worse",
            auc.value >= 0,
            auc.value,
            0.0,
            f"ROC AUC changes by {auc.value:+.4f} (95 % interval {auc.lower:+.4f} to {auc.upper:+.4f}); it must not fall.",
        ),
    ]
    if not all(rule.passed for rule in rules):
        return _hold(rules, "NOT_SUPERIOR")
    sentence = f"Version {comparison.challenger} beats champion {comparison.champion}: {rules[-2].sentence} {rules[-1].sentence}"
    return Decision(Verdict.PROMOTE, "SUPERIOR", sentence, tuple(rules))


def _enough(comparison: Comparison, rows: int, each_class: int) -> list[Rule]:
    fewest = min(comparison.events, comparison.rows - comparison.events)
    return [
        Rule(
            "holdout_rows",
            comparison.rows >= rows,
            comparison.rows,
            rows,
            f"The holdout has {comparison.rows} customers; {rows} are needed.",
        ),
        Rule(
            "holdout_classes",
            fewest >= each_class,
            fewest,
            each_class,
            f"The rarer class has {fewest} customers in the holdout; {each_class} are needed.",
        ),
    ]


def _hold(rules: list[Rule], code: str) -> Decision:
    sentence = " ".join(rule.sentence for rule in rules if not rule.passed)
    return Decision(Verdict.HOLD, code, sentence[:1].upper() + sentence[1:], tuple(rules))
