"""Whether the MLflow registry is the one that the ledger describes, agrees with it about production, and still has every version.

All of it reads only its arguments, so each command asks MLflow once.
"""

from __future__ import annotations

from collections.abc import Sequence

from churn.foundation.ledger import Ledger
from churn.foundation.records import Promotion
from churn.foundation.tracking import RegistryChanged, Tracking
from churn.release.lineage import predecessor
from churn.release.mirror import ANCHOR, PREVIOUS, RegistryState, aliases_of, named


def require_same_registry(rows: Sequence[Promotion], state: RegistryState, ledger: Ledger, tracking: Tracking) -> None:
    """Check that the last version, and those that were in production, come from the runs that the ledger recorded.

    Args:
        rows: every change of production, newest first.
        state: the state of the registry.
        ledger: knows the MLflow run of each version.
        tracking: MLflow.

    Raises:
        RegistryChanged: the registered model does not exist, or its versions are others.
    """
    promoted = [ledger.version(tracking.model, version) for version in {row.version for row in rows if row.version}]
    recorded = {record.version: record.run_id for record in (*promoted, ledger.last_version(tracking.model)) if record}
    if recorded and state.runs is None:
        raise RegistryChanged(tracking.missing_model(recorded.values()))
    for version, run in recorded.items():
        actual_run = (state.runs or {}).get(version, run)
        if actual_run != run:
            raise RegistryChanged(tracking.other_version(version, run, actual_run))


def describe_missing(rows: Sequence[Promotion], state: RegistryState) -> list[str]:
    """Name the versions that the ledger needs and that were deleted in MLflow, each with its consequence and the next step.

    Args:
        rows: every change of production, newest first.
        state: the state of the registry.
    """
    if not rows:
        return []
    sentences = []
    champion, baseline = rows[0].version, rows[0].anchor
    target = predecessor(rows, state.versions)
    if champion is not None and champion not in state.versions:
        back = f"return to version {target} with `churn rollback --reason ...`, or " if target else ""
        sentences.append(
            f"Version {champion}, which is in production, was deleted in MLflow. Its image keeps serving, but nothing can be compared with "
            f"it. Next: {back}promote a challenger: trigger churn_retraining and fill in *Reason to force the promotion*, or run "
            "`churn run --force REASON`."
        )
    before = predecessor(rows)
    if before is not None and before not in state.versions:
        instead = f"A rollback returns to version {target}." if target else "There is no version to roll back to."
        sentences.append(f"Version {before}, which was in production before, was deleted in MLflow. {instead}")
    if baseline is not None and baseline != champion and baseline not in state.versions:
        sentences.append(
            f"Baseline version {baseline} was deleted in MLflow. Until a challenger is promoted as superior, an old champion is not "
            "replaced by an equal one (FRESH_NONINFERIOR)."
        )
    return sentences


def describe_difference(rows: Sequence[Promotion], state: RegistryState) -> str | None:
    """Describe where the MLflow registry differs from the ledger, in a sentence; None if they agree.

    A version that was deleted is not a difference: its alias and stage are gone with it.

    Args:
        rows: every change of production, newest first.
        state: the state of the registry.
    """
    difference = champion_difference(rows, state)
    if difference or not rows:
        return difference
    expected = aliases_of(rows, state.versions)
    recorded = {PREVIOUS: predecessor(rows), ANCHOR: rows[0].anchor}
    for name, number in recorded.items():
        lost = name not in state.aliases and number is not None and number not in state.versions
        if state.aliases.get(name) != expected[name] and not lost:
            return f"The alias {name} in the MLflow registry names {named(state.aliases.get(name))}, but the ledger names {named(expected[name])}."
    return None


def champion_difference(rows: Sequence[Promotion], state: RegistryState) -> str | None:
    """Describe how the registry's champion, by alias or stage, differs from the ledger's; None if it does not."""
    champion = rows[0].version if rows else None
    expected = champion if champion is not None and champion in state.versions else None
    unexpected = [version for version in state.in_stage if version != expected]
    if state.champion != expected:
        return f"The champion in the MLflow registry is {named(state.champion)}, but in the ledger it is {named(champion)}."
    if unexpected or (expected is not None and expected not in state.in_stage):
        staged = ", ".join(map(named, state.in_stage)) or "no version"
        return f"The stage Production of the MLflow registry contains {staged}, but the champion in the ledger is {named(champion)}."
    return None
