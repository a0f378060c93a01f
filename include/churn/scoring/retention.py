"""Which lists and populations are no longer needed: their rows and files are deleted, and the ledger keeps its rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from churn.foundation.paths import (
    POPULATIONS,
    SCORES,
    division_note,
    list_rows,
    population_original,
    population_quarantined,
)
from churn.foundation.records import Delivery, Population, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.treatments import horizon_of, in_use_since


def expendable_lists(
    lists: Sequence[ScoreList], deliveries: Sequence[Delivery], keep: int, exclusion_days: float, now: datetime
) -> list[ScoreList]:
    """The lists whose rows may be deleted, newest first.

    Kept are the newest lists of each campaign, and every list whose customers still keep their treatment or are left out by other
    campaigns.

    Args:
        lists: all lists of the model, newest first.
        deliveries: of all lists; a list is in force from its first delivery.
        keep: the number of newest lists of each campaign that are kept.
        exclusion_days: for how long today's scoring policy leaves out customers of other campaigns.
        now: the time.
    """
    expendable: list[ScoreList] = []
    newer: Counter[str] = Counter()
    for row in lists:
        if newer[row.campaign] >= keep and _in_force_until(row, deliveries, exclusion_days) <= now:
            expendable.append(row)
        newer[row.campaign] += 1
    return expendable


def expendable_places(
    storage: Storage,
    lists: Sequence[ScoreList],
    expendable: Sequence[ScoreList],
    populations: Sequence[Population],
    keep_populations: int,
) -> list[str]:
    """The places in the data root that may be deleted: of lists, and of populations.

    Kept are the newest populations, those that wait for scoring, and those of kept lists.

    Args:
        storage: the data root.
        lists: all lists of the model.
        expendable: those whose rows may be deleted.
        populations: all populations, in the order of arrival.
        keep_populations: the number of newest populations that are kept.
    """
    gone = {row.list_id for row in expendable}
    kept = [row for row in lists if row.list_id not in gone]
    needed = {row.population for row in kept} | {row.population for row in populations[-keep_populations:]}
    old = [row for row in populations if row.population not in needed and row.state != "arrived"]
    places = {list_rows(name) for name in gone}
    for row in old:
        original = population_original(row.population)
        places |= {original, division_note(original), population_quarantined(row.population)}
    files = [*storage.names(SCORES), *storage.names(POPULATIONS)]
    there = {name.rpartition("/")[0] for name in files} | set(files)
    return sorted(place for place in places if place in there)


def _in_force_until(row: ScoreList, deliveries: Sequence[Delivery], exclusion_days: float) -> datetime:
    since = in_use_since(row, deliveries) or row.published_at
    return since + timedelta(days=max(horizon_of(row), json.loads(row.policy)["exclusion"]["days"], exclusion_days))
