"""Back to an earlier version, within seconds: checked, compare-and-set, without training or building anew."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from churn.errors import ChurnError
from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord, Promotion
from churn.foundation.tracking import Tracking
from churn.release.image import ImageSpec
from churn.release.lineage import predecessor
from churn.release.mirror import mirror, named, read_registry
from churn.release.promotion import describe_difference, return_to
from churn.release.publishing import has_image, point_production

log = logging.getLogger(__name__)


class RollbackRefused(ChurnError):  # noqa: N818 -- it says what happened
    """There is no way back to that version."""


@dataclass(frozen=True)
class RolledBack:
    """The change of production; `image` is that of the version, None where it has to be built again."""

    promotion: Promotion
    image: ImageRecord | None


def roll_back(
    to: int | None, reason: str, actor: str, night: str, ledger: Ledger, tracking: Tracking, spec: ImageSpec
) -> RolledBack:
    """Put an earlier version back into production; automatic promotion is frozen from then on.

    Args:
        to: the version; None for the one before the present champion.
        reason: why; kept.
        actor: who.
        night: name of the act: the same name again changes nothing more.
        ledger: commits.
        tracking: MLflow.
        spec: where images are.

    Raises:
        RollbackRefused: it never was in production, its files are not the registered ones, or its image is not the model.
        PromotionConflict: somebody changed production meanwhile.
        EngineFailed: its image is published, and no engine answers.
        TrackingUnreachable: MLflow is away; nothing was changed, or the registry follows with the next try.
    """
    rows = ledger.promotions(tracking.model)
    if not rows:
        raise RollbackRefused(
            "Nothing has ever been in production: there is no way back. `churn run` makes a first champion."
        )
    done = next((row for row in rows if (row.night, row.kind) == (night, "rollback")), None)
    version = done.version if done else to or predecessor(rows)
    if version is None:
        raise RollbackRefused(
            f"Before {named(rows[0].version)} nothing was in production that could come back. `churn history` says what was; name one with --to."
        )
    state = read_registry(tracking)
    moved = describe_difference(rows, state) if rows[0].mirrored_at else None
    _require_whole(version, rows, ledger, tracking)
    image = _image(version, ledger, tracking, spec)
    if moved:
        log.warning("%s The rollback overrides that.", moved)
    if done is None and version == rows[0].version:
        raise RollbackRefused(f"{named(version).capitalize()} is in production already.")
    promotion = done or ledger.promote(return_to(version, "rollback", reason, actor, rows, night), rows[0].version)
    mirror(ledger, tracking)
    if image:
        point_production(image, spec)
    return RolledBack(promotion, image)


def _require_whole(version: int, rows: list[Promotion], ledger: Ledger, tracking: Tracking) -> None:
    """It was in production, and its files still are what was registered."""
    if version not in {row.version for row in rows}:
        raise RollbackRefused(
            f"Version {version} never was in production: `churn history` lists those that were. A new version comes in by a night."
        )
    try:
        with downloaded(version, tracking) as files:
            require_registered(version, files, ledger, tracking.model)
    except ArtifactChanged as changed:
        raise RollbackRefused(f"Version {version} does not come back: {changed}") from changed


def _image(version: int, ledger: Ledger, tracking: Tracking, spec: ImageSpec) -> ImageRecord | None:
    image = ledger.image(tracking.model, version)
    if image and image.state == "mismatch":
        raise RollbackRefused(
            f"The image of version {version} is not the model ({image.detail}): it does not come back. "
            f"If that has changed, `churn image build --version {version}` asks a new one."
        )
    return image if image and has_image(image, spec) else None
