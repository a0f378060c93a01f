"""Populations and score lists: what was scored, by which version, what was published, and where it was delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from churn.errors import ChurnError
from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Delivery, Population, PopulationVerdict, ScoreList
from churn.foundation.schema import deliveries, populations, score_lists


class ScoreRows(LedgerDatabase):
    """Reads and writes populations and score lists."""

    def add_population(self, population: str, name: str, size: int, arrived_at: datetime, waits: bool = True) -> bool:
        """Store a file of current customers that arrived. One that has arrived before waits for a list once more, behind the others.

        Args:
            population: the sha256 of its bytes.
            name: its name.
            size: its bytes.
            arrived_at: when it was written to landing.
            waits: whether the next run is to make a list of it; one that is only tried does not wait.

        Returns:
            False if a file with these bytes has arrived before.
        """
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE populations IN SHARE ROW EXCLUSIVE MODE"))
            arrival = (connection.scalar(sa.select(sa.func.max(populations.c.arrival))) or 0) + 1
            row = Population(population, arrival, name, size, arrived_at, "arrived" if waits else "judged")
            result = connection.execute(
                self._insert(populations).values(asdict(row)).on_conflict_do_nothing(index_elements=["population"])
            )
            if waits and not result.rowcount:
                again = {"arrival": arrival, "name": name, "arrived_at": arrived_at, "state": row.state}
                connection.execute(populations.update().where(populations.c.population == population).values(again))
            return bool(result.rowcount)

    def judge_population(self, population: str, night: str, verdict: PopulationVerdict) -> None:
        """Store what became of the rows of a population; it may be judged again, such as by another contract."""
        with self._transaction() as connection:
            connection.execute(
                populations.update()
                .where(populations.c.population == population)
                .values(**asdict(verdict), night=night, judged_at=datetime.now(UTC))
            )

    def population(self, population: str) -> Population | None:
        """Return the population with this hash."""
        return self._one(Population, sa.select(populations).where(populations.c.population == population))

    def populations(self, state: str | None = None) -> list[Population]:
        """Return populations in the order of arrival."""
        query = sa.select(populations).order_by(populations.c.arrival)
        return self._all(Population, query.where(populations.c.state == state) if state else query)

    def publish_list(self, row: ScoreList) -> ScoreList:
        """Store a list, which makes it the current one of its campaign; its `sequence` is set here.

        A list that is there already becomes the current one again, such as after a rollback. It is then due to be delivered again, and
        its deliveries keep the time of the first one. `first_published` of its summary says when it was published at first.
        """
        of_model = sa.select(sa.func.max(score_lists.c.sequence)).where(score_lists.c.model == row.model)
        of_campaign = of_model.where(score_lists.c.campaign == row.campaign)
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE score_lists IN SHARE ROW EXCLUSIVE MODE"))
            same = (
                connection.execute(sa.select(score_lists).where(score_lists.c.list_id == row.list_id))
                .mappings()
                .first()
            )
            published = replace(row, sequence=(connection.scalar(of_model) or 0) + 1)
            if same is None:
                connection.execute(score_lists.insert().values(asdict(published)))
                return published
            if same["sequence"] == connection.scalar(of_campaign):
                published = replace(row, sequence=same["sequence"])  # made twice at the same time
            else:
                first = same["summary"].get("first_published", same["published_at"].isoformat())
                published = replace(published, summary=published.summary | {"first_published": first})
                connection.execute(deliveries.update().where(deliveries.c.list_id == row.list_id).values(state="due"))
            mine = score_lists.c.list_id == row.list_id
            connection.execute(score_lists.update().where(mine).values(asdict(published)))
            return published

    def score_lists(
        self,
        model: str | None = None,
        campaign: str | None = None,
        limit: int | None = None,
        since: datetime | None = None,
    ) -> list[ScoreList]:
        """Return all lists, those of a model, of one of its campaigns, or since a time, newest first."""
        query = sa.select(score_lists).order_by(score_lists.c.sequence.desc())
        if model is not None:
            query = query.where(score_lists.c.model == model)
        if campaign is not None:
            query = query.where(score_lists.c.campaign == campaign)
        if since is not None:
            query = query.where(score_lists.c.published_at >= since)
        return self._all(ScoreList, query.limit(limit))

    def score_lists_page(self, model: str, limit: int, before: int | None = None) -> list[ScoreList]:
        """Return lists of a model, newest first, from before a sequence number."""
        query = sa.select(score_lists).where(score_lists.c.model == model).order_by(score_lists.c.sequence.desc())
        query = query.where(score_lists.c.sequence < before) if before is not None else query
        return self._all(ScoreList, query.limit(limit))

    def current_lists(self, model: str) -> frozenset[str]:
        """Return the ids of the newest list of each campaign."""
        newest = (
            sa.select(sa.func.max(score_lists.c.sequence))
            .where(score_lists.c.model == model)
            .group_by(score_lists.c.campaign)
        )
        query = sa.select(score_lists.c.list_id).where(score_lists.c.model == model, score_lists.c.sequence.in_(newest))
        with self._engine.connect() as connection:
            return frozenset(connection.scalars(query))

    def score_list(self, name: str) -> ScoreList | None:
        """Return the list with this hash."""
        return self._one(ScoreList, sa.select(score_lists).where(score_lists.c.list_id == name))

    def record_delivery(self, delivery: Delivery) -> Delivery:
        """Store the outcome of an attempt; `attempts` is counted here.

        What was delivered keeps the time and the rows of the first delivery; its place changes with a delivery to another one.
        """
        mine = sa.select(deliveries).where(
            deliveries.c.list_id == delivery.list_id, deliveries.c.target == delivery.target
        )
        with self._transaction() as connection:
            before = connection.execute(mine).mappings().first()
            if before and before["state"] == "delivered":
                row = Delivery(**before)
                if delivery.state == "delivered" and delivery.place != row.place:
                    row = replace(row, place=delivery.place, attempts=row.attempts + 1)
                    of_list = sa.and_(deliveries.c.list_id == row.list_id, deliveries.c.target == row.target)
                    connection.execute(deliveries.update().where(of_list).values(asdict(row)))
                return row
            row = replace(delivery, attempts=(before["attempts"] if before else 0) + 1)
            if before and before["rows"] is not None:
                row = replace(row, rows=before["rows"], at=before["at"])
            statement = self._insert(deliveries).values(asdict(row))
            connection.execute(statement.on_conflict_do_update(index_elements=["list_id", "target"], set_=asdict(row)))
            return row

    def record_removed(self, delivery: Delivery) -> None:
        """Store that maintenance removed what was delivered; the time of the first delivery is kept."""
        mine = sa.and_(deliveries.c.list_id == delivery.list_id, deliveries.c.target == delivery.target)
        with self._transaction() as connection:
            connection.execute(deliveries.update().where(mine).values(state="removed"))

    def deliveries(self, list_id: str | None = None) -> list[Delivery]:
        """Return all deliveries, or those of a list, the latest first."""
        query = sa.select(deliveries).order_by(deliveries.c.at.desc(), deliveries.c.target)
        return self._all(Delivery, query.where(deliveries.c.list_id == list_id) if list_id else query)

    def deliveries_of(self, names: Sequence[str]) -> dict[str, list[Delivery]]:
        """Return the deliveries of some lists, by list."""
        found: dict[str, list[Delivery]] = {}
        for row in self._all(Delivery, sa.select(deliveries).where(deliveries.c.list_id.in_(names))):
            found.setdefault(row.list_id, []).append(row)
        return found

    def find_score_list(self, prefix: str) -> ScoreList:
        """Return the one list whose hash has this prefix.

        Raises:
            ChurnError: no list has this prefix, or more than one does.
        """
        query = sa.select(score_lists).where(score_lists.c.list_id.startswith(prefix.lower(), autoescape=True)).limit(2)
        rows = self._all(ScoreList, query)
        if len(rows) != 1:
            number = "More than one list has" if rows else "No list has"
            raise ChurnError(
                f"{number} an id that begins with {prefix}. `churn scores list --json` shows the full ids."
            )
        return rows[0]
