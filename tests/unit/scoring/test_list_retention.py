"""Old lists and populations are deleted; what still decides about a customer is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from churn.foundation.parts import WrittenPart, remove_table, store_parts
from churn.foundation.paths import list_rows, population_original, population_quarantined
from churn.foundation.records import Delivery, Population, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.retention import expendable_lists, expendable_places
from support.score_lists import published

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def stored(storage: Storage, row: ScoreList, folder: Path) -> ScoreList:
    file = folder / f"{row.list_id}.parquet"
    pq.write_table(pa.table({"a": [1]}), file)
    store_parts(storage, list_rows(row.list_id), [WrittenPart.of(file)])
    return row


def arrived(storage: Storage, name: str, arrival: int, folder: Path, state: str = "judged") -> Population:
    with storage.writing(population_original(name)) as stream:
        stream.write(b"x")
    file = folder / f"aside-{name}.parquet"
    pq.write_table(pa.table({"a": [1]}), file)
    store_parts(storage, population_quarantined(name), [WrittenPart.of(file)])
    return Population(name, arrival, f"{name}.csv", 1, NOW, state, "run", 2, 1, 1)


def test_lists_beyond_the_number_go_once_their_time_has_passed(storage: Storage, tmp_path: Path) -> None:
    """Of each campaign by itself; a list within its horizon is kept, however many are newer."""
    days = {"a": ("spring", 200), "b": ("spring", 150), "c": ("autumn", 300), "d": ("spring", 20), "e": ("spring", 10)}
    lists = [
        stored(storage, published(name, campaign, ago, sequence, NOW), tmp_path)
        for sequence, (name, (campaign, ago)) in enumerate(days.items(), start=1)
    ]
    expendable = expendable_lists(lists[::-1], [], 1, 30, NOW)
    places = expendable_places(storage, lists, expendable, [], 1)
    assert places == ["scores/a", "scores/b"]
    for place in places:
        remove_table(storage, place)
    assert expendable_places(storage, lists, expendable, [], 1) == []


def test_a_list_is_in_force_from_its_delivery_and_as_long_as_the_policy_of_today_asks(storage: Storage) -> None:
    """What the next list has to read is never deleted: a late delivery and a longer exclusion keep it."""
    lists = [published(name, "spring", days, at, NOW) for at, (name, days) in enumerate([("b", 1), ("a", 95)])]
    assert [row.list_id for row in expendable_lists(lists, [], 1, 30, NOW)] == ["a"]
    assert expendable_lists(lists, [], 1, 100, NOW) == []
    late = Delivery("a", "drop", "delivered", 1, 1, "place", "", NOW - timedelta(days=80))
    assert expendable_lists(lists, [late], 1, 30, NOW) == []


def test_populations_of_kept_lists_and_those_that_wait_are_kept(storage: Storage, tmp_path: Path) -> None:
    """Of the others the newest; original and quarantined rows are deleted together."""
    populations = [
        arrived(storage, "p1", 1, tmp_path),
        arrived(storage, "p2", 2, tmp_path),
        arrived(storage, "p3", 3, tmp_path, "arrived"),
        arrived(storage, "p4", 4, tmp_path),
        arrived(storage, "p5", 5, tmp_path),
    ]
    kept = stored(storage, replace(published("a", "spring", 1, 1, NOW), population="p2"), tmp_path)
    places = expendable_places(storage, [kept], [], populations, 1)
    assert places == [
        "populations/originals/p1",
        "populations/originals/p4",
        "populations/quarantine/p1",
        "populations/quarantine/p4",
    ]
    for place in places:
        remove_table(storage, place)
    left = {name for name in storage.names("populations") if "/p1" in name or "/p4" in name}
    assert left == set()
    assert storage.exists(population_original("p2"))
