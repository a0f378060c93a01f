"""Brings the MLflow registry into line with the ledger: stages, tags, descriptions, and the alias `champion` last.

Every step checks before it writes, so that repeating it changes nothing. The next call completes one that was interrupted.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from churn.foundation.ledger import Ledger
from churn.foundation.records import Promotion
from churn.foundation.tracking import NonsenseAnswer, Tracking
from churn.release.lineage import predecessor

CHAMPION, PREVIOUS, ANCHOR = "champion", "previous", "anchor"
PRODUCTION, ARCHIVED = "Production", "Archived"
_NOT_MIRRORED = "The ledger has recorded the change of production; the next run or `churn reconcile` brings the MLflow registry into line."
_MARK = "\n\n---\n"


@dataclass(frozen=True)
class RegistryState:
    """The state of the registry: its aliases, the versions in stage Production, and the MLflow run of every version.

    `runs` is None if the registered model does not exist.
    """

    aliases: dict[str, int]
    in_stage: tuple[int, ...]
    runs: dict[int, str] | None

    @property
    def champion(self) -> int | None:
        """The version that the alias names."""
        return self.aliases.get(CHAMPION)

    @property
    def versions(self) -> Container[int]:
        """The versions that exist."""
        return self.runs or ()


def read_registry(tracking: Tracking) -> RegistryState:
    """Read the state of the registry. A model that it does not know has neither aliases nor versions.

    Raises:
        TrackingUnreachable: the registry does not answer.
    """
    with tracking.explained("read which version is in production"):
        try:
            model = tracking.client.get_registered_model(tracking.model)
        except MlflowException as error:
            if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                return RegistryState({}, (), None)
            raise
        if model.name != tracking.model or not all(str(number).isdigit() for number in model.aliases.values()):
            raise NonsenseAnswer(f"it was asked for model {tracking.model} and describes another")
        versions = {int(version.version): version for version in _versions(tracking)}
    return RegistryState(
        {name: int(number) for name, number in model.aliases.items()},
        tuple(sorted(number for number, version in versions.items() if version.current_stage == PRODUCTION)),
        {number: str(version.run_id) for number, version in versions.items()},
    )


def mirror(ledger: Ledger, tracking: Tracking) -> Promotion | None:
    """Mirror the last promotion of the ledger, and any that is made meanwhile. A version that was deleted in MLflow is left out.

    Returns:
        The promotion that the registry now shows; None if there has been none.

    Raises:
        TrackingUnreachable: the registry is unavailable; repeat the call.
    """
    rows = ledger.promotions(tracking.model)
    while rows:
        _mirror(rows, tracking)
        ledger.mark_mirrored(rows[0])
        shown, rows = rows[0], ledger.promotions(tracking.model)
        if rows[0].sequence == shown.sequence:
            return shown
    return None


def _mirror(rows: Sequence[Promotion], tracking: Tracking) -> None:
    client, model, promotion = tracking.client, tracking.model, rows[0]
    with tracking.explained(f"mirror promotion {promotion.sequence}", _NOT_MIRRORED):
        versions = {int(version.version): version for version in _versions(tracking)}
        if promotion.version in versions:
            version = versions[promotion.version]
            if version.current_stage != PRODUCTION:
                client.transition_model_version_stage(model, str(promotion.version), PRODUCTION)
            _describe(version, promotion, tracking)
        for number, earlier in versions.items():
            if earlier.current_stage == PRODUCTION and number != promotion.version:
                _describe_end(earlier, promotion, tracking)
                client.transition_model_version_stage(model, str(number), ARCHIVED)
        wanted = aliases_of(rows, versions)
        aliases = {name: int(number) for name, number in client.get_registered_model(model).aliases.items()}
        for name, named_version in wanted.items():
            if named_version is None and name in aliases:
                client.delete_registered_model_alias(model, name)
            elif named_version is not None and aliases.get(name) != named_version:
                client.set_registered_model_alias(model, name, str(named_version))


def aliases_of(rows: Sequence[Promotion], existing: Container[int]) -> dict[str, int | None]:
    """The version that each alias names according to the ledger, `champion` last; None for one that no longer exists.

    Args:
        rows: every change of production, newest first, at least one.
        existing: the versions that exist.
    """
    named = {PREVIOUS: predecessor(rows, existing), ANCHOR: rows[0].anchor, CHAMPION: rows[0].version}
    return {name: number if number is not None and number in existing else None for name, number in named.items()}


def _versions(tracking: Tracking) -> list[ModelVersion]:
    versions: list[ModelVersion] = list(tracking.client.search_model_versions(f"name = '{tracking.model}'"))
    return versions


def _describe(version: ModelVersion, promotion: Promotion, tracking: Tracking) -> None:
    tags = {
        "churn.promoted_by": promotion.night,
        "churn.promoted_at": promotion.promoted_at.isoformat(timespec="seconds"),
        "churn.promotion": promotion.kind,
        "churn.promotion_actor": promotion.actor,
        "churn.promotion_code": promotion.code,
        "churn.promotion_reason": promotion.reason,
    }
    for name, value in tags.items():
        if value and version.tags.get(name) != value:
            tracking.client.set_model_version_tag(tracking.model, str(version.version), name, value)
    origin = (version.description or "").split(_MARK)[0]
    since = f"In production since {tags['churn.promoted_at']} by {promotion.actor or 'the policy'} in run {promotion.night}: {promotion.reason}"
    if version.description != origin + _MARK + since:
        tracking.client.update_model_version(tracking.model, str(version.version), origin + _MARK + since)


def _describe_end(version: ModelVersion, promotion: Promotion, tracking: Tracking) -> None:
    until = f" Until {promotion.promoted_at.isoformat(timespec='seconds')}, then {named(promotion.version)}."
    if version.description and _MARK in version.description and not version.description.endswith(until):
        tracking.client.update_model_version(tracking.model, str(version.version), version.description + until)


def named(number: int | None) -> str:
    """Name a version in words."""
    return "no version" if number is None else f"version {number}"
