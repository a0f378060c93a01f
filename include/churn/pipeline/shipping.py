"""A promoted version becomes an image: built, verified and published. If it differs from the model, the promotion is rolled back.

The image DAG wires these steps; `churn image build` and a run without Airflow call them directly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from churn.alerts.events import explain_failure
from churn.errors import ChurnError, NothingToDo
from churn.foundation.local_server import ModelMismatch
from churn.foundation.records import ImageRecord, Promotion
from churn.foundation.wording import clear_task
from churn.pipeline.workspace import Workspace
from churn.release.image import BuiltImage, build_image
from churn.release.image_verification import verify_image
from churn.release.promotion import take_back
from churn.release.publishing import (
    find_published,
    forget_production,
    name_again,
    point_production,
    publish_image,
    unpublished,
)
from churn.release.service_checks import ImageFault, Verification

log = logging.getLogger(__name__)

STATE_TAG, DETAIL_TAG = "churn.image", "churn.image_detail"


def build(workspace: Workspace, version: int) -> BuiltImage:
    """Build the image of a version, if this machine has a container engine.

    Raises:
        NothingToDo: the version has been published already. If it is in production, the tag `production` names it.
        ArtifactChanged: its files are not those that were registered.
        EngineFailed: the engine is unavailable, or could not build.
    """
    if workspace.ledger.version(workspace.settings.model_name, version) is None:
        raise ChurnError(
            f"The ledger has no version {version}: no run has trained it. `churn history` and MLflow list the existing versions."
        )
    published = find_published(version, workspace.ledger, workspace.settings.model_name, workspace.image_spec)
    if published:
        name_again(published, workspace.image_spec)
        _tag_version(workspace, published)
        _point_if_in_production(workspace, published)
        by = f", {published.digest}" if published.digest else ""
        raise NothingToDo(
            f"The image of version {version} has already been published as {published.tag}{by}, verified {published.recorded_at:%Y-%m-%d %H:%M}. "
            f"Nothing was built. `churn image verify --version {version}` checks it again."
        )
    built = build_image(version, workspace, workspace.image_spec)
    what = f"built in {built.seconds} s as {built.image_id}" if built.image_id else f"not built, because {built.reason}"
    log.info("Version %d: %s.", version, what)
    return built


def read_built(workspace: Workspace, version: int, passed_on: Mapping[str, Any] | None) -> BuiltImage:
    """What the task `build` passed on: None if it was marked as success and built nothing.

    Raises:
        NothingToDo: nothing was built, because the version has been published already.
        ChurnError: there is no image to verify.
    """
    if passed_on is None:
        raise _not_done(workspace, version, f"No image of version {version} was built in this run.", "build")
    return BuiltImage(**passed_on)


def read_verification(workspace: Workspace, version: int, passed_on: Mapping[str, Any] | None) -> Verification:
    """What the task `verify` passed on: None if it was marked as success and verified nothing.

    Raises:
        NothingToDo: nothing was verified, because the version has been published already.
        ChurnError: there is no verdict on the image, and an image without a verdict is never published.
    """
    if passed_on is None:
        raise _not_done(workspace, version, f"The image of version {version} was not verified in this run.", "verify")
    return Verification(**passed_on)


def verify(workspace: Workspace, built: BuiltImage) -> Verification:
    """Compare the image with the registered model, and roll the promotion back if it differs.

    Raises:
        ModelMismatch: it differs or does not load. The promotion has been rolled back.
        ImageFault: it is the model, but not what an image must be. The promotion is kept.
        EngineFailed, ServingUnavailable, TrackingUnreachable: there is no verdict. The promotion is kept.
    """
    try:
        verification = verify_image(built, workspace, workspace.image_spec)
    except ModelMismatch as error:
        _remember(workspace, unpublished(built, workspace.settings.model_name, "mismatch", str(error)))
        undone = take_back(built.version, str(error), workspace.ledger, workspace.tracking)
        if undone:
            _follow(workspace, undone.version)
        raise ModelMismatch(
            f"The image of version {built.version} differs from the model: {error} {_outcome(undone)}"
        ) from error
    except ImageFault as error:
        _remember(workspace, unpublished(built, workspace.settings.model_name, "faulty", str(error)))
        raise
    log.info("Version %d: %s.", built.version, verification.sentence)
    return verification


def publish(workspace: Workspace, built: BuiltImage, verification: Verification) -> ImageRecord:
    """Name the verified image, push it if an image registry is set, record it, and only then move `production`."""
    record = publish_image(built, verification, workspace.settings.model_name, workspace.image_spec)
    _remember(workspace, record)
    _point_if_in_production(workspace, record)
    log.info("Version %d: %s%s.", built.version, record.state, f" as {record.tag}" if record.tag else "")
    return record


def ship(workspace: Workspace, version: int) -> ImageRecord:
    """Build, verify and publish the image of a version in this process. A published image is left as it is.

    Raises:
        ChurnError: see `build`, `verify` and `publish`. The ledger has the reason.
    """
    try:
        built = build(workspace, version)
        return publish(workspace, built, verify(workspace, built))
    except NothingToDo as published:
        log.info("%s", published)
        return next(filter(None, [workspace.ledger.image(workspace.settings.model_name, version)]))
    except ChurnError as error:
        remember_failure(workspace, version, error)
        raise


def remember_failure(workspace: Workspace, version: int, error: object) -> None:
    """Record why the last try failed, unless there is already a verdict on the image.

    A published image that cannot be reached now remains published. An unknown version has no image. A task that was killed
    (without an exception) replaces neither a verdict nor the reason of one that failed.
    """
    model = workspace.settings.model_name
    image = workspace.ledger.image(model, version)
    if workspace.ledger.version(model, version) is None or (image and image.state in ("mismatch", "faulty")):
        return
    if image and image.state in ("failed", "not_built") and not isinstance(error, BaseException):
        return
    reason = explain_failure(error)
    log.error("The image of version %d could not be built or verified. The promotion is kept: %s", version, reason)
    if image is None or image.tag != f"{workspace.image_spec.name}:{version}":
        _remember(workspace, unpublished(BuiltImage(version, None), model, "failed", reason))


def _not_done(workspace: Workspace, version: int, what: str, task: str) -> ChurnError:
    """The reason why a step cannot go on after a task that was marked as success before it ran."""
    published = find_published(version, workspace.ledger, workspace.settings.model_name, workspace.image_spec)
    if published:
        return NothingToDo(f"{what} It has already been published as {published.tag}.")
    return ChurnError(f"{what} {clear_task(task)}")


def _remember(workspace: Workspace, record: ImageRecord) -> None:
    workspace.ledger.record_image(record)
    _tag_version(workspace, record)


def _tag_version(workspace: Workspace, record: ImageRecord) -> None:
    """Copy the state of the image to the tags of the version in MLflow; repeating this changes nothing."""
    facts = {STATE_TAG: record.state, DETAIL_TAG: record.detail}
    shown = ("tag", "image_id", "digest", "size", "build_seconds", "probes", "max_difference")
    facts |= {
        f"{STATE_TAG}_{name}": "" if value is None else str(value)
        for name, value in asdict(record).items()
        if name in shown
    }
    workspace.tracking.tag_version(record.version, facts)


def _point_if_in_production(workspace: Workspace, record: ImageRecord) -> None:
    """Point `production` to the image if its version is in production; and away again if production changed meanwhile."""
    model = workspace.settings.model_name
    current = workspace.ledger.in_production(model)
    if current is None or current.version != record.version:
        return
    point_production(record, workspace.image_spec)
    later = workspace.ledger.in_production(model)
    if later and later.version != record.version:
        _follow(workspace, later.version)


def _follow(workspace: Workspace, version: int | None) -> None:
    """Move `production` to the version that is in production now, or remove it if there is none."""
    image = workspace.ledger.image(workspace.settings.model_name, version) if version else None
    if image:
        point_production(image, workspace.image_spec)
    elif version is None:
        forget_production(workspace.image_spec)


def _outcome(undone: Promotion | None) -> str:
    if undone is None:
        return "It is not in production, so there is nothing to roll back."
    back = f"Version {undone.version} is in production again." if undone.version else "Nothing is in production now."
    return (
        f"It has been rolled back automatically. {back} Automatic promotion is off until `churn unfreeze --reason ...`."
    )
