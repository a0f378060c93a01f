"""Rollback to an earlier version within seconds: checked, compare-and-set, without training or building."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from churn.errors import ChurnError
from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord, Promotion
from churn.foundation.tracking import Tracking, TrackingGone
from churn.release.agreement import describe_difference, require_same_registry
from churn.release.image import ImageSpec
from churn.release.lineage import predecessor
from churn.release.mirror import RegistryState, mirror, named, read_registry
from churn.release.promotion import return_to
from churn.release.publishing import has_image, point_production

log = logging.getLogger(__name__)


class RollbackRefused(ChurnError):  # noqa: N818 -- names the event
    """It is not possible to return to that version."""


@dataclass(frozen=True)
class RolledBack:
    """The change of production. `image` is the image of the version; None if it has to be built again."""

    promotion: Promotion
    image: ImageRecord | None


def roll_back(
    to: int | None, reason: str, actor: str, night: str, ledger: Ledger, tracking: Tracking, spec: ImageSpec
) -> RolledBack:
    """Return to an earlier version. Automatic promotion is frozen from then on.

    Args:
        to: the version; None for the one before the present champion.
        reason: why; it is kept.
        actor: the person.
        night: id of the rollback. Repeating it with the same id changes nothing.
        ledger: commits the change.
        tracking: MLflow.
        spec: where images are.

    Raises:
        RegistryChanged: the registered model is not the one that the ledger describes.
        RollbackRefused: it was never in production, was deleted in MLflow, its files are not the registered ones, or its image is not the model.
        PromotionConflict: production was changed meanwhile.
        EngineFailed: its image is published, but no container engine answers.
        TrackingUnreachable: MLflow is unavailable. Nothing was changed, or the registry follows with the next try.
    """
    rows = ledger.promotions(tracking.model)
    if not rows:
        raise RollbackRefused(
            "Nothing has ever been in production, so there is nothing to return to. `churn run` creates a first champion."
        )
    done = next((row for row in rows if (row.night, row.kind) == (night, "rollback")), None)
    state = read_registry(tracking)
    require_same_registry(rows, state, ledger, tracking)
    version = done.version if done else to or predecessor(rows, state.versions)
    if version is None:
        raise RollbackRefused(_nothing_before(rows, state))
    difference = describe_difference(rows, state) if rows[0].mirrored_at else None
    _require_intact(version, rows, state, ledger, tracking)
    image = _image(version, ledger, tracking, spec)
    if difference:
        log.warning("%s The rollback overrides this.", difference)
    if done is None and version == rows[0].version:
        raise RollbackRefused(f"{named(version).capitalize()} is already in production.")
    promotion = done or ledger.promote(return_to(version, "rollback", reason, actor, rows, night), rows[0].version)
    mirror(ledger, tracking)
    current = ledger.in_production(tracking.model)
    if image and current and current.version == version:  # otherwise the rollback is repeated after a later promotion
        point_production(image, spec)
    return RolledBack(promotion, image)


def _nothing_before(rows: list[Promotion], state: RegistryState) -> str:
    """Why there is no version to return to unless one is named, and which others were in production."""
    others = sorted({row.version for row in rows if row.version} - {rows[0].version})
    gone = ", ".join(str(version) for version in others if version not in state.versions)
    left = ", ".join(str(version) for version in others if version in state.versions)
    deleted = f" Deleted in MLflow: version {gone}." if gone else ""
    next_step = (
        f"Name one that was in production with --to: {left}."
        if left
        else "`churn run --retrain` trains a new one, and `--force REASON` promotes it."
    )
    return f"There is no version before {named(rows[0].version)} to return to.{deleted} {next_step}"


def _require_intact(
    version: int, rows: list[Promotion], state: RegistryState, ledger: Ledger, tracking: Tracking
) -> None:
    """Check that the version was in production, still exists, and has the files that were registered."""
    if version not in {row.version for row in rows}:
        raise RollbackRefused(
            f"Version {version} was never in production. `churn history` lists the versions that were. A new version is promoted by a run."
        )
    if version not in state.versions:
        others = sorted(
            {row.version for row in rows if row.version and row.version in state.versions} - {rows[0].version}
        )
        choice = (
            f"Choose one of these with --to: {', '.join(map(str, others))}." if others else "No other version is left."
        )
        raise RollbackRefused(f"Version {version} cannot be restored, because it was deleted in MLflow. {choice}")
    try:
        with downloaded(version, tracking) as files:
            require_registered(version, files, ledger, tracking.model)
    except (ArtifactChanged, TrackingGone) as changed:
        raise RollbackRefused(f"Version {version} cannot be restored: {changed}") from changed


def _image(version: int, ledger: Ledger, tracking: Tracking, spec: ImageSpec) -> ImageRecord | None:
    image = ledger.image(tracking.model, version)
    if image and image.state == "mismatch":
        raise RollbackRefused(
            f"Version {version} cannot be restored, because its image differs from the model ({image.detail}). "
            f"If the cause has been fixed, build a new image first: `churn image build --version {version}`."
        )
    return image if image and has_image(image, spec) else None
