"""Earlier lists: other campaigns' customers are left out for a time, and a customer keeps the first treatment of a campaign."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churn.foundation.parts import WrittenPart, store_parts
from churn.foundation.paths import list_rows
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.scoring_policy import ScoringPolicy
from churn.scoring.treatments import UNTREATED, TreatmentsUnknown, find_earlier_lists, read_treatments
from support.score_lists import POLICY
from support.score_lists import published as list_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def published(name: str, campaign: str, days_ago: float, sequence: int = 1) -> ScoreList:
    return list_of(name, campaign, days_ago, sequence, NOW)


def keep(
    storage: Storage, row: ScoreList, members: dict[int, str], folder: Path, began: dict[int, str] | None = None
) -> ScoreList:
    """Store a list with the groups of its members, and the list that the treatment of each began with; without, as earlier software did."""
    file = folder / f"{row.list_id}.parquet"
    columns = {"CustomerId": list(members), "group": list(members.values())}
    if began is not None:
        columns["first_list"] = [began.get(member) for member in members]
    pq.write_table(pa.table(columns), file)
    store_parts(storage, list_rows(row.list_id), [WrittenPart.of(file)])
    return row


def test_other_campaigns_exclude_for_their_time() -> None:
    """Their contact groups for the days of the policy, their control groups for the whole of their own horizon."""
    lists = [published("a", "spring", 29), published("b", "spring", 31), published("c", "spring", 91)]
    earlier = find_earlier_lists(lists, [], POLICY, NOW)
    assert [row.list_id for row in earlier.contacted] == ["a"]
    assert sorted(row.list_id for row in earlier.left_alone) == ["a", "b"]
    assert earlier.excludes == ["a", "b"]
    assert earlier.continues == ()


def test_lists_of_the_same_campaign_exclude_nobody_and_are_continued() -> None:
    """Each within the horizon of its own policy, the oldest first."""
    lists = [published("c", "retention", 1, 3), published("b", "retention", 50, 2), published("a", "retention", 91, 1)]
    earlier = find_earlier_lists(lists, [], POLICY, NOW)
    assert earlier.excludes == []
    assert [row.list_id for row in earlier.continues] == ["b", "c"]
    shorter = POLICY.model_copy(update={"campaign": POLICY.campaign.model_copy(update={"horizon_days": 10})})
    assert find_earlier_lists(lists, [], shorter, NOW).continues == earlier.continues


def test_a_list_without_its_rows_is_one_clear_error(storage: Storage, tmp_path: Path) -> None:
    """It would be wrong to contact customers whom another campaign may have contacted."""
    row = published("a" * 64, "spring", 3)
    earlier = find_earlier_lists([row], [], POLICY, NOW)
    with pytest.raises(
        TreatmentsUnknown, match=r"List aaaaaaaaaaaa of campaign spring .* its rows were deleted.*exclusion\.days"
    ):
        read_treatments(storage, earlier, "CustomerId")
    keep(storage, row, {1: "contact"}, tmp_path)
    with pytest.raises(TreatmentsUnknown, match="it has no column client_id: the key of the contract had another name"):
        read_treatments(storage, earlier, "client_id")
    assert read_treatments(storage, earlier, "CustomerId").excluded.to_pylist() == ["1"]


def test_the_first_treatment_counts(storage: Storage, tmp_path: Path) -> None:
    """Whatever a later list says; customers who were in neither group have none."""
    old = keep(
        storage, published("a", "retention", 50, 1), {1: "contact", 2: "control", 3: "rest", 4: "contact"}, tmp_path
    )
    new = keep(
        storage, published("b", "retention", 1, 2), {1: "control", 2: "contact", 3: "contact", 5: "rest"}, tmp_path
    )
    treatments = read_treatments(storage, find_earlier_lists([new, old], [], POLICY, NOW), "CustomerId")
    excluded, earlier = treatments.of(pa.array([5, 4, 3, 2, 1, 9]))
    assert excluded.tolist() == [False] * 6
    assert earlier.tolist() == [UNTREATED, 1, 2, -1, 1, UNTREATED]
    assert treatments.lists == ("a", "b")


def test_a_list_that_continues_a_treatment_does_not_begin_it_anew(storage: Storage, tmp_path: Path) -> None:
    """A customer is free again when the horizon of the first list has passed, though lists of every day since name it."""
    groups = {1: "contact", 2: "control", 3: "contact", 4: "control"}
    began = {1: "old", 2: "old", 3: "new", 4: "new"}
    old, new = published("old", "retention", 91, 1), published("new", "retention", 1, 2)
    keep(storage, new, groups, tmp_path, began)
    treatments = read_treatments(storage, find_earlier_lists([new, old], [], POLICY, NOW), "CustomerId")
    assert treatments.of(pa.array([1, 2, 3, 4]))[1].tolist() == [UNTREATED, UNTREATED, 1, -1]
    other = POLICY.changed("spring")
    excluded, _ = read_treatments(storage, find_earlier_lists([new, old], [], other, NOW), "CustomerId").of(
        pa.array([1, 2, 3, 4])
    )
    assert excluded.tolist() == [True, False, True, True]  # contacts of the last list, and control customers in force


def test_customers_of_other_campaigns_are_left_out(storage: Storage, tmp_path: Path) -> None:
    """Those who were contacted or kept for comparison, and not the rest."""
    other = keep(storage, published("a", "spring", 1), {1: "contact", 2: "control", 3: "rest"}, tmp_path)
    treatments = read_treatments(storage, find_earlier_lists([other], [], POLICY, NOW), "CustomerId")
    excluded, earlier = treatments.of(pa.array([3, 2, 1]))
    assert excluded.tolist() == [False, True, True]
    assert earlier.tolist() == [UNTREATED] * 3


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()])
def test_without_earlier_lists_nobody_is_treated(storage: Storage, kind: pa.DataType) -> None:
    treatments = read_treatments(storage, find_earlier_lists([], [], POLICY, NOW), "CustomerId")
    excluded, earlier = treatments.of(pa.array([1, 2]).cast(kind))
    assert (excluded.any(), earlier.any()) == (False, False)


def test_a_longer_exclusion_reaches_further_back() -> None:
    longer = replace_days(60)
    assert find_earlier_lists([published("b", "spring", 31)], [], longer, NOW).contacted != ()


def replace_days(days: float) -> ScoringPolicy:
    content = POLICY.model_dump(exclude_none=True)
    return ScoringPolicy.model_validate({**content, "exclusion": {"days": days}})


def test_a_list_counts_from_its_delivery() -> None:
    """Of several, from the first; one whose deliveries all failed does not count, nor one that was superseded before its delivery."""
    lists = [published("b", "retention", 1, 2), published("a", "retention", 95, 1)]

    def delivered(name: str, state: str, days_ago: float, target: str = "database") -> Delivery:
        rows = None if state == "failed" else 1
        return Delivery(name, target, state, 1, rows, "place", "", NOW - timedelta(days=days_ago))

    late = [delivered("a", "delivered", 80), delivered("a", "delivered", 85, "drop"), delivered("b", "failed", 1)]
    assert [row.list_id for row in find_earlier_lists(lists, late, POLICY, NOW).continues] == ["a"]
    early = [delivered("a", "delivered", 80), delivered("a", "delivered", 92, "drop")]
    assert [row.list_id for row in find_earlier_lists(lists, early, POLICY, NOW).continues] == ["b"]
    again = [delivered("a", "due", 80), delivered("b", "failed", 1)]
    assert [row.list_id for row in find_earlier_lists(lists, again, POLICY, NOW).continues] == ["a"]


def test_a_list_that_was_to_be_delivered_and_was_not_does_not_count() -> None:
    """Its customers were never contacted. Other campaigns leave out those of a current one, which waits for its delivery."""
    to_deliver = {"drift": {"drifted": [], "scores": None}, "targets": ["drop"]}
    nowhere = to_deliver | {"targets": []}
    lists = [
        replace(published("c", "retention", 1, 3), summary=to_deliver),
        replace(published("b", "retention", 2, 2), summary=to_deliver),
        replace(published("a", "retention", 3, 1), summary=nowhere),
    ]
    assert [row.list_id for row in find_earlier_lists(lists, [], POLICY, NOW).continues] == ["a"]
    other = find_earlier_lists(lists, [], POLICY.changed("spring"), NOW)
    assert other.excludes == ["a", "c"]
    late = [Delivery("b", "drop", "delivered", 1, 9, "place", "", NOW)]
    assert find_earlier_lists(lists, late, POLICY.changed("spring"), NOW).excludes == ["a", "b", "c"]
