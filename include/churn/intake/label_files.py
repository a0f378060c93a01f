"""Labels that come after the rows: files of labels, and files of leavers.

Under a contract with a horizon, a row is accepted before it is known whether the event happens within the horizon. What happened is
said by the same row sent again, by a file of labels (customer, as-of date, label), or by a file of leavers (customer, date of the
event). A file of leavers may say through which date it is complete, together with the number of its rows, so that a file of which a
part was lost completes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from churn.contract import Column, Contract, Kind, Role

ROWS, LABELS, LEAVERS = "rows", "labels", "leavers"
"""The kinds of batches."""
EVENT_DATE, COMPLETE_THROUGH, ROW_COUNT = "event_date", "complete_through", "rows"
"""The columns of a file of leavers, besides the key: when the event happened, and on each row the same two statements about the file."""


@dataclass(frozen=True)
class Completeness:
    """What a file of leavers says about itself: every event through this date is in it or in an earlier one; and the number of its rows."""

    through: date
    rows: int


def kind_of(names: Sequence[str], contract: Contract) -> str:
    """The kind of a batch, by the names in its header, in the spelling of the contract."""
    header = set(names)
    if contract.horizon_days is None or header & {column.name for column in contract.attributes}:
        return ROWS
    if {column.name for column in (*contract.row_key, contract.target)} <= header:
        return LABELS
    return LEAVERS if {contract.key.name, EVENT_DATE} <= header else ROWS


def contract_of(kind: str, contract: Contract) -> Contract:
    """The contract of the rows of a batch of a kind."""
    if kind == LABELS:
        target = replace(contract.target, nullable=False, optional=None)
        return _apart(contract, (*contract.row_key, target), labelled=True)
    if kind == LEAVERS:
        when = Column(EVENT_DATE, Kind.DATE, Role.AS_OF, description="when the event happened")
        about = (
            Column(
                COMPLETE_THROUGH,
                Kind.DATE,
                Role.CARRIED,
                nullable=True,
                description="every event through this date is known",
            ),
            Column(
                ROW_COUNT,
                Kind.INTEGER,
                Role.CARRIED,
                minimum=1,
                nullable=True,
                description="the number of rows of the file",
            ),
        )
        return _apart(contract, (contract.key, when, *about), labelled=False)
    return contract


def _apart(contract: Contract, columns: tuple[Column, ...], labelled: bool) -> Contract:
    return Contract(
        contract.name,
        columns,
        (),
        contract.lenient_header,
        contract.event,
        contract.non_event,
        labelled=labelled,
        featured=False,
    )
