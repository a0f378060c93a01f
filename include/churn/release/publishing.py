"""A verified image gets its name, goes to the registry of images, and may be named `production`; or it stays unpublished."""

from __future__ import annotations

from datetime import UTC, datetime

from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord
from churn.release.engine import Engine
from churn.release.image import BuiltImage, ImageSpec
from churn.release.service_checks import Verification

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
    tag, size = str(built.version), Engine.require(spec.engine).size(built.image_id)
    digest = _name(built.image_id, tag, spec)
    return _record(model, built, "published", said, verification, f"{spec.name}:{tag}", digest, size)


def has_image(image: ImageRecord, spec: ImageSpec) -> bool:
    """Whether a version's image still is there, here or in its registry; one that was never built needs none.

    Raises:
        EngineFailed: it was published, and no engine answers.
    """
    if image.image_id is None:
        return True
    engine = Engine.require(spec.engine)
    return bool(engine.named(image.image_id) or (image.digest and engine.digest(_by_digest(image), spec.credentials())))


def find_change(image: ImageRecord, spec: ImageSpec) -> str | None:
    """What is no longer as it was published: the image is gone, or its name means another one; None if all is.

    Raises:
        EngineFailed: no engine answers.
    """
    if image.image_id is None or image.tag is None:
        return None
    if not has_image(image, spec):
        return f"was {image.tag} and is gone"
    engine = Engine.require(spec.engine)
    here = engine.named(image.tag)
    there = engine.digest(image.tag, spec.credentials()) if image.digest else None
    if here not in (None, image.image_id) or there != image.digest or (here is None and not image.digest):
        return f"is not what {image.tag} means now"
    return None


def fetch_image(image: ImageRecord, spec: ImageSpec) -> None:
    """Have a published image on this machine; one that was pruned here comes back from its registry.

    Raises:
        EngineFailed: it cannot be had.
    """
    engine = Engine.require(spec.engine)
    if image.image_id and not engine.named(image.image_id):
        engine.pull(_by_digest(image), spec.credentials())


def name_again(image: ImageRecord, spec: ImageSpec) -> None:
    """Let the tag of a published version mean its image, here and in the registry; repeated, it changes nothing."""
    if image.image_id and find_change(image, spec):
        fetch_image(image, spec)
        _name(image.image_id, str(image.version), spec)


def point_production(image: ImageRecord, spec: ImageSpec) -> None:
    """Let the tag `production` name a published image, here and in the registry; repeated, it changes nothing."""
    if image.image_id is None or image.state not in ("published", "pruned"):
        return
    fetch_image(image, spec)
    _name(image.image_id, PRODUCTION_TAG, spec)


def forget_production(spec: ImageSpec) -> None:
    """Nothing is in production: on this machine `production` means no image any more."""
    engine = Engine.find(spec.engine)
    if engine:
        engine.untag(spec.name, PRODUCTION_TAG)


def unpublished(built: BuiltImage, model: str, state: str, reason: str) -> ImageRecord:
    """What the ledger is to remember of an image that is not published: `mismatch`, `faulty` or `failed`."""
    return _record(model, built, state, reason, None)


def _name(image_id: str, tag: str, spec: ImageSpec) -> str | None:
    """Name an image; its digest in the registry, if there is one."""
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
