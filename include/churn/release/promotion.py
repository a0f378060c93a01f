"""The only module that moves versions. The ledger commits, the MLflow registry mirrors.

A promotion is one row of the ledger, compare-and-set; `mirror` brings the registry to it. What somebody
moved in the registry by hand is adopted or refused, never overwritten in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from churn.decision.comparative_rules import DISPUTED
from churn.decision.policy import FORCED, Verdict
from churn.errors import ChurnError
from churn.foundation.artifacts import downloaded, require_registered
from churn.foundation.ledger import Ledger
from churn.foundation.records import Approval, DecisionRecord, Promotion
from churn.foundation.tracking import Tracking
from churn.release.lineage import anchor_with, predecessor
from churn.release.mirror import ANCHOR, PREVIOUS, RegistryState, mirror, named, read_registry

log = logging.getLogger(__name__)

POLICY = "the policy"
"""Who promotes when no person does."""
_WINS = frozenset({"NO_CHAMPION", "SUPERIOR"})


class ChampionDisagreement(ChurnError):  # noqa: N818 -- it says what is the matter
    """Registry and ledger name different champions, although the registry had taken the promotion over."""


def find_champion(ledger: Ledger, tracking: Tracking, adopt: bool = False) -> int | None:
    """The version in production: what the registry says, and it must be what the ledger says.

    Args:
        ledger: the ledger.
        tracking: MLflow.
        adopt: whether a version that somebody put into production in MLflow becomes the ledger's too.

    Returns:
        Its number, or None if an answering registry and the ledger agree that there is none.

    Raises:
        ChampionDisagreement: somebody moved a version by hand, and that is not adopted.
        TrackingUnreachable: the registry does not answer; that is not "no champion".
    """
    rows = ledger.promotions(tracking.model)
    promotion = rows[0] if rows else None
    expected = promotion.version if promotion else None
    state = read_registry(tracking)
    if promotion and promotion.mirrored_at is None:
        log.warning("The registry has not taken over promotion %d yet: mirroring it.", promotion.sequence)
        mirror(ledger, tracking)
        return expected
    moved = moved_by_hand(rows, state)
    if moved is None:
        return expected
    if adopt and champion_moved(expected, state):
        return _adopt(expected, state, ledger, tracking)
    if adopt:
        log.warning("%s That follows from the history, and cannot be adopted: it is put right.", moved)
        mirror(ledger, tracking)
        return expected
    raise ChampionDisagreement(
        f"{moved} Somebody moved it by hand in {tracking.ui}/#/models/{tracking.model}. `churn reconcile` puts the registry back to "
        "what the ledger says; CHURN_HAND_MADE_CHANGES=adopt takes it over with the next night. Nothing was promoted."
    )


def moved_by_hand(rows: Sequence[Promotion], state: RegistryState) -> str | None:
    """What the registry says that the ledger does not, in a sentence; None if they agree.

    Args:
        rows: every change of production, newest first.
        state: what the registry says.
    """
    moved = champion_moved(rows[0].version if rows else None, state)
    if moved or not rows:
        return moved
    for name, expected in ((PREVIOUS, predecessor(rows)), (ANCHOR, rows[0].anchor)):
        if state.aliases.get(name) != expected:
            return f"The registry's alias {name} names {named(state.aliases.get(name))}, by the ledger it is {named(expected)}."
    return None


def champion_moved(expected: int | None, state: RegistryState) -> str | None:
    """How the registry's champion, by alias or stage, is not the expected one; None if it is."""
    strangers = [version for version in state.in_stage if version != expected]
    if state.champion != expected:
        return f"The registry's champion is {named(state.champion)}, the ledger's is {named(expected)}."
    if strangers or (expected is not None and expected not in state.in_stage):
        staged = ", ".join(map(named, state.in_stage)) or "no version"
        return f"In the registry's stage Production is {staged}; the ledger's champion is {named(expected)}."
    return None


def promote(
    decision: DecisionRecord, approval: Approval | None, ledger: Ledger, tracking: Tracking
) -> Promotion | None:
    """Act on a decision: promote and mirror, or nothing on a hold, a dry run, or without a person's yes where one is needed.

    Raises:
        ArtifactChanged: the challenger's files are not those that were registered.
        PromotionConflict: production is no longer the champion of the comparison.
        TrackingUnreachable: the ledger has the promotion, the registry not yet; run it again.
    """
    if not may_promote(decision, approval):
        return None
    _require_whole(decision, ledger, tracking)
    forced = decision.comparison["case"]["history"]["force"] if decision.code == FORCED else None
    yes = approval if approval and approval.answer == "approved" else None
    change = Promotion(
        model=decision.model,
        sequence=0,
        version=decision.challenger,
        previous=decision.champion,
        kind="forced" if forced else "promotion",
        night=decision.night,
        reason=decision.sentence + (f" Approved by {yes.by}: {yes.reason}" if yes else ""),
        promoted_at=datetime.now(UTC),
        anchor=_anchor_after(decision, ledger),
        actor=yes.by if yes else forced["by"] if forced else POLICY,
        code=decision.code,
    )
    promotion = ledger.promote(change, decision.champion)
    mirror(ledger, tracking)
    return promotion


def may_promote(decision: DecisionRecord, approval: Approval | None) -> bool:
    """Whether a decision, with the answer of a person if there is one, leads to a promotion."""
    if decision.dry_run:
        return False
    approved = approval is not None and approval.answer == "approved"
    if decision.verdict == Verdict.PROMOTE:
        return approved or not decision.approval
    return approved and decision.code == DISPUTED


def take_back(version: int, reason: str, ledger: Ledger, tracking: Tracking) -> Promotion | None:
    """Undo the promotion of a version whose image is not the model, if it still is in production.

    The predecessor is champion again. If there was none, nothing is in production: a model that is
    proven wrong is worse than none. Automatic promotion is frozen.

    Returns:
        The row that took it back, or None if another version is in production by now.
    """
    rows = ledger.promotions(tracking.model)
    current = rows[0] if rows else None
    if current and (current.kind, current.previous) == ("take_back", version):
        mirror(ledger, tracking)
        return current
    if current is None or current.version != version:
        return None
    undone = f"take_back__promotion-{current.sequence}"
    change = way_back(predecessor(rows), "take_back", reason, "the image's verification", rows, undone)
    row = ledger.promote(change, version)
    mirror(ledger, tracking)
    return row


def way_back(to: int | None, kind: str, reason: str, actor: str, rows: list[Promotion], night: str) -> Promotion:
    """A change of production to an earlier version, with the anchor that was in force then."""
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


def _require_whole(decision: DecisionRecord, ledger: Ledger, tracking: Tracking) -> None:
    """What goes into production is what was compared; a night that has promoted already is only mirrored again."""
    if any(
        row.night == decision.night and row.version == decision.challenger for row in ledger.promotions(decision.model)
    ):
        return
    with downloaded(decision.challenger, tracking) as files:
        require_registered(decision.challenger, files, ledger, decision.model)


def _anchor_after(decision: DecisionRecord, ledger: Ledger) -> int | None:
    """The winner where it won; else the yardstick stays, unless it cannot be used any more."""
    refusal = decision.comparison["case"]["refusal"]
    current = ledger.in_production(decision.model)
    unusable = current is None or current.anchor is None or refusal is not None
    return decision.challenger if decision.code in _WINS or unusable else current.anchor if current else None


def _adopt(expected: int | None, state: RegistryState, ledger: Ledger, tracking: Tracking) -> int:
    """Take over what somebody did by hand, if it is one version, and one that a night has trained."""
    strangers = {version for version in (*state.in_stage, state.champion) if version not in (None, expected)}
    known = [version for version in strangers if version and ledger.version(tracking.model, version)]
    if len(strangers) != 1 or not known:
        what = (
            "no version" if not strangers else ", ".join(named(version) for version in sorted(filter(None, strangers)))
        )
        raise ChampionDisagreement(
            f"By hand {what} was put into production in {tracking.ui}/#/models/{tracking.model} instead of {named(expected)}. That cannot be adopted: "
            "it must be one version, and one that a night has trained. `churn reconcile` puts the registry back. Nothing was promoted."
        )
    now = datetime.now(UTC)
    rows = ledger.promotions(tracking.model)
    reason = f"Moved by hand in MLflow; found and adopted instead of {named(expected)}."
    change = Promotion(
        model=tracking.model,
        sequence=0,
        version=known[0],
        previous=expected,
        kind="adopted",
        night=f"adopted__{now:%Y-%m-%dT%H:%M:%S.%f}",
        reason=reason,
        promoted_at=now,
        anchor=rows[0].anchor if rows and rows[0].anchor else known[0],
        actor="somebody in MLflow",
        code="ADOPTED",
    )
    ledger.promote(change, expected)
    log.warning("Version %d: %s", known[0], reason)
    mirror(ledger, tracking)
    return known[0]
