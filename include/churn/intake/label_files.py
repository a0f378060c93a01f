"""Labels that come after the rows: files of labels, and files of leavers.

Under a contract with a horizon, a row is accepted before it is known whether the event happens within the horizon. What happened is
said by the same row sent again, by a file of labels (customer, as-of date, label), or by a file of leavers (customer, date of the
event). A file of leavers may say from which date through which other it is complete, together with the number of its rows, so that a
file of which a part was lost completes nothing. A file that does not say from which date continues the one before, even if that one was
refused: what it would have said is then not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from churn.contract import Column, Contract, Kind, Role
from churn.foundation.records import Batch
from churn.intake.header import in_contract_spelling

ROWS, LABELS, LEAVERS = "rows", "labels", "leavers"
"""The kinds of batches."""
EVENT_DATE, COMPLETE_FROM, COMPLETE_THROUGH, ROW_COUNT = "event_date", "complete_from", "complete_through", "rows"
"""The columns of a file of leavers, besides the key: when the event happened, and on each row the same three statements about the file."""
_DAY = timedelta(1)


@dataclass(frozen=True)
class Completeness:
    """What a file of leavers says about itself: every event from a date through another is in it; and the number of its rows.

    Without `begin`, every earlier event is in it too.
    """

    begin: date | None
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


def kind_of_file(names: Sequence[str], contract: Contract) -> str:
    """The kind of a batch, by the names in its header as they are spelled there."""
    return ROWS if contract.horizon_days is None else kind_of(in_contract_spelling(names, contract), contract)


def contract_of(kind: str, contract: Contract) -> Contract:
    """The contract of the rows of a batch of a kind."""
    if kind == LABELS:
        target = replace(contract.target, nullable=False, optional=None)
        return _apart(contract, (*contract.row_key, target), labelled=True)
    if kind == LEAVERS:
        when = Column(EVENT_DATE, Kind.DATE, Role.AS_OF, description="when the event happened")
        about = (
            *(
                Column(name, Kind.DATE, Role.CARRIED, nullable=True, description=description)
                for name, description in (
                    (COMPLETE_FROM, "every event from this date is known"),
                    (COMPLETE_THROUGH, "every event through this date is known"),
                )
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


def known_periods(batches: Iterable[Batch]) -> tuple[tuple[date, date], ...]:
    """The periods of which every event is known from accepted files of leavers: first and last day, in order, with gaps between them."""
    return join_periods(_period(batch) for batch in batches if batch.complete_through)


def join_periods(some: Iterable[tuple[date, date]]) -> tuple[tuple[date, date], ...]:
    """Join periods that overlap or follow one another, in order."""
    periods: list[tuple[date, date]] = []
    for begin, through in sorted(some):
        if periods and begin - periods[-1][1] <= _DAY:
            periods[-1] = (periods[-1][0], max(periods[-1][1], through))
        elif begin <= through:
            periods.append((begin, through))
    return tuple(periods)


def _period(batch: Batch) -> tuple[date, date]:
    begin = date.fromisoformat(batch.complete_from) if batch.complete_from else date.min
    return begin, date.fromisoformat(batch.complete_through or "")


def continued_from(batches: Iterable[Batch], through: date) -> date | None:
    """The day on which a file of leavers begins that does not say so: after the latest one before it, whatever became of that one."""
    earlier = [said for said in map(_said_through, batches) if said and said < through]
    return max(earlier) + _DAY if earlier else None


def _said_through(batch: Batch) -> date | None:
    return date.fromisoformat(batch.complete_through) if batch.complete_through else None


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
