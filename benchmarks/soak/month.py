"""Takes nights through a driver, compares each with the table, and checks at the end that everything can still be accounted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from churn.decision.evidence_file import has_evidence
from churn.decision.replay import replay
from churn.pipeline import disagreements
from churn.pipeline.audit import audit_data
from churn.pipeline.workspace import Workspace
from soak.growth import GrowthRow, Measured, broken, compare
from soak.nights import Night, Outcome

EARLY = 10
"""The night that the last one is compared with."""


@dataclass(frozen=True)
class Taken:
    """The tasks of a night that failed, each with its error: in the first attempt, and after the cause was gone."""

    first: list[str]
    again: list[str]


class Driver(Protocol):
    """A way to run the month: as plain calls, on the local Airflow, or on the stack."""

    def take(self, night: Night) -> Taken:
        """Do a night to its end, with what happens in it."""

    def open_workspace(self) -> Workspace:
        """A workspace of the month."""

    def measure(self) -> Measured:
        """What is there after a night."""


@dataclass
class Result:
    """What the month came to: outcome and measurement of each night, problems in sentences, and the growth."""

    nights: list[tuple[Night, Outcome]] = field(default_factory=list)
    measured: dict[int, Measured] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    growth: list[GrowthRow] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


def run_month(driver: Driver, nights: Sequence[Night], say: Callable[[str], None], result: Result) -> None:
    """Take the nights one after the other.

    Args:
        driver: runs each night.
        nights: of the table, in their order.
        say: gets a line after each night.
        result: gets what each night comes to, so that it is there too if the month ends early.
    """
    known: frozenset[str] = frozenset()
    for night in nights:
        taken = driver.take(night)
        workspace = driver.open_workspace()
        outcome, known = _outcome_of(workspace, night, taken.first, known)
        result.nights.append((night, outcome))
        result.measured[night.number] = driver.measure()
        result.problems += [f"Night {night.number}: {line}" for line in _differences(night.expected, outcome)]
        result.problems += [f"Night {night.number}: {task}, although the cause is gone." for task in taken.again]
        result.problems += [f"Night {night.number}: {line}" for line in _miscounted(workspace)]
        say(f"night {night.number:2d}: {outcome.verdict}" + (" - not as expected" if outcome != night.expected else ""))
    workspace = driver.open_workspace()
    result.problems += _account(workspace, nights, result.facts)
    result.growth = _growth(result.measured, nights)
    result.problems += broken(result.growth)


def _outcome_of(
    workspace: Workspace, night: Night, failed: list[str], known: frozenset[str]
) -> tuple[Outcome, frozenset[str]]:
    """What a night has come to, and the alerts and lists that are known now, by their keys."""
    ledger, model = workspace.ledger, workspace.settings.model_name
    batches, decision = ledger.batches(night=night.run), ledger.decision(night.run)
    if decision:
        verdict = f"{decision.verdict} {decision.code}"
    elif batches:
        verdict = "rejected" if all(batch.state == "rejected" for batch in batches) else "undecided"
    else:
        verdict = "nothing"
    alerts = {alert.key: alert.kind for alert in ledger.alerts()}
    current = ledger.in_production(model)
    lists = {row.list_id: row.version for row in ledger.score_lists(model)}
    listed = {_night_of(workspace, version) for key, version in lists.items() if key not in known}
    arrived, accepted, quarantined = (
        sum(getattr(batch, f"{what}_rows") or 0 for batch in batches) for what in ("arrived", "accepted", "quarantined")
    )
    outcome = Outcome(
        failed[0] if failed else "",
        verdict,
        tuple(sorted(kind for key, kind in alerts.items() if key not in known)),
        _night_of(workspace, current.version) if current else None,
        max(filter(None, listed), default=None),
        arrived,
        accepted,
        quarantined,
    )
    return outcome, frozenset({*alerts, *lists})


def _night_of(workspace: Workspace, version: int | None) -> int | None:
    record = workspace.ledger.version(workspace.settings.model_name, version) if version else None
    return int(record.night.rpartition("-")[2]) if record else None


def _differences(expected: Outcome, actual: Outcome) -> list[str]:
    return [
        f"{name}: expected {want!r}, was {got!r}."
        for (name, want), got in zip(vars(expected).items(), vars(actual).values(), strict=True)
        if want != got
    ]


def _miscounted(workspace: Workspace) -> list[str]:
    """Batches and lists whose counts do not add up."""
    ledger = workspace.ledger
    faults = [
        f"batch {batch.name}: {batch.arrived_rows} rows arrived, {batch.accepted_rows} were accepted, {batch.quarantined_rows} quarantined."
        for batch in ledger.batches()
        if batch.arrived_rows != (batch.accepted_rows or 0) + (batch.quarantined_rows or 0)
    ]
    return faults + [
        f"list {row.list_id[:12]}: {row.arrived_rows} customers arrived, {row.rows} were scored, {row.quarantined_rows} quarantined."
        for row in ledger.score_lists(workspace.settings.model_name)
        if row.arrived_rows != row.rows + row.quarantined_rows
    ]


def _account(workspace: Workspace, nights: Sequence[Night], facts: list[str]) -> list[str]:
    """Replay all decisions whose evidence is kept, audit, reconcile, and count runs and versions."""
    ledger, model, storage = workspace.ledger, workspace.settings.model_name, workspace.storage
    decisions = ledger.decisions(limit=None, model=model)
    kept = [row for row in decisions if "evidence" not in row.digests or has_evidence(row.digests["evidence"], storage)]
    problems = []
    for row in kept:
        faults = replay(row, storage).faults
        problems += [f"Replay of {row.night}: {fault}" for fault in faults]
    problems += [f"Audit: {line}" for line in audit_data(workspace, hashes=True)]
    problems += [f"Reconcile: {line}" for line in disagreements.find_disagreements(workspace)]
    decided = [night.run for night in nights if " " in night.expected.verdict]
    trained = [row.night for row in decisions]
    if sorted(trained) != sorted(decided):
        problems.append(f"Nights with a decision: expected {sorted(decided)}, was {sorted(trained)}.")
    versions = {row.challenger for row in decisions}
    if len(versions) != len(decisions):
        problems.append(f"{len(decisions)} decisions are about {len(versions)} versions.")
    facts += [
        f"{len(kept)} of {len(decisions)} decisions replayed; the evidence of the others has been deleted by maintenance.",
        f"{len(ledger.batches())} batches, {len(ledger.alerts())} alerts, {len(ledger.score_lists(model))} lists, "
        f"{len(ledger.promotions(model))} changes of production.",
    ]
    return problems


def _growth(measured: dict[int, Measured], nights: Sequence[Night]) -> list[GrowthRow]:
    """Compare the last ordinary night with the early one; empty if the month is too short for that."""
    ordinary = [night.number for night in nights if night.ordinary and night.number - 1 in measured]
    if EARLY not in ordinary or ordinary[-1] == EARLY:
        return []
    late = ordinary[-1]
    return compare(measured[EARLY - 1], measured[EARLY], measured[late - 1], measured[late])
