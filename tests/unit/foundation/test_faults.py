"""A refused value is explained in plain English."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from churn.foundation.faults import describe_fault


def _refuse(value: str) -> str:
    raise ValueError("must be even")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    digest: str = Field("ab", pattern="^[a-f]+$", max_length=3)
    share: float = Field(0.5, gt=0, le=1)
    count: int = 1
    kind: Literal["a", "b"] = "a"
    own: Annotated[str, AfterValidator(_refuse)] = ""


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bogus": 1}, "is unknown"),
        ({"digest": "xyz"}, "does not have the required form"),
        ({"digest": "abcabc"}, "is longer than 3 characters"),
        ({"share": 0}, "must be greater than 0.0"),
        ({"share": 2}, "must be at most 1.0"),
        ({"count": "many"}, "must be a whole number"),
        ({"kind": "c"}, "must be 'a' or 'b'"),
        ({"own": "x"}, "must be even"),
        (None, "must be a mapping of names to values"),
    ],
)
def test_a_fault_is_the_end_of_a_sentence(values: dict[str, object] | None, sentence: str) -> None:
    """No word of the library that found it."""
    with pytest.raises(ValidationError) as error:
        Model.model_validate(values)
    assert describe_fault(error.value.errors()[0]) == sentence  # type: ignore[arg-type]
