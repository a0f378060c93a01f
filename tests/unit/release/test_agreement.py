"""What the MLflow registry lacks, and where it differs from the ledger, is told from the two alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from churn.foundation.records import Promotion
from churn.release.agreement import champion_difference, describe_difference, describe_missing
from churn.release.mirror import RegistryState, aliases_of

RUNS = {1: "a", 2: "b", 3: "c"}


def change(sequence: int, version: int, anchor: int) -> Promotion:
    return Promotion(
        "churn", sequence, version, None, "promotion", f"night {sequence}", "", datetime.now(UTC), anchor=anchor
    )


ROWS = [change(3, 3, 2), change(2, 2, 2), change(1, 1, 1)]
WHOLE = RegistryState({"champion": 3, "previous": 2, "anchor": 2}, (3,), RUNS)


def without(*versions: int) -> RegistryState:
    """The registry after versions were deleted: their aliases and stages are gone with them."""
    return RegistryState(
        {name: number for name, number in WHOLE.aliases.items() if number not in versions},
        tuple(number for number in WHOLE.in_stage if number not in versions),
        {number: run for number, run in RUNS.items() if number not in versions},
    )


def test_nothing_is_missing_in_a_registry_that_agrees() -> None:
    """Also before anything was promoted."""
    assert (describe_difference(ROWS, WHOLE), describe_missing(ROWS, WHOLE)) == (None, [])
    assert describe_missing([], RegistryState({}, (), None)) == []


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ((1,), []),
        (
            (2,),
            [
                "Version 2, which was in production before, was deleted in MLflow. A rollback returns to version 1.",
                "Baseline version 2 was deleted in MLflow.",
            ],
        ),
        ((3,), ["Version 3, which is in production, was deleted in MLflow."]),
        ((1, 2), ["There is no version to roll back to.", "Baseline version 2"]),
        ((1, 2, 3), ["Next: promote a challenger", "no version to roll back to", "Baseline version 2"]),
    ],
)
def test_each_missing_version_has_a_sentence_and_is_no_difference(versions: tuple[int, ...], words: list[str]) -> None:
    """A deleted version takes its alias with it, so the registry does not contradict the ledger."""
    state = without(*versions)
    sentences = describe_missing(ROWS, state)
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))
    assert champion_difference(ROWS, state) is None


def test_previous_names_the_last_version_that_still_exists() -> None:
    """After version 2 was deleted, the alias `previous` belongs to version 1."""
    assert aliases_of(ROWS, without(2).versions) == {"previous": 1, "anchor": None, "champion": 3}
    assert describe_difference(ROWS, without(2)) is None  # the alias went with the version, and nobody changed it
    moved = RegistryState(without(2).aliases | {"previous": 3}, (3,), {1: "a", 3: "c"})
    assert describe_difference(ROWS, moved) == (
        "The alias previous in the MLflow registry names version 3, but the ledger names version 1."
    )


def test_a_champion_that_somebody_chose_in_mlflow_is_a_difference() -> None:
    """Also while the ledger's champion is missing."""
    state = RegistryState({"champion": 1}, (), {1: "a", 2: "b"})
    assert champion_difference(ROWS, state) == (
        "The champion in the MLflow registry is version 1, but in the ledger it is version 3."
    )
