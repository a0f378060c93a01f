"""The image of a version: built from its number, verified as it would be run, and only then named and published."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from churn.decision.contest import Sources
from churn.decision.scoring import Scorer, opened
from churn.errors import ChurnError
from churn.foundation.digests import folder_digest
from churn.foundation.ledger import Ledger
from churn.foundation.records import ImageRecord
from churn.foundation.serving import image_app, served, serving_python, wait_until_ready
from churn.foundation.tracking import Tracking
from churn.foundation.zones import snapshot_rows
from churn.learning.snapshot import holdout_pieces
from churn.release.engine import Engine, EngineFailed, Login, Running
from churn.release.inventory import LIST_LIBRARIES, LIST_PACKAGES, read_inventory, require_libraries
from churn.release.materials import write_materials
from churn.release.probes import holdout_extremes
from churn.release.service import laid_out, lock_of
from churn.release.verify import ImageFault, Verification, verify
from churn.serving import MODEL_FOLDER

DOCKERFILE = Path(__file__).parents[1] / "serving" / "Dockerfile"
LOCK = "requirements-serving.lock"
PRODUCTION_TAG = "production"
ARTIFACTS = "image"
"""Folder of the run's artifacts with the bill of materials."""
MODEL_LABEL, VERSION_LABEL = "churn.model.name", "churn.model.version"
_READY_TIMEOUT = 120
_PIECE = 100_000
_SERVED = "/opt/churn"
_PYTHON = "/opt/serving/bin/python"


@dataclass(frozen=True)
class ImageSpec:
    """How an image is built and where it goes.

    `engine`: auto, required or none. `registry`: of images, None to keep them on this machine; `login`: for it, by default what
    the engine knows.
    """

    repository: str
    base_image: str
    engine: str
    network: str | None
    ca_bundle: Path | None
    pip_conf: Path | None
    lock: Path
    git_commit: str | None
    registry: str | None = None
    login: Callable[[], Login] | None = None

    @property
    def name(self) -> str:
        """The repository with its registry."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    def credentials(self) -> Login | None:
        """What the registry is entered with; None: by what the engine knows."""
        return self.login() if self.login else None


@dataclass(frozen=True)
class BuiltImage:
    """The image of a version, with its build's seconds; `image_id` is None on a machine without a container engine."""

    version: int
    image_id: str | None
    seconds: float | None = None


def find_published(version: int, ledger: Ledger, model: str, spec: ImageSpec) -> ImageRecord | None:
    """The image of a version, if it was published and still is there; None if it is to be built.

    Raises:
        EngineFailed: it was published, and no engine answers.
    """
    image = ledger.image(model, version)
    if image is None or image.state not in ("published", "pruned") or image.tag != f"{spec.name}:{version}":
        return None
    return image if has_image(image, spec) else None


def build_image(version: int, sources: Sources, spec: ImageSpec) -> BuiltImage:
    """Build the image of a version number, untagged: the tag comes after verification.

    Raises:
        ArtifactChanged: the version's files are not those that were registered.
        EngineFailed: the engine is away although it is required, or the build failed.
    """
    engine = Engine.find(spec.engine)
    if engine is None:
        return BuiltImage(version, None)
    with laid_out(version, sources.ledger, sources.contract, sources.tracking) as context:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="churn-lock-") as folder:
            shutil.copyfile(lock_of(version, sources.tracking, Path(folder), spec.lock), context / LOCK)
        for file, name, setting in (
            (spec.ca_bundle, "ca-bundle.crt", "CHURN_BUILD_CA_BUNDLE"),
            (spec.pip_conf, "pip.conf", "CHURN_BUILD_PIP_CONF"),
        ):
            if file and not file.is_file():
                raise ChurnError(f"{setting}={file}: there is no such file. Set it right, and run the image again.")
            if file:
                shutil.copy(file, context / name)
        base = engine.base(spec.base_image)
        labels = _labels(version, sources, spec) | {"org.opencontainers.image.base.name": base.name}
        if base.digest:
            labels["org.opencontainers.image.base.digest"] = base.digest
        (context / "Dockerfile").write_text(DOCKERFILE.read_text() + _label(labels))
        image_id = engine.build(context, base, spec.network)
    return BuiltImage(version, image_id, round(time.monotonic() - began, 2))


def verify_image(built: BuiltImage, sources: Sources, spec: ImageSpec) -> Verification:
    """Start the image as it would be run, hold its answers against the registry model's, and look at what it holds.

    The bill of materials goes to MLflow. Without an engine the same service runs in an environment made from the same lock.

    Raises:
        ModelMismatch: it does not load, or answers differently.
        ImageFault: it answers like the model, and is not what an image has to be.
        ArtifactChanged, ModelUnloadable, Unscorable: there is nothing to hold it against.
        EngineFailed: the engine is away.
        ServingUnavailable: there is no verdict, for a reason that is not the model.
    """
    version, tracking = built.version, sources.tracking
    with (
        laid_out(version, sources.ledger, sources.contract, tracking) as folder,
        opened(version, sources.ledger, tracking, sources.environments) as expected,
        tempfile.TemporaryDirectory(prefix="churn-verify-") as scratch,
    ):
        extremes = find_extremes(version, expected, sources)
        lock = lock_of(version, tracking, Path(scratch), spec.lock)
        if built.image_id is None:
            python = serving_python(lock, sources.environments)
            with served(python, image_app(folder)) as url:
                return verify(url, expected, sources.contract, extremes)
        engine = _answering_engine(spec)
        name = f"churn-verify-{tracking.model}-{version}"
        with engine.running(built.image_id, name, _READY_TIMEOUT, wait_until_ready) as running:
            verification = verify(running.url, expected, sources.contract, extremes)
            _look_inside(running, built.image_id, engine, folder, lock, Path(scratch), version, tracking)
    return verification


def find_extremes(version: int, scorer: Scorer, sources: Sources) -> pd.DataFrame | None:
    """The extremes of the holdout of the version's snapshot; None if its rows are gone or were judged under another contract.

    Args:
        version: its number.
        scorer: of the registry's model.
        sources: where its snapshot is.
    """
    known = sources.ledger.version(sources.tracking.model, version)
    snapshot = sources.ledger.snapshot(known.snapshot) if known else None
    if snapshot is None or snapshot.contract_fingerprint != sources.contract.fingerprint:
        return None
    if not sources.storage.exists(snapshot_rows(snapshot.snapshot)):
        return None
    pieces = holdout_pieces(sources.storage, snapshot, _PIECE)
    return holdout_extremes(pieces, scorer, sources.contract)


def publish_image(built: BuiltImage, verification: Verification, model: str, spec: ImageSpec) -> ImageRecord:
    """Name the verified image by its version, here and in the registry of images if there is one; repeated, it changes nothing.

    Returns:
        What the ledger is to remember: `published`, or `not_built` on a machine without an engine.

    Raises:
        EngineFailed: the engine or the registry is away.
    """
    said = say(verification)
    if built.image_id is None:
        detail = f"not built: no container engine; the same service in an environment of its own: {said}"
        return _record(model, built, "not_built", detail, verification)
    engine, tag = _answering_engine(spec), str(built.version)
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
    engine = _answering_engine(spec)
    return engine.has(image.image_id) or bool(
        image.digest and engine.in_registry(_by_digest(image), spec.credentials())
    )


def fetch_image(image: ImageRecord, spec: ImageSpec) -> None:
    """Have a published image on this machine; one that was pruned here comes back from its registry.

    Raises:
        EngineFailed: it cannot be had.
    """
    engine = _answering_engine(spec)
    if image.image_id and not engine.has(image.image_id):
        engine.pull(_by_digest(image), spec.credentials())


def point_production(image: ImageRecord, spec: ImageSpec) -> None:
    """Let the tag `production` name a published image, here and in the registry; repeated, it changes nothing."""
    if image.image_id is None or image.state not in ("published", "pruned"):
        return
    fetch_image(image, spec)
    engine = _answering_engine(spec)
    engine.tag(image.image_id, spec.name, PRODUCTION_TAG)
    if spec.registry:
        engine.push(spec.name, PRODUCTION_TAG, spec.credentials())


def unpublished(built: BuiltImage, model: str, state: str, reason: str) -> ImageRecord:
    """What the ledger is to remember of an image that is not published: `mismatch`, `faulty` or `failed`."""
    return _record(model, built, state, reason, None)


def say(verification: Verification) -> str:
    """A verification in a sentence."""
    holdout = (
        f"the holdout's {verification.holdout_rows} most extreme rows among them"
        if verification.holdout_rows
        else "none of the holdout's rows, which are gone"
    )
    return (
        f"{verification.probes} answers, {holdout}, equal the registry model's (largest difference {verification.max_difference:.1e}); "
        f"{verification.refused} bad requests are refused"
    )


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


def _answering_engine(spec: ImageSpec) -> Engine:
    engine = Engine.find(spec.engine)
    if engine is None:
        raise EngineFailed("The container engine that built the image is away. Start it; the step is retried.")
    return engine


def _labels(version: int, sources: Sources, spec: ImageSpec) -> dict[str, str]:
    """What the image is, the same whenever it is built: `created` is when the version was registered."""
    tracking, known = sources.tracking, sources.ledger.version(sources.tracking.model, version)
    with tracking.explained(f"describe version {version}"):
        found = tracking.version(version)
    registered = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    labels = {
        "org.opencontainers.image.title": tracking.model,
        "org.opencontainers.image.description": f"Probability of {sources.contract.target.name} = 1, for each customer.",
        "org.opencontainers.image.version": str(version),
        "org.opencontainers.image.revision": spec.git_commit or "",
        "org.opencontainers.image.created": registered.isoformat(timespec="seconds"),
        MODEL_LABEL: tracking.model,
        VERSION_LABEL: str(version),
        "churn.run.id": found.run_id or "",
        "churn.snapshot": known.snapshot if known else "",
        "churn.contract": sources.contract.fingerprint,
        "churn.model.digest": known.artifacts if known else "",
    }
    return {name: value for name, value in labels.items() if value}


def _label(labels: dict[str, str]) -> str:
    """The last instruction of the Dockerfile. Labels that are given to a build's API are put on its first stage too."""
    quoted = (f"{name}={json.dumps(value).replace('$', chr(92) + '$')}" for name, value in labels.items())
    return "LABEL " + " ".join(quoted) + "\n"


def _look_inside(
    running: Running,
    image_id: str,
    engine: Engine,
    folder: Path,
    lock: Path,
    scratch: Path,
    version: int,
    tracking: Tracking,
) -> None:
    inventory = read_inventory(running.run([_PYTHON, "-c", LIST_LIBRARIES]), running.run(LIST_PACKAGES))
    require_libraries(inventory, lock, folder / MODEL_FOLDER)
    if folder_digest(running.copy_out(f"{_SERVED}/{MODEL_FOLDER}", scratch)) != folder_digest(folder / MODEL_FOLDER):
        raise ImageFault("The files of the model in the image are not those that were registered. Build it again.")
    distribution = running.run(["sh", "-c", '. /etc/os-release && printf %s "$ID"'])
    bill = write_materials(scratch, image_id, engine.labels(image_id), inventory, distribution)
    with tracking.explained("keep the image's bill of materials"):
        tracking.client.log_artifact(str(tracking.version(version).run_id), str(bill), ARTIFACTS)
