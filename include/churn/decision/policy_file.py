"""promotion_policy.yaml: read strictly, so that a typing error is never a rule that is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, ValidationError

from churn.errors import ChurnError


class PolicyInvalid(ChurnError):  # noqa: N818 -- it says what is the matter
    """The policy file cannot be used."""


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < 1 < bounds[1]:
        raise ValueError("must be a bound below 1 and a bound above 1")
    return bounds


Share = Annotated[float, Field(gt=0, lt=1)]
Auc = Annotated[float, Field(ge=0.5, le=1)]
Count = Annotated[int, Field(ge=2, le=10**12)]
Days = Annotated[float, Field(ge=0, le=36_500)]
AroundOne = Annotated[tuple[float, float], Strict(False), AfterValidator(_ordered)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Enough(_Section):
    """How many customers a comparison needs."""

    min_rows: Count
    min_each_class: Count


class Window(Enough):
    """Which unseen customers count."""

    window_days: Annotated[float, Field(gt=0, le=36_500)]


class Floor(_Section):
    """What any version in production must show."""

    roc_auc: Auc
    brier_margin: Annotated[float, Field(ge=0, lt=1)]


class CalibrationBounds(_Section):
    """How wrong probabilities may be."""

    level: Share
    slope: AroundOne
    observed_expected: AroundOne


class Sanity(_Section):
    """What is too uniform or too good to be true."""

    max_same_score: Share
    max_feature_auc: Auc
    max_model_auc: Auc


class SliceHarm(_Section):
    """How much worse a group of customers may be served."""

    min_each_class: Count
    level: Share
    harm: Annotated[float, Field(ge=0, lt=1)]


class Dispute(_Section):
    """When new batches contradict the rest."""

    min_each_class: Count
    level: Share


class Superiority(_Section):
    """How sure a promotion must be."""

    error_budget: Share
    nights: Annotated[int, Field(ge=1, le=36_500)]
    first_look: Share

    def level(self, looks_before: int) -> float:
        """One-sided level of a look; however many there are, those of one calendar night spend no more than budget / nights.

        Args:
            looks_before: earlier looks of the same calendar night and champion.
        """
        rest: float = (1 - self.first_look) ** looks_before
        return self.error_budget / self.nights * self.first_look * rest


class Freshness(_Section):
    """When no worse is enough."""

    champion_days: Days
    retry_days: Days
    level: Share
    roc_auc_margin: Annotated[float, Field(gt=0, lt=1)]
    brier_margin: Annotated[float, Field(gt=0, lt=1)]


class Policy(_Section):
    """The whole of promotion_policy.yaml."""

    evidence: Window
    first_champion: Enough
    floor: Floor
    calibration: CalibrationBounds
    sanity: Sanity
    slices: SliceHarm
    dispute: Dispute
    superiority: Superiority
    freshness: Freshness

    @classmethod
    def read(cls, text: str, name: str) -> Self:
        """Parse a policy.

        Args:
            text: YAML.
            name: what to call it in errors.

        Raises:
            PolicyInvalid: names every key that is unknown, missing or out of its range.
        """
        try:
            said = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 -- a safe loader, stricter
        except (yaml.YAMLError, ValueError, TypeError, IndexError, RecursionError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise PolicyInvalid(f"{name} is not YAML: {first}. Nothing is promoted until it is.") from error
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors()
            )
            raise PolicyInvalid(f"{name}: {faults}. Nothing is promoted until it is mended.") from None

    def enough(self, first: bool) -> Enough:
        """How many customers the comparison needs, or the first champion."""
        return self.first_champion if first else self.evidence


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


class _StrictLoader(yaml.SafeLoader):
    """Of two values for one key, YAML's usual readers take the last in silence; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """A mapping whose keys stand once."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} stands twice")
        return super().construct_mapping(node, deep)
