"""Who was contacted or left alone by earlier lists: these customers are left out, or keep their treatment.

A customer keeps the first treatment of a campaign until its horizon has passed, whatever later lists of the campaign say. Customers
whom another campaign contacted are left out for some days, and its control group for the whole of its horizon.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from churn.errors import ChurnError
from churn.foundation.parts import has_table, part_names
from churn.foundation.paths import list_rows
from churn.foundation.records import Delivery, ScoreList
from churn.foundation.storage import Storage
from churn.scoring.scoring_policy import ScoringPolicy

CONTACT, CONTROL, REST = "contact", "control", "rest"
KEY, GROUP = "key", "group"
"""The columns of a list file that say who is treated how; the key has the name of the contract's key besides."""
UNTREATED, CONTACTED, LEFT_ALONE = 0, 1, 2


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
    - `treated`: those of earlier lists of the campaign, and `contacted`: whether each was to be contacted
    """

    excluded: pa.Array
    treated: pa.Array
    contacted: NDArray[np.bool_]

    @property
    def nobody(self) -> bool:
        """Whether no customer is left out or has a treatment."""
        return not len(self.excluded) and not len(self.treated)

    def of(self, keys: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        """Whether each of some customers is left out, and how each was treated before."""
        texts = keys.cast(pa.string())
        excluded = pc.is_in(texts, value_set=self.excluded).to_numpy(zero_copy_only=False)
        places = pc.index_in(texts, value_set=self.treated)
        earlier = np.full(len(texts), UNTREATED, np.int8)
        found = places.is_valid().to_numpy(zero_copy_only=False)
        at = places.drop_null().to_numpy(zero_copy_only=False)
        earlier[found] = np.where(self.contacted[at], CONTACTED, LEFT_ALONE)
        return np.asarray(excluded, bool), earlier


def find_earlier_lists(
    lists: Sequence[ScoreList], deliveries: Sequence[Delivery], policy: ScoringPolicy, now: datetime
) -> EarlierLists:
    """Choose the lists that matter for a new one.

    A list counts from its delivery, and one whose deliveries all failed does not count. A list that was not to be delivered
    anywhere counts from its publication.

    Args:
        lists: all lists of the model, newest first.
        deliveries: of all lists.
        policy: of the new list.
        now: when it is made.
    """

    def within(row: ScoreList, days: float) -> bool:
        since = _in_use_since(row, deliveries)
        return since is not None and now - since < timedelta(days=days)

    own, name = policy.campaign, policy.campaign.name
    others = [row for row in reversed(lists) if row.campaign != name]
    mine = [row for row in reversed(lists) if row.campaign == name]
    return EarlierLists(
        contacted=tuple(row for row in others if within(row, policy.exclusion.days)),
        left_alone=tuple(row for row in others if within(row, _horizon_of(row))),
        continues=tuple(row for row in mine if within(row, own.horizon_days)),
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
    contacted = ((row, (CONTACT,)) for row in earlier.contacted)
    left_alone = ((row, (CONTROL,)) for row in earlier.left_alone)
    excluded = _first_of_each(storage, key, [*contacted, *left_alone])
    mine = _first_of_each(storage, key, [(row, (CONTACT, CONTROL)) for row in earlier.continues])
    contact = pc.equal(mine[GROUP], CONTACT).to_numpy().astype(bool)
    return Treatments(excluded[KEY].combine_chunks(), mine[KEY].combine_chunks(), contact)


def _first_of_each(storage: Storage, key: str, lists: Sequence[tuple[ScoreList, tuple[str, ...]]]) -> pa.Table:
    """The members of some groups of lists, each customer once: as in the first of the lists. They are read one after the other."""
    found = _NOBODY
    for row, groups in lists:
        members = _members(storage, row, key, groups)
        new = pc.invert(pc.is_in(members[KEY], value_set=found[KEY].combine_chunks()))
        found = pa.concat_tables([found, members.filter(new)]).combine_chunks()
    return found


_NOBODY = pa.table({KEY: pa.array([], pa.string()), GROUP: pa.array([], pa.string())})


def _members(storage: Storage, row: ScoreList, key: str, groups: tuple[str, ...]) -> pa.Table:
    if not has_table(storage, list_rows(row.list_id)):
        raise _unknown(row, "its rows were deleted")
    tables = []
    for name in part_names(storage, list_rows(row.list_id)):
        try:
            part = storage.read_table(name, [key, GROUP])
        except (KeyError, pa.ArrowInvalid) as error:
            raise _unknown(row, f"it has no column {key}: the key of the contract had another name") from error
        chosen = part.filter(pc.is_in(part[GROUP], value_set=pa.array(groups)))
        tables.append(pa.table({KEY: chosen[key].cast(pa.string()), GROUP: chosen[GROUP].cast(pa.string())}))
    return pa.concat_tables([_NOBODY, *tables])


def _unknown(row: ScoreList, why: str) -> TreatmentsUnknown:
    return TreatmentsUnknown(
        f"List {row.list_id[:12]} of campaign {row.campaign} still counts, but {why}, so it does not say whom it contacted. No list was made, and "
        "the current one is kept. Restore the rows from a backup of the data root, or shorten exclusion.days or campaign.horizon_days in the "
        f"scoring policy, so that a list of {row.published_at:%Y-%m-%d} no longer counts."
    )


def _in_use_since(row: ScoreList, deliveries: Sequence[Delivery]) -> datetime | None:
    attempts = [delivery for delivery in deliveries if delivery.list_id == row.list_id]
    if not attempts:
        return row.published_at
    return min((delivery.at for delivery in attempts if delivery.state == "delivered"), default=None)


def _horizon_of(row: ScoreList) -> float:
    return float(json.loads(row.policy)["campaign"]["horizon_days"])
