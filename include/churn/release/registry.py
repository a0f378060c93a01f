"""The only module that moves versions. The ledger commits, the MLflow registry mirrors.

A promotion is one row of the ledger, compare-and-set. `mirror` brings the registry to the ledger's
last row and can be repeated: a crash in between is mended by the next call.
"""

from __future__ import annotations

import logging

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from churn.decision.policy import Verdict
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.records import DecisionRecord, Promotion
from churn.foundation.tracking import Tracking

log = logging.getLogger(__name__)

CHAMPION = "champion"
PREVIOUS = "previous"
PRODUCTION = "Production"
ARCHIVED = "Archived"
_MARK = "\n\n---\n"


class ChampionDisagreement(ChurnError):  # noqa: N818 -- it says what is the matter
    """Registry and ledger name different champions, although the registry had taken the promotion over."""


def find_champion(ledger: Ledger, tracking: Tracking) -> int | None:
    """The version in production: what the registry says, and it must be what the ledger says.

    Returns:
        Its number, or None if an answering registry and the ledger agree that there is none.

    Raises:
        ChampionDisagreement: somebody moved the alias by hand.
        TrackingUnreachable: the registry does not answer; that is not "no champion".
    """
    promotion = ledger.in_production(tracking.model)
    expected = promotion.version if promotion else None
    found = registry_champion(tracking)
    if promotion and promotion.mirrored_at is None:
        log.warning("The registry has not taken over promotion %d yet: mirroring it.", promotion.sequence)
        mirror(promotion, ledger, tracking)
        return expected
    if found == expected:
        return expected
    raise ChampionDisagreement(
        f"The registry says champion of {tracking.model} is {_version(found)}, the ledger says {_version(expected)}. "
        f"Somebody moved the alias by hand: set `{CHAMPION}` back to {_version(expected)} in {tracking.ui}/#/models/{tracking.model}, "
        "then run the step again. Nothing was promoted."
    )


def registry_champion(tracking: Tracking) -> int | None:
    """The version that the registry's alias names, or None if an answering registry has none."""
    with tracking.explained("say which version is in production"):
        try:
            aliases = tracking.client.get_registered_model(tracking.model).aliases
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return None
            raise
    return int(aliases[CHAMPION]) if CHAMPION in aliases else None


def promote(decision: DecisionRecord, ledger: Ledger, tracking: Tracking) -> Promotion | None:
    """Act on a decision: promote and mirror, or nothing on a hold or a dry run.

    Raises:
        PromotionConflict: production is no longer the champion of the comparison.
        TrackingUnreachable: the ledger has the promotion, the registry not yet; run it again.
    """
    if decision.verdict != Verdict.PROMOTE or decision.dry_run:
        return None
    promotion = ledger.promote(
        decision.model, decision.challenger, decision.champion, "promotion", decision.night, decision.sentence
    )
    mirror(ledger.in_production(decision.model) or promotion, ledger, tracking)
    return promotion


def take_back(version: int, reason: str, ledger: Ledger, tracking: Tracking) -> Promotion | None:
    """Undo the promotion of a version whose image is not the model, if it still is in production.

    The predecessor is champion again. If there was none, nothing is in production: a model that is
    proven wrong is worse than none, and the next night may promote a first champion anew.

    Returns:
        The row that took it back, or None if another version is in production by now.
    """
    rows = ledger.promotions(tracking.model)
    current = rows[0] if rows else None
    if current and (current.kind, current.previous) == ("take_back", version):
        mirror(current, ledger, tracking)
        return current
    if current is None or current.version != version:
        return None
    promoted = next(row for row in rows if (row.kind, row.version) == ("promotion", version))
    row = ledger.promote(tracking.model, _predecessor(rows, promoted), version, "take_back", promoted.night, reason)
    mirror(row, ledger, tracking)
    return row


def _predecessor(rows: list[Promotion], promoted: Promotion) -> int | None:
    """The version that was promoted last before this one and has not been taken back itself."""
    taken_back = {row.previous for row in rows if row.kind == "take_back"}
    earlier = [row.version for row in rows if row.kind == "promotion" and row.sequence < promoted.sequence]
    return next((version for version in earlier if version not in taken_back), None)


def mirror(promotion: Promotion, ledger: Ledger, tracking: Tracking) -> None:
    """Bring the registry to a promotion: stages, tags, description, `previous`, and `champion` last.

    Every step looks before it writes; done twice, the second does nothing.

    Raises:
        TrackingUnreachable: the registry is away; repeat it.
    """
    client, model = tracking.client, tracking.model
    with tracking.explained(f"take over promotion {promotion.sequence}"):
        if promotion.version is not None:
            version = tracking.version(promotion.version)
            if version.current_stage != PRODUCTION:
                client.transition_model_version_stage(model, str(promotion.version), PRODUCTION)
            _describe(version, promotion, tracking)
        for other in client.search_model_versions(f"name = '{model}'"):
            if other.current_stage == PRODUCTION and int(other.version) != promotion.version:
                _describe_end(other, promotion, tracking)
                client.transition_model_version_stage(model, str(other.version), ARCHIVED)
        aliases = {name: int(number) for name, number in client.get_registered_model(model).aliases.items()}
        if promotion.kind == "take_back":
            if PREVIOUS in aliases:  # it would name the version that was taken back
                client.delete_registered_model_alias(model, PREVIOUS)
        elif promotion.previous is not None and aliases.get(PREVIOUS) != promotion.previous:
            client.set_registered_model_alias(model, PREVIOUS, str(promotion.previous))
        if promotion.version is None:
            if CHAMPION in aliases:
                client.delete_registered_model_alias(model, CHAMPION)
        elif aliases.get(CHAMPION) != promotion.version:
            client.set_registered_model_alias(model, CHAMPION, str(promotion.version))
    ledger.mark_mirrored(promotion)


def _describe(version: ModelVersion, promotion: Promotion, tracking: Tracking) -> None:
    tags = {
        "churn.promoted_by": promotion.night,
        "churn.promoted_at": promotion.promoted_at.isoformat(timespec="seconds"),
        "churn.promotion": promotion.kind,
        "churn.promotion_reason": promotion.reason,
    }
    for name, value in tags.items():
        if version.tags.get(name) != value:
            tracking.client.set_model_version_tag(tracking.model, str(version.version), name, value)
    origin = (version.description or "").split(_MARK)[0]
    since = f"In production since {tags['churn.promoted_at']} by night {promotion.night}: {promotion.reason}"
    if version.description != origin + _MARK + since:
        tracking.client.update_model_version(tracking.model, str(version.version), origin + _MARK + since)


def _describe_end(version: ModelVersion, promotion: Promotion, tracking: Tracking) -> None:
    until = f" Until {promotion.promoted_at.isoformat(timespec='seconds')}, then {_version(promotion.version)}."
    if version.description and _MARK in version.description and not version.description.endswith(until):
        tracking.client.update_model_version(tracking.model, str(version.version), version.description + until)


def _version(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
