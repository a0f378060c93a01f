"""Versions, looks, decisions and approvals."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from churn.foundation.ledger.database import LedgerDatabase
from churn.foundation.records import Approval, DecisionOutline, DecisionRecord, Look, VersionRecord
from churn.foundation.schema import approvals, decisions, looks, versions

UNJUDGED = "POLICY_INVALID"
"""The code of a decision that judged nothing; its evidence still has to be judged."""


class DecisionRows(LedgerDatabase):
    """Reads and writes versions, looks, decisions and approvals."""

    def add_decision(self, decision: DecisionRecord) -> DecisionRecord:
        """Store a decision.

        Returns:
            The decision of the run: this one, or the one stored earlier.
        """
        with self._transaction() as connection:
            self._insert_once(connection, decisions, decision)
        return self.decision(decision.night) or decision

    def decision(self, night: str) -> DecisionRecord | None:
        """Return the decision of a run."""
        return self._one(DecisionRecord, sa.select(decisions).where(decisions.c.night == night))

    def last_decision(self, model: str | None = None) -> DecisionRecord | None:
        """Return the latest decision, of any or of one model, that was judged and was not a dry run."""
        query = sa.select(decisions).where(~decisions.c.dry_run, decisions.c.code != UNJUDGED)
        if model is not None:
            query = query.where(decisions.c.model == model)
        return self._one(DecisionRecord, query.order_by(decisions.c.decided_at.desc()).limit(1))

    def decisions(
        self, limit: int | None = 20, champion: int | None = None, model: str | None = None
    ) -> list[DecisionRecord]:
        """Return the latest decisions, of any or of one model, or those against one champion; newest first."""
        query = sa.select(decisions).order_by(decisions.c.decided_at.desc(), decisions.c.night).limit(limit)
        if model is not None:
            query = query.where(decisions.c.model == model)
        return self._all(DecisionRecord, query.where(decisions.c.champion == champion) if champion else query)

    def outlines(self, model: str | None = None, champion: int | None = None) -> list[DecisionOutline]:
        """Return what all decisions came to, of any or of one model, or those against one champion; newest first."""
        columns = [decisions.c[field.name] for field in fields(DecisionOutline)]
        query = sa.select(*columns).order_by(decisions.c.decided_at.desc(), decisions.c.night)
        if model is not None:
            query = query.where(decisions.c.model == model)
        return self._all(DecisionOutline, query.where(decisions.c.champion == champion) if champion else query)

    def decisions_since(self, model: str, since: datetime) -> list[DecisionRecord]:
        """Return the decisions on a model since a time, oldest first."""
        query = sa.select(decisions).where(decisions.c.model == model, decisions.c.decided_at >= since)
        return self._all(DecisionRecord, query.order_by(decisions.c.decided_at))

    def decision_before(self, decision: DecisionRecord) -> DecisionRecord | None:
        """Return the previous decision against the same champion; None if this is the first."""
        query = sa.select(decisions).where(
            decisions.c.model == decision.model,
            decisions.c.champion == decision.champion,
            decisions.c.decided_at < decision.decided_at,
        )
        return self._one(DecisionRecord, query.order_by(decisions.c.decided_at.desc()).limit(1))

    def add_version(self, version: VersionRecord) -> VersionRecord:
        """Store a registered version.

        Returns:
            The stored record: this one, or the one stored earlier.
        """
        with self._transaction() as connection:
            self._insert_once(connection, versions, version)
        return self.version(version.model, version.version) or version

    def version(self, model: str, version: int) -> VersionRecord | None:
        """Return the record of a version, stored when it was registered."""
        query = sa.select(versions).where(versions.c.model == model, versions.c.version == version)
        return self._one(VersionRecord, query)

    def version_of_run(self, model: str, night: str) -> VersionRecord | None:
        """Return the record of the version that a run has trained."""
        return self._one(VersionRecord, sa.select(versions).where(versions.c.model == model, versions.c.night == night))

    def last_version(self, model: str) -> VersionRecord | None:
        """Return the record of the version with the highest number."""
        query = sa.select(versions).where(versions.c.model == model).order_by(versions.c.version.desc()).limit(1)
        return self._one(VersionRecord, query)

    def take_look(self, look: Look) -> Look:
        """Count a look in its calendar night. The same look is counted only once.

        Args:
            look: the look to count; its `position` is set here.

        Returns:
            The stored look, with its position.
        """
        with self._transaction() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.text("LOCK TABLE looks IN SHARE ROW EXCLUSIVE MODE"))
            same_look = sa.select(looks).where(looks.c.model == look.model, looks.c.look == look.look)
            existing = connection.execute(same_look).mappings().first()
            if existing:
                return Look(**existing)
            same_night = (
                looks.c.model == look.model,
                looks.c.epoch == look.epoch,
                looks.c.calendar_night == look.calendar_night,
            )
            earlier_looks = connection.scalar(sa.select(sa.func.count()).select_from(looks).where(*same_night)) or 0
            counted = replace(look, position=earlier_looks)
            connection.execute(looks.insert().values(asdict(counted)))
            return counted

    def looks(self, model: str, epoch: int | None = None) -> list[Look]:
        """Return the looks at the champions of a model, or at the champion of one epoch; newest first."""
        query = sa.select(looks).where(looks.c.model == model).order_by(looks.c.taken_at.desc())
        return self._all(Look, query if epoch is None else query.where(looks.c.epoch == epoch))

    def answer(self, approval: Approval) -> Approval:
        """Store a person's answer to a decision; the first answer counts.

        Returns:
            The answer that counts.
        """
        with self._transaction() as connection:
            self._insert_once(connection, approvals, approval)
        return self.approval(approval.night) or approval

    def approval(self, night: str) -> Approval | None:
        """Return the answer to the decision of a run, if there is one."""
        return self._one(Approval, sa.select(approvals).where(approvals.c.night == night))

    def open_decisions(self, model: str) -> list[DecisionRecord]:
        """Return the decisions that are waiting for approval: not answered, and not followed by a later decision."""
        judged = (decisions.c.model == model, ~decisions.c.dry_run, decisions.c.code != UNJUDGED)
        newest = sa.select(decisions.c.decided_at).where(*judged).order_by(decisions.c.decided_at.desc()).limit(1)
        with self._transaction() as connection:
            last = connection.scalar(newest) or datetime.min.replace(tzinfo=UTC)
        query = (
            sa.select(decisions)
            .outerjoin(approvals, approvals.c.night == decisions.c.night)
            .where(
                decisions.c.model == model,
                decisions.c.decided_at >= last,
                decisions.c.approval,
                ~decisions.c.dry_run,
                approvals.c.night.is_(None),
            )
            .order_by(decisions.c.decided_at.desc())
        )
        return self._all(DecisionRecord, query)
