"""A verified image gets its name, goes to the registry of images, and may be named `production`; or it stays unpublished."""

from __future__ import annotations

from datetime import UTC, datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord
from churn.release.engine import Engine
from churn.release.image import BuiltImage, ImageSpec
from churn.release.verify import Verification

PRODUCTION_TAG = "production"


def find_published(version: int, ledger: Ledger, model: str, spec: ImageSpec) -> ImageRecord | None:
    """The image of a version, if it was published and still is there; None if it is to be built.

    Raises:
        EngineFailed: it was published, and no engine answers.
    """
    image = ledger.image(model, version)
    if image is None or image.state not in ("published", "pruned") or image.tag != f"{spec.name}:{version}":
        return None
    return image if has_image(image, spec) else None


def publish_image(built: BuiltImage, verification: Verification, model: str, spec: ImageSpec) -> ImageRecord:
    """Name the verified image by its version, here and in the registry of images if there is one; repeated, it changes nothing.

    Returns:
        What the ledger is to remember: `published`, or `not_built` on a machine without an engine.

    Raises:
        EngineFailed: the engine or the registry is away.
    """
    said = verification.sentence
    if built.image_id is None:
        detail = f"not built: no container engine; the same service in an environment of its own: {said}"
        return _record(model, built, "not_built", detail, verification)
    engine, tag = Engine.require(spec.engine), str(built.version)
    engine.tag(built.image_id, spec.name, tag)
    digest = engine.push(spec.name, tag, spec.credentials()) if spec.registry else None
    size = engine.size(built.image_id)
    return _record(model, built, "published", said, verification, f"{spec.name}:{tag}", digest, size)


def has_image(image: ImageRecord, spec: ImageSpec) -> bool:
    """Whether a version's image still is the one that was published, here or in its registry; one that was never built needs none.

    Raises:
        EngineFailed: it was published, and no engine answers.
    """
    if image.image_id is None:
        return True
    engine = Engine.require(spec.engine)
    return engine.has(image.image_id) or bool(
        image.digest and engine.in_registry(_by_digest(image), spec.credentials())
    )


def fetch_image(image: ImageRecord, spec: ImageSpec) -> None:
    """Have a published image on this machine; one that was pruned here comes back from its registry.

    Raises:
        EngineFailed: it cannot be had.
    """
    engine = Engine.require(spec.engine)
    if image.image_id and not engine.has(image.image_id):
        engine.pull(_by_digest(image), spec.credentials())


def point_production(image: ImageRecord, spec: ImageSpec) -> None:
    """Let the tag `production` name a published image, here and in the registry; repeated, it changes nothing."""
    if image.image_id is None or image.state not in ("published", "pruned"):
        return
    fetch_image(image, spec)
    engine = Engine.require(spec.engine)
    engine.tag(image.image_id, spec.name, PRODUCTION_TAG)
    if spec.registry:
        engine.push(spec.name, PRODUCTION_TAG, spec.credentials())


def unpublished(built: BuiltImage, model: str, state: str, reason: str) -> ImageRecord:
    """What the ledger is to remember of an image that is not published: `mismatch`, `faulty` or `failed`."""
    return _record(model, built, state, reason, None)


def _by_digest(image: ImageRecord) -> str:
    return f"{(image.tag or '').rpartition(':')[0]}@{image.digest}"


def _record(
    model: str,
    built: BuiltImage,
    state: str,
    detail: str,
    verification: Verification | None,
    tag: str | None = None,
    digest: str | None = None,
    size: int | None = None,
) -> ImageRecord:
    return ImageRecord(
        model=model,
        version=built.version,
        state=state,
        tag=tag,
        image_id=built.image_id,
        probes=verification.probes if verification else 0,
        max_difference=verification.max_difference if verification else None,
        detail=detail,
        recorded_at=datetime.now(UTC),
        digest=digest,
        size=size,
        build_seconds=built.seconds,
    )
