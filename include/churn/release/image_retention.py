"""Removes images from this machine that are no longer needed. Those that are or recently were in production are kept.

An image registry has its own retention policy; what it keeps can be pulled again by its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from churn.foundation.ledger import Ledger
from churn.release.engine import Engine
from churn.release.image import MODEL_LABEL, RUN_LABEL, VERSION_LABEL
from churn.release.publishing import PRODUCTION_TAG


@dataclass(frozen=True)
class StoredImage:
    """An image of a version on this machine. `reason` says why it is kept; None if it may be removed."""

    version: int
    image_id: str
    tags: list[str]
    size: int
    reason: str | None


def list_stored(keep: int, ledger: Ledger, model: str, engine: Engine) -> list[StoredImage]:
    """Every image of the model on this machine, the newest version first.

    Args:
        keep: number of most recent production versions whose images are kept.
        ledger: knows what is and was in production, and which image of a version was published.
        model: the registered model.
        engine: holds the images.
    """
    rows = ledger.promotions(model)
    lately = list(dict.fromkeys(row.version for row in rows if row.version))[:keep]
    waiting = {decision.challenger for decision in ledger.open_decisions(model)}
    images = [
        StoredImage(
            version := int(image["labels"].get(VERSION_LABEL, 0)),
            image["id"],
            image["tags"],
            image["size"],
            _reason(version, image, lately, waiting, ledger, model),
        )
        for image in engine.images(f"{MODEL_LABEL}={model}")
    ]
    return sorted(images, key=lambda image: (-image.version, image.image_id))


def remove_images(images: list[StoredImage], ledger: Ledger, model: str, engine: Engine) -> list[StoredImage]:
    """Remove images; returns those that were removed. One that a container uses is kept."""
    removed = []
    for image in images:
        if not engine.remove_image(image.image_id):
            continue
        removed.append(image)
        record = ledger.image(model, image.version)
        if record and record.state == "published" and record.image_id == image.image_id:
            ledger.record_image(replace(record, state="pruned", recorded_at=datetime.now(UTC)))
    return removed


def _reason(
    version: int, image: dict[str, Any], lately: list[int], waiting: set[int], ledger: Ledger, model: str
) -> str | None:
    trained, record = ledger.version(model, version), ledger.image(model, version)
    if trained is None or trained.run_id != image["labels"].get(RUN_LABEL):
        return "belongs to a version of another project"
    if any(tag.rpartition(":")[2] == PRODUCTION_TAG for tag in image["tags"]):
        return f"is tagged {PRODUCTION_TAG}"
    if record is None or record.image_id != image["id"]:
        return None  # of a build that was never published, or that another one has replaced
    if version in lately:
        return "is in production" if version == lately[0] else "was in production"
    return "is waiting for an approval" if version in waiting else None
