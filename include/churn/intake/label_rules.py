"""The rules for a batch of labels or of leavers as a whole: what it changes, and whether it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from math import sqrt

from churn.contract import DUPLICATE, Contract
from churn.foundation import columnar
from churn.foundation.records import Batch
from churn.intake.history import History
from churn.intake.judged_rows import Judged
from churn.intake.label_files import (
    COMPLETE_FROM,
    COMPLETE_THROUGH,
    EVENT_DATE,
    LABELS,
    ROW_COUNT,
    Completeness,
    continued_from,
    join_periods,
)
from churn.intake.statements import Statements
from churn.intake.table_rules import FEWEST_DISPUTED, RATE_FACTOR, RATE_SIGMAS, IntakeLimits, TableRule, contradicted

_DAY = timedelta(1)
_FEWEST_FINAL = 100
"""Final labels that a rate of events needs before another one is compared with it."""


def completeness_of(statements: Statements, batches: Sequence[Batch]) -> Completeness | None:
    """What a file of leavers says of itself; None if it says nothing, or not the same on each row.

    Args:
        statements: what its rows say.
        batches: those that are known, whatever became of them; a file that does not say from which date continues the one before.
    """
    begin, through, count = statements.complete_from, statements.complete_through, statements.row_count
    on_each = through.rows == count.rows == statements.rows
    if not (on_each and through.agreed and count.agreed) or (begin.rows and not begin.agreed):
        return None
    return Completeness(begin.least or continued_from(batches, through.least), through.least, count.least)


def label_rules(
    judged: Judged,
    history: History | None,
    contract: Contract,
    kind: str,
    arrived: date,
    limits: IntakeLimits,
    statements: Statements | None,
    stated: Completeness | None,
    short: str,
) -> list[TableRule]:
    """The rules for a batch under a contract with a horizon, critical ones first; none for one of rows.

    Args:
        judged: the rows.
        history: the accepted history.
        contract: the data contract.
        kind: of the batch.
        arrived: the date of its arrival.
        limits: for a batch.
        statements: what the rows of a file of leavers say.
        stated: what the file says of itself.
        short: names the batch in commands.
    """
    if kind == LABELS:
        return [_label_rate(history, judged.events, judged.accepted, contract, short)] if history else []
    if statements is None or not judged.accepted:
        return []
    rules = [
        _statement(statements, judged, stated),
        _future(stated, arrived),
        _future_events(statements, arrived),
        _whole(judged, stated),
    ]
    if history:
        found = history.compared.leavers
        rules.append(_relabelled(found, limits, short))
        rules.append(contradicted(found.relabelled))
        rules.append(_unknown(found))
        if stated:
            rules.append(_label_rate(history, found.events, found.completed, contract, short))
            rules.append(_cut_off(found.cut_off, _gap(stated, history.known.periods)))
    return rules


def leavers_question(
    stated: Completeness | None, known: Sequence[tuple[date, date]]
) -> tuple[tuple[tuple[date, date], ...], tuple[date, date] | None]:
    """What a file of leavers is compared with the history for, see `history.Question`.

    Args:
        stated: what it says of itself.
        known: the periods of which every event is known.
    """
    periods = join_periods([*known, (stated.begin or date.min, stated.through)] if stated else known)
    return tuple(periods), _gap(stated, known)


def _statement(statements: Statements, judged: Judged, stated: Completeness | None) -> TableRule:
    """A file that says through which date it is complete says on each row the same, and has as many rows as it says."""
    through, rows = statements.complete_through.rows, statements.row_count.rows
    right = stated.rows == judged.arrived if stated else statements.silent == statements.rows
    if stated:
        states = f"says that it has {stated.rows:,} rows, and {judged.arrived:,} arrived"
    elif through and rows:
        states = "does not say the same on each row"
    else:
        states = f"has no value in {ROW_COUNT if through else COMPLETE_THROUGH}"
    return TableRule(
        "leavers.row_count",
        True,
        float(right),
        minimum=1,
        sentence=f"The file of leavers {states}, so a part of it may be lost, and customers who left would count as having stayed. "
        f"Send it again with {COMPLETE_THROUGH} and {ROW_COUNT} on each row, or with neither of them: it then completes nothing.",
    )


def _gap(stated: Completeness | None, known: Sequence[tuple[date, date]]) -> tuple[date, date] | None:
    """The first and the last day before a file of which no accepted file of leavers says that it is complete."""
    if stated is None or stated.begin is None or stated.begin == date.min:
        return None
    before, last = [through for begin, through in known if begin < stated.begin], stated.begin - _DAY
    until = max(before) if before else date.min
    return (until + _DAY, last) if until < last else None


def _cut_off(rows: int, gap: tuple[date, date] | None) -> TableRule:
    first, last = gap or (date.min, date.min)
    begin = f"from {first} " if first > date.min + _DAY else ""
    return TableRule(
        "leavers.gap",
        False,
        rows,
        maximum=0,
        sentence=f"{rows:,} rows go on waiting for their labels: of the time {begin}through {last}, no accepted file of leavers says that it is "
        f"complete, because it was rejected, withdrawn or not sent. Send it again, or one for the whole time, with {COMPLETE_FROM} on each row.",
    )


def _future(stated: Completeness | None, arrived: date) -> TableRule:
    ahead = float((stated.through - arrived).days) if stated else 0.0
    through = f"{stated.through}" if stated else ""
    return TableRule(
        "leavers.complete_through",
        True,
        ahead,
        maximum=0,
        sentence=f"The file arrived on {arrived} and says that it is complete through {through}, which is after its arrival. Send it again "
        "with the date of the last day that it covers.",
    )


def _future_events(statements: Statements, arrived: date) -> TableRule:
    """An event is not known before it has happened. The bank's date may be a day ahead of the one in UTC."""
    ahead, last = statements.ahead, statements.event_date.greatest
    return TableRule(
        "leavers.event_date",
        True,
        ahead,
        maximum=0,
        sentence=f"The file arrived on {arrived}, but {ahead:,} of its events are dated later, the latest on {last}. Correct {EVENT_DATE} "
        "and send the file again.",
    )


def _whole(judged: Judged, stated: Completeness | None) -> TableRule:
    """A row in quarantine may be a customer who left, so the file is not complete."""
    lost = 0
    if stated and judged.set_aside:
        lost = judged.set_aside - sum(rows for rule, rows, _ in judged.rules if rule == DUPLICATE)
    return TableRule(
        "leavers.quarantined",
        True,
        lost,
        maximum=0,
        sentence=f"{lost:,} rows of the file of leavers broke a rule, so it is not complete through the date that it states. Fix these rows "
        f"and send it again, or send it without {COMPLETE_THROUGH} and {ROW_COUNT}.",
    )


def _relabelled(found: columnar.LeaversCount, limits: IntakeLimits, short: str) -> TableRule:
    share = found.relabelled / max(found.leavers, 1) if found.relabelled >= FEWEST_DISPUTED else 0.0
    return TableRule(
        "batch.labels_reversed",
        True,
        share,
        maximum=limits.max_disputed_share,
        sentence=f"{found.relabelled:,} rows of {found.leavers:,} leavers had stayed by their final label "
        f"({share:.1%}, limit {limits.max_disputed_share:.1%}), so the file may be wrong. Ask the sender to check it. If it is right, raise "
        f"CHURN_MAX_DISPUTED_SHARE for one run and run `churn batches rejudge {short}`.",
    )


def _unknown(found: columnar.LeaversCount) -> TableRule:
    return TableRule(
        "leavers.unknown",
        False,
        found.unknown / max(found.leavers, 1),
        maximum=0.5,
        sentence=f"{found.unknown:,} of {found.leavers:,} leavers have no accepted row. Check the key of the file.",
    )


def _label_rate(history: History, events: int, rows: int, contract: Contract, short: str) -> TableRule:
    """The share of events among the labels that a batch makes final. A lost part of a file of leavers shows in it."""
    known, known_events = history.compared.final, history.compared.final_events
    rate, past = events / max(rows, 1), known_events / max(known, 1)
    chance = RATE_SIGMAS * sqrt(past * (1 - past) / max(rows, 1))
    comparable = rows > 0 and known >= _FEWEST_FINAL
    return TableRule(
        "batch.label_rate",
        True,
        rate if comparable else 0.0,
        minimum=min(past / RATE_FACTOR, past - chance) if comparable else 0.0,
        maximum=max(past * RATE_FACTOR, past + chance) if comparable else 1.0,
        sentence=f"{rate:.1%} of the {rows:,} rows whose label becomes final {contract.event_in_words}, compared with {past:.1%} before. A part "
        f"of the file may be lost, or it may be the one of another bank. Ask the sender to check it. If it is right, land the same labels "
        f"as rows, or withdraw the batches that set the earlier rate; `churn batches rejudge {short}` judges it again.",
    )
