"""Publishes a verified image: names it, pushes it to the image registry, and points the tag `production` to it."""

from __future__ import annotations

from datetime import UTC, datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord
from churn.foundation.wording import not_built
from churn.release.engine import Engine
from churn.release.image import BuiltImage, ImageSpec
from churn.release.service_checks import Verification

PRODUCTION_TAG = "production"


def find_published(version: int, ledger: Ledger, model: str, spec: ImageSpec) -> ImageRecord | None:
    """The image of a version if it was published and still exists; None if it has to be built.

    Raises:
        EngineFailed: it was published, but no container engine answers.
    """
    image = ledger.image(model, version)
    if image is None or image.state not in ("published", "pruned") or image.tag != f"{spec.name}:{version}":
        return None
    return image if has_image(image, spec) else None


def publish_image(built: BuiltImage, verification: Verification, model: str, spec: ImageSpec) -> ImageRecord:
    """Name the verified image by its version, on this machine and in the image registry if there is one. Repeating this changes nothing.

    Returns:
        The record for the ledger: `published`, or `not_built` on a machine without a container engine.

    Raises:
        EngineFailed: the container engine or the image registry is unavailable.
    """
    result = verification.sentence
    if built.image_id is None:
        return _record(model, built, "not_built", not_built(built.reason, result), verification)
    tag, size = str(built.version), Engine.require(spec.engine).size(built.image_id)
    digest = _name(built.image_id, tag, spec)
    return _record(model, built, "published", result, verification, f"{spec.name}:{tag}", digest, size)


def has_image(image: ImageRecord, spec: ImageSpec) -> bool:
    """Whether the image of a version still exists, on this machine or in its registry. A version that was never built needs none.

    Raises:
        EngineFailed: it was published, but no container engine answers.
    """
    if image.image_id is None:
        return True
    engine = Engine.require(spec.engine)
    return bool(engine.named(image.image_id) or (image.digest and engine.digest(_by_digest(image), spec.credentials())))


def find_change(image: ImageRecord, spec: ImageSpec) -> str | None:
    """Describe how the image differs from what was published, as the end of a sentence: it is missing, or its tag names another one.

    Raises:
        EngineFailed: no container engine answers.
    """
    if image.image_id is None or image.tag is None:
        return None
    if not has_image(image, spec):
        return f"was {image.tag} and no longer exists"
    engine = Engine.require(spec.engine)
    here = engine.named(image.tag)
    there = engine.digest(image.tag, spec.credentials()) if image.digest else None
    if here not in (None, image.image_id) or there != image.digest or (here is None and not image.digest):
        return f"is not the one that {image.tag} names now"
    return None


def fetch_image(image: ImageRecord, spec: ImageSpec) -> None:
    """Make sure that a published image is on this machine. One that was removed is pulled from its registry.

    Raises:
        EngineFailed: it cannot be pulled.
    """
    engine = Engine.require(spec.engine)
    if image.image_id and not engine.named(image.image_id):
        engine.pull(_by_digest(image), spec.credentials())


def name_again(image: ImageRecord, spec: ImageSpec) -> None:
    """Point the tag of a published version to its image, on this machine and in the registry. Repeating this changes nothing."""
    if image.image_id and find_change(image, spec):
        fetch_image(image, spec)
        _name(image.image_id, str(image.version), spec)


def point_production(image: ImageRecord, spec: ImageSpec) -> None:
    """Point the tag `production` to a published image, on this machine and in the registry. Repeating this changes nothing."""
    if image.image_id is None or image.state not in ("published", "pruned"):
        return
    fetch_image(image, spec)
    _name(image.image_id, PRODUCTION_TAG, spec)


def forget_production(spec: ImageSpec) -> None:
    """Remove the tag `production` on this machine, because nothing is in production."""
    engine = Engine.find(spec.engine)
    if engine:
        engine.untag(spec.name, PRODUCTION_TAG)


def unpublished(built: BuiltImage, model: str, state: str, reason: str) -> ImageRecord:
    """The record of an image that is not published: `mismatch`, `faulty` or `failed`."""
    return _record(model, built, state, reason, None)


def _name(image_id: str, tag: str, spec: ImageSpec) -> str | None:
    """Name an image; returns its digest in the image registry, if there is one."""
    engine = Engine.require(spec.engine)
    engine.tag(image_id, spec.name, tag)
    return engine.push(spec.name, tag, spec.credentials()) if spec.registry else None


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
