"""Who was contacted or left alone by earlier lists: these customers are left out, or keep their treatment.

A customer keeps the first treatment of a campaign until its horizon has passed, whatever later lists of the campaign say. Each list
says in which list the treatment of a customer began, so that a list that only continues it does not begin it anew. Customers whom
another campaign contacted are left out for some days, and its control group until the horizon has passed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from churn.errors import ChurnError
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import list_rows
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.scoring_policy import ScoringPolicy

CONTACT, CONTROL, REST = "contact", "control", "rest"
KEY, GROUP, FIRST = "key", "group", "first_list"
"""The columns of a list file that say who is treated how, and since which list; the key has the name of the contract's key besides."""
UNTREATED = 0


class TreatmentsUnknown(ChurnError):  # noqa: N818 -- names the state
    """A list that counts has lost the rows that say who was contacted."""


@dataclass(frozen=True)
class EarlierLists:
    """The lists that matter for a new one: of other campaigns, with the groups that they exclude, and of the same one, oldest first."""

    contacted: tuple[ScoreList, ...]
    left_alone: tuple[ScoreList, ...]
    continues: tuple[ScoreList, ...]

    @property
    def excludes(self) -> list[str]:
        """The lists of other campaigns, by id."""
        return sorted({row.list_id for row in (*self.contacted, *self.left_alone)})


@dataclass(frozen=True)
class Treatments:
    """Customers with a treatment, by the text of their key.

    - `excluded`: those who are left out
    - `treated`: those of earlier lists of the campaign, and the code of each: the number, from 1 on, of the list in `lists` that the
      treatment began with, negative if the customer is left alone
    """

    excluded: pa.Array
    treated: pa.Array
    codes: NDArray[np.int32]
    lists: tuple[str, ...]

    @property
    def nobody(self) -> bool:
        """Whether no customer is left out or has a treatment."""
        return not len(self.excluded) and not len(self.treated)

    def of(self, keys: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Whether each of some customers is left out, and the code of how each was treated before; `UNTREATED` if it was not."""
        texts = keys.cast(pa.string())
        excluded = pc.is_in(texts, value_set=self.excluded).to_numpy(zero_copy_only=False)
        places = pc.index_in(texts, value_set=self.treated)
        earlier = np.full(len(texts), UNTREATED, np.int32)
        found = places.is_valid().to_numpy(zero_copy_only=False)
        earlier[found] = self.codes[places.drop_null().to_numpy(zero_copy_only=False)]
        return np.asarray(excluded, bool), earlier


def find_earlier_lists(
    lists: Sequence[ScoreList], deliveries: Sequence[Delivery], policy: ScoringPolicy, now: datetime
) -> EarlierLists:
    """Choose the lists that matter for a new one.

    A list counts from its first delivery, for the horizon of its own policy. One that was to be delivered and was not does not count,
    except that other campaigns leave out the customers of a current list that waits for its delivery. A list that was not to be
    delivered anywhere counts from its publication.

    Args:
        lists: all lists of the model, newest first.
        deliveries: of all lists.
        policy: of the new list.
        now: when it is made.
    """
    used = {row.list_id: in_use_since(row, deliveries) for row in lists}

    def within(row: ScoreList, days: float, waiting: datetime | None = None) -> bool:
        since = used[row.list_id] or waiting
        return since is not None and now - since < timedelta(days=days)

    name = policy.campaign.name
    others = [row for row in reversed(lists) if row.campaign != name]
    mine = [row for row in reversed(lists) if row.campaign == name]
    newest = {row.campaign: row.list_id for row in others}
    waiting = {row.list_id: row.published_at for row in others if newest[row.campaign] == row.list_id}
    return EarlierLists(
        contacted=tuple(row for row in others if within(row, policy.exclusion.days, waiting.get(row.list_id))),
        left_alone=tuple(row for row in others if within(row, horizon_of(row), waiting.get(row.list_id))),
        continues=tuple(row for row in mine if within(row, horizon_of(row))),
    )


def read_treatments(storage: Storage, earlier: EarlierLists, key: str) -> Treatments:
    """Read who is left out and who keeps a treatment.

    Args:
        storage: the data root.
        earlier: the lists that matter.
        key: the name of the column with the key.

    Raises:
        TreatmentsUnknown: the rows of a list that counts were deleted, or have another key.
    """
    contacted = _first_of_each(storage, key, earlier.contacted, (CONTACT,))
    left_alone = _first_of_each(storage, key, earlier.left_alone, (CONTROL,), _ids_of(earlier.left_alone))
    mine = _first_of_each(storage, key, earlier.continues, (CONTACT, CONTROL), _ids_of(earlier.continues))
    lists = tuple(row.list_id for row in earlier.continues)
    numbers = pc.index_in(mine[FIRST], value_set=pa.array(lists, pa.string())).to_numpy().astype(np.int32) + 1
    codes = np.where(pc.equal(mine[GROUP], CONTACT).to_numpy(), numbers, -numbers)
    excluded = pa.concat_arrays([contacted[KEY].combine_chunks(), left_alone[KEY].combine_chunks()])
    return Treatments(excluded, mine[KEY].combine_chunks(), codes, lists)


def _ids_of(lists: Sequence[ScoreList]) -> pa.Array:
    """The ids of some lists."""
    return pa.array([row.list_id for row in lists], pa.string())


def _first_of_each(
    storage: Storage, key: str, lists: Sequence[ScoreList], groups: tuple[str, ...], began_with: pa.Array | None = None
) -> pa.Table:
    """The members of some groups of lists, each customer once: as in the first of the lists. They are read one after the other.

    Args:
        storage: the data root.
        key: the name of the column with the key.
        lists: the lists, oldest first.
        groups: the groups.
        began_with: only customers whose treatment began with one of these lists; None for all.
    """
    found = _NOBODY
    for row in lists:
        members = read_members(storage, row, key, groups)
        if began_with is not None:
            members = members.filter(pc.is_in(members[FIRST], value_set=began_with))
        new = pc.invert(pc.is_in(members[KEY], value_set=found[KEY].combine_chunks()))
        found = pa.concat_tables([found, members.filter(new)]).combine_chunks()
    return found


_NOBODY = pa.table({name: pa.array([], pa.string()) for name in (KEY, GROUP, FIRST)})


def read_members(storage: Storage, row: ScoreList, key: str, groups: tuple[str, ...]) -> pa.Table:
    """The members of some groups of a list: the text of their key, their group, and the list that their treatment began with.

    Raises:
        TreatmentsUnknown: its rows were deleted, or have another key.
    """
    if not has_table(storage, list_rows(row.list_id)):
        raise _unknown(row, "its rows were deleted")
    tables = []
    for name in part_names(storage, list_rows(row.list_id)):
        with storage.reading(name) as stream:
            file = pq.ParquetFile(stream)
            if key not in file.schema_arrow.names:
                raise _unknown(row, f"it has no column {key}: the key of the contract had another name")
            part = file.read(columns=[key, GROUP, FIRST])  # a list of an earlier version has no FIRST
        chosen = part.filter(pc.is_in(part[GROUP], value_set=pa.array(groups)))
        itself = pa.repeat(pa.scalar(row.list_id), chosen.num_rows)
        first = pc.coalesce(chosen[FIRST], itself) if FIRST in chosen.column_names else itself
        texts = {KEY: chosen[key].cast(pa.string()), GROUP: chosen[GROUP].cast(pa.string()), FIRST: first}
        tables.append(pa.table(texts))
    return pa.concat_tables([_NOBODY, *tables])


def _unknown(row: ScoreList, why: str) -> TreatmentsUnknown:
    return TreatmentsUnknown(
        f"List {row.list_id[:12]} of campaign {row.campaign} still counts, but {why}, so it does not say whom it contacted. No list was made, and "
        "the current one is kept. Restore the rows from a backup of the data root, or shorten exclusion.days or campaign.horizon_days in the "
        f"scoring policy, so that a list of {row.published_at:%Y-%m-%d} no longer counts."
    )


def in_use_since(row: ScoreList, deliveries: Sequence[Delivery]) -> datetime | None:
    """When a list was first delivered, or published if it was not to be delivered; None if it was to be, and was not.

    Args:
        row: the list.
        deliveries: of this list and perhaps of others.
    """
    attempts = [delivery for delivery in deliveries if delivery.list_id == row.list_id]
    # Lists of earlier versions of this software do not say where they were to be delivered.
    targets = row.summary.get("targets", [attempt.target for attempt in attempts])
    if not targets:
        return datetime.fromisoformat(row.summary.get("first_published", row.published_at.isoformat()))
    return min((attempt.at for attempt in attempts if attempt.rows is not None), default=None)


def horizon_of(row: ScoreList) -> float:
    """The days that a treatment of a list lasts, by the policy that the list was made with."""
    return float(json.loads(row.policy)["campaign"]["horizon_days"])
