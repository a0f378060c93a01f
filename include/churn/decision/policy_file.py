"""promotion_policy.yaml, read strictly: a misspelt key is an error and never a rule that is silently missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from churn.contracts.yaml_errors import YAML_ERRORS, describe_yaml_error
from churn.errors import ChurnError, shown
from churn.foundation.faults import describe_fault


class PolicyInvalid(ChurnError):  # noqa: N818 -- names the state
    """The policy file cannot be used."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < 1 < bounds[1]:
        raise ValueError("must be a lower bound below 1 and an upper bound above 1")
    return bounds


P = TypeVar("P", bound=BaseModel)
_MOST_FAULTS = 20
"""More faults of a file than this are counted instead of listed."""
Share = Annotated[float, Field(gt=0, lt=1)]
Auc = Annotated[float, Field(ge=0.5, le=1)]
Count = Annotated[int, Field(ge=2, le=10**12)]
Days = Annotated[float, Field(ge=0, le=36_500)]
AroundOne = Annotated[tuple[float, float], Strict(False), AfterValidator(_ordered)]


class Section(BaseModel):
    """A section of a policy file, read strictly; the docstrings of its keys are their comments in the file."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Enough(Section):
    """How many unseen customers the first champion needs."""

    min_rows: Count
    """Minimum number of customers."""
    min_each_class: Count
    """Minimum number of customers with the event, and of customers without."""


class Window(Section):
    """Which unseen customers count as evidence."""

    window_days: Annotated[float, Field(gt=0, le=36_500)]
    """Length of the window in days, back from the newest customer. It is widened if it holds too few."""
    min_rows: Count
    """Minimum number of customers."""
    min_each_class: Count
    """Minimum number of customers with the event, and of customers without."""


class Floor(Section):
    """Minimum quality of the first champion, and of a version that is promoted as non-inferior. A superior version replaces a worse champion even below it, with an alert."""

    roc_auc: Auc
    """Lower bound of the 95% interval of ROC AUC."""
    brier_margin: Annotated[float, Field(ge=0, lt=1)]
    """How much better the Brier score must be than that of always predicting the base rate."""


class CalibrationBounds(Section):
    """How wrong probabilities may be. A version is held when the interval lies entirely outside the range."""

    level: Share
    """Level of the intervals."""
    slope: AroundOne
    """Range of the calibration slope."""
    observed_expected: AroundOne
    """Range of observed divided by expected churn."""


class Sanity(Section):
    """When scores are degenerate, or too good to be true."""

    max_same_score: Share
    """Largest share of customers that may have the same score."""
    max_feature_auc: Auc
    """Largest ROC AUC of any single feature; more is treated as a leak."""
    max_model_auc: Auc
    """Largest ROC AUC of the model; more is treated as a leak until `churn policy confirm` says that it is plausible."""
    max_jump: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Largest certain gain of ROC AUC (lower bound of its 95% interval) over a champion that is itself above max_model_auc."""


class SliceHarm(Section):
    """How much worse a slice of the customers may be served."""

    min_each_class: Count
    """Number of customers of each class that a slice needs to be tested. Smaller slices are listed as untestable."""
    level: Share
    """Level of the p-values, adjusted by Holm's method."""
    harm: Annotated[float, Field(ge=0, lt=1)]
    """Loss of ROC AUC (point estimate) above which a slice counts as harmed, if the loss is significant."""


class Dispute(Section):
    """When new batches contradict the earlier ones: better with them in the evidence, worse without."""

    min_each_class: Count
    """Number of customers of each class that are needed without the new batches."""
    level: Share
    """One-sided level. At 0.05, a harmless new customer group was disputed in 3 of 50 simulated holdouts."""


class Superiority(Section):
    """How sure a promotion must be: a one-sided test of the paired difference of the Brier score."""

    error_budget: Share
    """Chance of promoting a version that is no better, over the number of nights below."""
    nights: Annotated[int, Field(ge=1, le=36_500)]
    """Number of nights that share the error budget. Each calendar night may spend an equal part of it."""
    first_look: Share
    """Share of a night's part that the first test spends. Each further test spends the same share of what is left."""

    def level(self, looks_before: int) -> float:
        """One-sided level of a test. All tests of one calendar night together spend at most error_budget / nights.

        Args:
            looks_before: number of earlier tests on the same calendar night against the same champion.
        """
        unspent: float = (1 - self.first_look) ** looks_before
        return self.error_budget / self.nights * self.first_look * unspent


class Freshness(Section):
    """When non-inferiority is enough, because the champion is old."""

    champion_days: Days
    """Days that the champion must have been in production."""
    retry_days: Days
    """Days between two tests of non-inferiority."""
    level: Share
    """One-sided level of the tests."""
    roc_auc_margin: Annotated[float, Field(gt=0, lt=1)]
    """Loss of ROC AUC that still counts as non-inferior, against the champion and against the baseline version."""
    brier_margin: Annotated[float, Field(gt=0, lt=1)]
    """Increase of the Brier score that still counts as non-inferior."""


class Training(Section):
    """What a challenger is trained on."""

    contacted: Literal["train", "leave_out"] = "train"
    """Rows of customers whom a list had contacted before it was known whether they would leave: train, or leave_out."""


class Policy(Section):
    """The whole of promotion_policy.yaml.

    A section or key that is added from now on needs a default, so that the policies of earlier decisions stay readable; a test
    names those that have none.
    """

    evidence: Window
    first_champion: Enough
    floor: Floor
    calibration: CalibrationBounds
    sanity: Sanity
    slices: SliceHarm
    dispute: Dispute
    superiority: Superiority
    freshness: Freshness
    training: Training = Training()

    @classmethod
    def read(cls, text: str, name: str) -> Self:
        """Parse a policy.

        Args:
            text: YAML.
            name: the name of the file in errors.

        Raises:
            PolicyInvalid: names every key that is unknown, missing or out of range.
        """
        return read_strictly(cls, text, name, "Nothing is promoted until it is fixed.")

    def enough(self, first: bool) -> Enough | Window:
        """How many customers are needed: by the first champion, or by a comparison."""
        return self.first_champion if first else self.evidence


def load_policy_text(path: Path, setting: str = "CHURN_POLICY_FILE") -> str:
    """Read the text of a policy file, which is stored with whatever it decides. `setting` names the one that says where it is.

    Raises:
        PolicyInvalid: the file cannot be read.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyInvalid(f"The policy file {path} cannot be read ({why}). Set {setting}.") from error


def read_strictly(kind: type[P], text: str, name: str, consequence: str) -> P:
    """Parse a policy in which nothing is unknown, missing, repeated or out of range.

    Args:
        kind: the whole of the file.
        text: YAML.
        name: the name of the file in errors.
        consequence: what does not happen until the file is fixed, as a sentence.

    Raises:
        PolicyInvalid: names every key that is wrong.
    """
    try:
        content = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 -- a safe loader, stricter
    except YAML_ERRORS as error:
        raise PolicyInvalid(f"{name} is not valid YAML: {describe_yaml_error(error)}. {consequence}") from error
    return validate_strictly(kind, content, name, consequence)


def validate_strictly(kind: type[P], content: object, name: str, consequence: str) -> P:
    """Check the content of a policy; see `read_strictly`.

    Raises:
        PolicyInvalid: names every key that is wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = [
            f"{shown('.'.join(map(str, fault['loc']))) or 'the file'} {describe_fault(fault)}"
            for fault in error.errors()
        ]
        more = [f"and {len(faults) - _MOST_FAULTS} more faults"] if len(faults) > _MOST_FAULTS else []
        raise PolicyInvalid(f"{name}: {'; '.join([*faults[:_MOST_FAULTS], *more])}. {consequence}") from None


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that appears twice, of which YAML's usual readers silently keep the last value, and says where a value is not valid."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Read a value. PyYAML raises any kind of error for a value that is not of the type that its tag says."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, "this value is not of the type that its tag or form says", node.start_mark
            ) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """Read a mapping whose keys are unique."""
        keys = (
            [self.construct_object(key, deep=True) for key, _ in node.value]
            if isinstance(node, yaml.MappingNode)
            else []
        )
        repeated = {str(key) for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(map(shown, sorted(repeated)))} appears twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
