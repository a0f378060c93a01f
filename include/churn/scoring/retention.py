"""Which lists and populations are no longer needed: their rows and files are deleted, and the ledger keeps its rows."""

from __future__ import annotations

import json
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
from churn.foundation.records import Population, ScoreList
from churn.foundation.storage import Storage


def expendable_places(
    storage: Storage,
    lists: Sequence[ScoreList],
    populations: Sequence[Population],
    keep_lists: int,
    keep_populations: int,
    now: datetime,
) -> list[str]:
    """The places in the data root that may be deleted.

    Kept are the newest lists of each campaign, and every list whose customers still keep their treatment or are left out by other
    campaigns; the newest populations, those that wait for scoring, and those of kept lists.

    Args:
        storage: the data root.
        lists: all lists of the model, newest first.
        populations: all populations, in the order of arrival.
        keep_lists: the number of newest lists of each campaign that are kept.
        keep_populations: the number of newest populations that are kept.
        now: the time.
    """
    kept = [row for row in lists if _rank_in_campaign(row, lists) < keep_lists or now < _in_force_until(row)]
    needed = {row.population for row in kept} | {row.population for row in populations[-keep_populations:]}
    old = [row for row in populations if row.population not in needed and row.state != "arrived"]
    places = {list_rows(row.list_id) for row in lists if row not in kept}
    for row in old:
        original = population_original(row.population)
        places |= {original, division_note(original), population_quarantined(row.population)}
    files = [*storage.names(SCORES), *storage.names(POPULATIONS)]
    there = {name.rpartition("/")[0] for name in files} | set(files)
    return sorted(place for place in places if place in there)


def _rank_in_campaign(row: ScoreList, lists: Sequence[ScoreList]) -> int:
    return [other.list_id for other in lists if other.campaign == row.campaign].index(row.list_id)


def _in_force_until(row: ScoreList) -> datetime:
    policy = json.loads(row.policy)
    return row.published_at + timedelta(days=max(policy["campaign"]["horizon_days"], policy["exclusion"]["days"]))
