"""The only module that moves versions. The ledger commits, and the MLflow registry follows.

A promotion is one row of the ledger, written with compare-and-set; `mirror` brings the MLflow registry into line with it.
Manual changes in the registry are adopted or refused, and never silently overwritten.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from churn.decision.policy import Verdict
from churn.decision.reasons import Reason
from churn.errors import ChurnError
from churn.foundation.artifacts import downloaded, require_registered
from churn.foundation.ledger import Ledger
from churn.foundation.links import version_page
from churn.foundation.records import Approval, DecisionRecord, Promotion
from churn.foundation.tracking import Tracking
from churn.release.agreement import champion_difference, describe_difference, describe_missing, require_same_registry
from churn.release.lineage import anchor_with, predecessor
from churn.release.mirror import RegistryState, mirror, named, read_registry

log = logging.getLogger(__name__)

POLICY = "the policy"
"""The actor of a promotion that no person approved or forced."""


class ChampionDisagreement(ChurnError):  # noqa: N818 -- names the state
    """The MLflow registry and the ledger name different champions, although the registry had followed the promotion."""


def settle_champion(ledger: Ledger, tracking: Tracking, adopt: bool = False) -> int | None:
    """Bring the MLflow registry and the ledger into agreement about production, and return the champion.

    A promotion that the registry has not followed yet is mirrored. A manual change in MLflow is adopted or refused. A version that
    was deleted in MLflow is reported, and it remains what the ledger says it is.

    Args:
        ledger: the ledger.
        tracking: MLflow.
        adopt: whether the ledger accepts a version that someone put into production in MLflow.

    Returns:
        The champion's version, or None if an answering registry and the ledger agree that there is none.

    Raises:
        ChampionDisagreement: someone changed production in MLflow, and that is not adopted.
        RegistryChanged: the registered model is not the one that the ledger describes.
        TrackingUnreachable: the registry does not answer, which is not the same as "no champion".
    """
    rows = ledger.promotions(tracking.model)
    promotion = rows[0] if rows else None
    expected = promotion.version if promotion else None
    state = read_registry(tracking)
    require_same_registry(rows, state, ledger, tracking)
    for sentence in describe_missing(rows, state):
        log.warning("%s", sentence)
    if promotion and promotion.mirrored_at is None:
        log.warning("The MLflow registry has not followed promotion %d yet. Mirroring it.", promotion.sequence)
        mirror(ledger, tracking)
        return expected
    difference = describe_difference(rows, state)
    if difference is None:
        return expected
    if adopt and champion_difference(rows, state):
        return _adopt(expected, state, ledger, tracking)
    if adopt:
        log.warning("%s This alias follows from the history and cannot be adopted. Restoring it.", difference)
        mirror(ledger, tracking)
        return expected
    raise ChampionDisagreement(_changed_manually(difference, tracking))


def _changed_manually(difference: str, tracking: Tracking) -> str:
    return (
        f"{difference} Someone changed it manually in {version_page(tracking.ui, tracking.model)}. Nothing was promoted. `churn reconcile` "
        "restores what the ledger says; with CHURN_HAND_MADE_CHANGES=adopt the next run accepts the change."
    )


def promote(
    decision: DecisionRecord,
    approval: Approval | None,
    ledger: Ledger,
    tracking: Tracking,
    at: datetime | None = None,
) -> Promotion | None:
    """Act on a decision: promote and mirror. A hold, a dry run or a missing approval changes nothing.

    Args:
        decision: the decision.
        approval: a person's answer, if there is one.
        ledger: commits the change.
        tracking: MLflow.
        at: the time of a promotion that is replayed; None: now.

    Returns:
        The promotion, or None if nothing was promoted.

    Raises:
        ArtifactChanged: the challenger's files are not those that were registered.
        ChampionDisagreement: someone changed production in MLflow since the comparison.
        PromotionConflict: production is no longer the champion of the comparison.
        TrackingUnreachable: the ledger has the promotion, but the MLflow registry does not yet; run it again.
    """
    if not may_promote(decision, approval):
        return None
    _require_unchanged(decision, ledger, tracking)
    forced = decision.comparison["case"]["history"]["force"] if decision.code == Reason.FORCED else None
    approved = approval if approval and approval.answer == "approved" else None
    change = Promotion(
        model=decision.model,
        sequence=0,
        version=decision.challenger,
        previous=decision.champion,
        kind="forced" if forced else "promotion",
        night=decision.night,
        reason=decision.sentence + (f" Approved by {approved.by}: {approved.reason}" if approved else ""),
        promoted_at=at or datetime.now(UTC),
        anchor=_baseline_after(decision, ledger),
        actor=approved.by if approved else forced["by"] if forced else POLICY,
        code=decision.code,
    )
    promotion = ledger.promote(change, decision.champion)
    mirror(ledger, tracking)
    return promotion


def may_promote(decision: DecisionRecord, approval: Approval | None) -> bool:
    """Whether a decision, together with a person's answer if there is one, leads to a promotion."""
    if decision.dry_run:
        return False
    approved = approval is not None and approval.answer == "approved"
    if decision.verdict == Verdict.PROMOTE:
        return approved or not decision.approval
    return approved and decision.code == Reason.BATCH_DISPUTED


def take_back(version: int, reason: str, ledger: Ledger, tracking: Tracking) -> Promotion | None:
    """Roll back the promotion of a version whose image differs from the model, if it is still in production.

    The predecessor becomes champion again. If there was none, nothing is in production, since a model that is known to be
    wrong is worse than none. Automatic promotion is frozen.

    Returns:
        The change of production, or None if another version is in production by now.
    """
    rows = ledger.promotions(tracking.model)
    current = rows[0] if rows else None
    if current and (current.kind, current.previous) == ("take_back", version):
        mirror(ledger, tracking)
        return current
    if current is None or current.version != version:
        return None
    name = f"take_back__promotion-{current.sequence}"
    change = return_to(predecessor(rows), "take_back", reason, "the image verification", rows, name)
    promotion = ledger.promote(change, version)
    mirror(ledger, tracking)
    return promotion


def return_to(to: int | None, kind: str, reason: str, actor: str, rows: list[Promotion], night: str) -> Promotion:
    """Describe a change of production to an earlier version, with the baseline version that was valid then."""
    return Promotion(
        model=rows[0].model,
        sequence=0,
        version=to,
        previous=rows[0].version,
        kind=kind,
        night=night,
        reason=reason,
        promoted_at=datetime.now(UTC),
        anchor=anchor_with(to, rows),
        actor=actor,
        code=kind.upper(),
    )


def _require_unchanged(decision: DecisionRecord, ledger: Ledger, tracking: Tracking) -> None:
    """Check that the registry and the challenger's files are as they were compared, unless this run has promoted already."""
    rows = ledger.promotions(decision.model)
    if any(row.night == decision.night and row.version == decision.challenger for row in rows):
        return
    state = read_registry(tracking)
    require_same_registry(rows, state, ledger, tracking)
    difference = describe_difference(rows, state) if rows and rows[0].mirrored_at else None
    # Read again: if another run promoted in between, the ledger's compare-and-set reports that, and nobody changed MLflow.
    if difference and ledger.promotions(decision.model)[0].sequence == rows[0].sequence:
        raise ChampionDisagreement(_changed_manually(difference, tracking))
    with downloaded(decision.challenger, tracking) as files:
        require_registered(decision.challenger, files, ledger, decision.model)


def _baseline_after(decision: DecisionRecord, ledger: Ledger) -> int | None:
    """The challenger if it won; otherwise the present baseline version, unless that can no longer be used."""
    refusal = decision.comparison["case"]["refusal"]
    current = ledger.in_production(decision.model)
    unusable = current is None or current.anchor is None or refusal is not None
    return decision.challenger if unusable or Reason(decision.code).wins else current.anchor if current else None


def _adopt(expected: int | None, state: RegistryState, ledger: Ledger, tracking: Tracking) -> int:
    """Accept a manual change in MLflow, if it concerns exactly one version, and one that a run has trained."""
    unexpected = {version for version in (*state.in_stage, state.champion) if version not in (None, expected)}
    trained = [version for version in unexpected if version and ledger.version(tracking.model, version)]
    if len(unexpected) != 1 or not trained:
        what = ", ".join(named(version) for version in sorted(filter(None, unexpected))) or "no version"
        raise ChampionDisagreement(
            f"Someone put {what} into production in {version_page(tracking.ui, tracking.model)} instead of {named(expected)}. That cannot be "
            "adopted: it must be exactly one version, and one that a run has trained. Nothing was promoted. `churn reconcile` restores the MLflow registry."
        )
    now = datetime.now(UTC)
    rows = ledger.promotions(tracking.model)
    reason = f"Changed manually in MLflow, and adopted instead of {named(expected)}."
    change = Promotion(
        model=tracking.model,
        sequence=0,
        version=trained[0],
        previous=expected,
        kind="adopted",
        night=f"adopted__{now:%Y-%m-%dT%H:%M:%S.%f}",
        reason=reason,
        promoted_at=now,
        anchor=rows[0].anchor if rows and rows[0].anchor else trained[0],
        actor="someone in MLflow",
        code="ADOPTED",
    )
    ledger.promote(change, expected)
    log.warning("Version %d: %s", trained[0], reason)
    mirror(ledger, tracking)
    return trained[0]
