"""Images that nobody needs any more go from this machine; what is or was in production lately stays.

A registry of images has a retention policy of its own; what it keeps comes back by its digest.
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
    """An image of a version on this machine; `reason` says why it stays, None if it may go."""

    version: int
    image_id: str
    tags: list[str]
    size: int
    reason: str | None


def list_stored(keep: int, ledger: Ledger, model: str, engine: Engine) -> list[StoredImage]:
    """Every image of the model on this machine, the newest version first.

    Args:
        keep: so many of the versions that were in production last stay.
        ledger: knows what is and was in production, and which image of a version was published.
        model: the registered model.
        engine: holds the images.
    """
    rows = ledger.promotions(model)
    lately = list(dict.fromkeys(row.version for row in rows if row.version))[:keep]
    waiting = {decision.challenger for decision in ledger.open_decisions(model)}
    found = [
        StoredImage(
            version := int(one["labels"].get(VERSION_LABEL, 0)),
            one["id"],
            one["tags"],
            one["size"],
            _reason(version, one, lately, waiting, ledger, model),
        )
        for one in engine.images(f"{MODEL_LABEL}={model}")
    ]
    return sorted(found, key=lambda image: (-image.version, image.image_id))


def remove_images(images: list[StoredImage], ledger: Ledger, model: str, engine: Engine) -> list[StoredImage]:
    """Remove images; returns those that went. One that a container uses stays."""
    gone = []
    for image in images:
        if not engine.remove_image(image.image_id):
            continue
        gone.append(image)
        known = ledger.image(model, image.version)
        if known and known.state == "published" and known.image_id == image.image_id:
            ledger.record_image(replace(known, state="pruned", recorded_at=datetime.now(UTC)))
    return gone


def _reason(
    version: int, image: dict[str, Any], lately: list[int], waiting: set[int], ledger: Ledger, model: str
) -> str | None:
    trained, known = ledger.version(model, version), ledger.image(model, version)
    if trained is None or trained.run_id != image["labels"].get(RUN_LABEL):
        return "is of another project's run"
    if any(tag.rpartition(":")[2] == PRODUCTION_TAG for tag in image["tags"]):
        return f"is tagged {PRODUCTION_TAG}"
    if known is None or known.image_id != image["id"]:
        return None  # of a build that was never published, or of one that another has replaced
    if version in lately:
        return "is in production" if version == lately[0] else "was in production"
    return "waits for an approval" if version in waiting else None
