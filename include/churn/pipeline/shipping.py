"""A promoted version becomes an image: built, verified, published; taken back if it is not the model.

What the image DAG wires, and what `churn image build` and a night without Airflow call.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from churn.alerts.events import why_failed
from churn.errors import ChurnError, NothingToDo
from churn.foundation.local_server import ModelMismatch
from churn.foundation.records import ImageRecord, Promotion
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
    """Build the image of a version, if this machine has an engine.

    Raises:
        NothingToDo: the version is published already; `production` names it if it is in production.
        ArtifactChanged: its files are not those that were registered.
        EngineFailed: the engine is away, or could not build.
    """
    if workspace.ledger.version(workspace.settings.model_name, version) is None:
        raise ChurnError(
            f"The ledger knows no version {version}: no night has trained it. `churn history` and MLflow list the versions that there are."
        )
    known = find_published(version, workspace.ledger, workspace.settings.model_name, workspace.image_spec)
    if known:
        name_again(known, workspace.image_spec)
        _say_at_version(workspace, known)
        _point_if_in_production(workspace, known)
        by = f", {known.digest}" if known.digest else ""
        raise NothingToDo(
            f"The image of version {version} is published already as {known.tag}{by}, verified {known.recorded_at:%Y-%m-%d %H:%M}. "
            f"Nothing was built. `churn image verify --version {version}` asks it again."
        )
    built = build_image(version, workspace, workspace.image_spec)
    what = f"built in {built.seconds} s as {built.image_id}" if built.image_id else "not built: no container engine"
    log.info("Version %d: %s.", version, what)
    return built


def verify(workspace: Workspace, built: BuiltImage) -> Verification:
    """Hold the image against the registry's model; take the promotion back if it is not the model.

    Raises:
        ModelMismatch: it differs or does not load; the promotion has been taken back.
        ImageFault: it is the model, and not what an image has to be; nothing is taken back.
        EngineFailed, ServingUnavailable, TrackingUnreachable: no verdict; nothing is taken back.
    """
    try:
        verification = verify_image(built, workspace, workspace.image_spec)
    except ModelMismatch as error:
        _remember(workspace, unpublished(built, workspace.settings.model_name, "mismatch", str(error)))
        undone = take_back(built.version, str(error), workspace.ledger, workspace.tracking)
        if undone:
            _follow(workspace, undone.version)
        raise ModelMismatch(
            f"The image of version {built.version} is not the model: {error} {_outcome(undone)}"
        ) from error
    except ImageFault as error:
        _remember(workspace, unpublished(built, workspace.settings.model_name, "faulty", str(error)))
        raise
    log.info("Version %d: %s.", built.version, verification.sentence)
    return verification


def publish(workspace: Workspace, built: BuiltImage, verification: Verification) -> ImageRecord:
    """Name the verified image, push it if a registry is set, remember it, and only then move `production`."""
    record = publish_image(built, verification, workspace.settings.model_name, workspace.image_spec)
    _remember(workspace, record)
    _point_if_in_production(workspace, record)
    log.info("Version %d: %s%s.", built.version, record.state, f" as {record.tag}" if record.tag else "")
    return record


def ship(workspace: Workspace, version: int) -> ImageRecord:
    """Build, verify and publish the image of a version, in this process; what is published already is left as it is.

    Raises:
        ChurnError: see `build`, `verify` and `publish`; the ledger has the reason.
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
    """The last try has failed: keep the reason where people look, unless a verdict on the image is there already.

    A published image that cannot be reached now stays published; a version that nobody knows has no image to fail; a task
    that was killed (no exception) does not know better than one that failed.
    """
    model = workspace.settings.model_name
    known = workspace.ledger.image(model, version)
    if workspace.ledger.version(model, version) is None or (known and known.state in ("mismatch", "faulty")):
        return
    if known and known.state == "failed" and not isinstance(error, BaseException):
        return
    reason = why_failed(error)
    log.error("The image of version %d is not published, and nothing was taken back for it: %s", version, reason)
    if known is None or known.tag != f"{workspace.image_spec.name}:{version}":
        _remember(workspace, unpublished(BuiltImage(version, None), model, "failed", reason))


def _remember(workspace: Workspace, record: ImageRecord) -> None:
    workspace.ledger.record_image(record)
    _say_at_version(workspace, record)


def _say_at_version(workspace: Workspace, record: ImageRecord) -> None:
    """The version's tags in MLflow say what the ledger says; repeated, it changes nothing."""
    facts = {STATE_TAG: record.state, DETAIL_TAG: record.detail}
    shown = ("tag", "image_id", "digest", "size", "build_seconds", "probes", "max_difference")
    facts |= {
        f"{STATE_TAG}_{name}": "" if value is None else str(value)
        for name, value in asdict(record).items()
        if name in shown
    }
    workspace.tracking.tag_version(record.version, facts)


def _point_if_in_production(workspace: Workspace, record: ImageRecord) -> None:
    """Point `production` to the image, if its version is in production; and back, if it no longer was a moment later."""
    model = workspace.settings.model_name
    current = workspace.ledger.in_production(model)
    if current is None or current.version != record.version:
        return
    point_production(record, workspace.image_spec)
    later = workspace.ledger.in_production(model)
    if later and later.version != record.version:
        _follow(workspace, later.version)


def _follow(workspace: Workspace, version: int | None) -> None:
    """Another version, or none, is in production now: `production` goes with it."""
    image = workspace.ledger.image(workspace.settings.model_name, version) if version else None
    if image:
        point_production(image, workspace.image_spec)
    elif version is None:
        forget_production(workspace.image_spec)


def _outcome(undone: Promotion | None) -> str:
    if undone is None:
        return "It is not in production, so there was nothing to take back."
    back = f"Version {undone.version} is in production again." if undone.version else "Nothing is in production now."
    return f"Its promotion is taken back. {back} Automatic promotion is off until `churn unfreeze --reason ...`."
