"""What happened afterwards: which versions scored a batch on arrival, what later rows say of a promotion, and what became of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import ArrivalScores, ListResult, OutcomeLook
from churn.foundation.schema import arrival_scores, list_results, outcome_looks


class OutcomeRows(LedgerDatabase):
    """Reads and writes outcomes."""

    def add_arrival_scores(self, scores: ArrivalScores) -> ArrivalScores:
        """Store which versions have scored a batch, once; returns what was stored first."""
        with self._transaction() as connection:
            self._insert_once(connection, arrival_scores, scores)
        return self.arrival_scores_of(scores.model, scores.batch) or scores

    def arrival_scores_of(self, model: str, batch: str) -> ArrivalScores | None:
        """Return which versions have scored a batch."""
        mine = sa.and_(arrival_scores.c.model == model, arrival_scores.c.batch == batch)
        return self._one(ArrivalScores, sa.select(arrival_scores).where(mine))

    def arrival_scores(self, model: str) -> list[ArrivalScores]:
        """Return the scores of all batches, the newest first."""
        query = sa.select(arrival_scores).where(arrival_scores.c.model == model)
        return self._all(ArrivalScores, query.order_by(arrival_scores.c.scored_at.desc()))

    def add_look(self, look: OutcomeLook) -> OutcomeLook:
        """Store what the rows so far say of a promotion, once for each run; returns what was stored first."""
        with self._transaction() as connection:
            self._insert_once(connection, outcome_looks, look)
        mine = sa.and_(
            outcome_looks.c.model == look.model,
            outcome_looks.c.sequence == look.sequence,
            outcome_looks.c.night == look.night,
        )
        return self._one(OutcomeLook, sa.select(outcome_looks).where(mine)) or look

    def last_look(self, model: str, sequence: int) -> OutcomeLook | None:
        """Return what was last found of a promotion; None if nobody has looked yet."""
        mine = sa.and_(outcome_looks.c.model == model, outcome_looks.c.sequence == sequence)
        return self._one(
            OutcomeLook, sa.select(outcome_looks).where(mine).order_by(outcome_looks.c.looked_at.desc()).limit(1)
        )

    def last_looks(self, model: str, sequences: Sequence[int] | None = None) -> list[OutcomeLook]:
        """Return what was last found of each promotion, or of some, the newest promotion first."""
        mine = outcome_looks.c.model == model
        if sequences is not None:
            mine = sa.and_(mine, outcome_looks.c.sequence.in_(sequences))
        newest = (
            sa.select(outcome_looks.c.sequence, sa.func.max(outcome_looks.c.looked_at).label("looked_at"))
            .where(mine)
            .group_by(outcome_looks.c.sequence)
            .subquery()
        )
        same = sa.and_(newest.c.sequence == outcome_looks.c.sequence, newest.c.looked_at == outcome_looks.c.looked_at)
        query = sa.select(outcome_looks).join(newest, same).where(outcome_looks.c.model == model)
        return self._all(OutcomeLook, query.order_by(outcome_looks.c.sequence.desc()))

    def looks_since(self, model: str, sequence: int, limit: int | None = None) -> list[OutcomeLook]:
        """Return every look at a promotion, or at most this number of the newest, in order."""
        mine = sa.and_(outcome_looks.c.model == model, outcome_looks.c.sequence == sequence)
        query = sa.select(outcome_looks).where(mine).order_by(outcome_looks.c.looked_at.desc()).limit(limit)
        return self._all(OutcomeLook, query)[::-1]

    def add_list_result(self, result: ListResult) -> ListResult | None:
        """Store the results of a list; its `revision` is set here. Earlier results are kept.

        Returns:
            The new row; None if nothing has changed since the last one.
        """
        mine = sa.select(list_results).where(list_results.c.list_id == result.list_id)
        with self._transaction() as connection:
            last = connection.execute(mine.order_by(list_results.c.revision.desc()).limit(1)).mappings().first()
            if last and (last["rows"], last["events"], last["figures"]) == (result.rows, result.events, result.figures):
                return None
            row = replace(result, revision=(last["revision"] if last else 0) + 1)
            connection.execute(
                self._insert(list_results)
                .values(asdict(row))
                .on_conflict_do_nothing(index_elements=["list_id", "revision"])
            )
            return row

    def list_results(self, names: Sequence[str] | None = None) -> dict[str, ListResult]:
        """Return the latest results by list: of all lists, or of some."""
        query = sa.select(list_results).order_by(list_results.c.revision)
        if names is not None:
            query = query.where(list_results.c.list_id.in_(names))
        return {row.list_id: row for row in self._all(ListResult, query)}

    def revisions_of(self, list_id: str) -> list[ListResult]:
        """Return all results of a list, in order."""
        query = sa.select(list_results).where(list_results.c.list_id == list_id)
        return self._all(ListResult, query.order_by(list_results.c.revision))
