"""Builds the image of a version, without a name."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from churn.errors import ChurnError
from churn.foundation.clients import Clients
from churn.learning.extra_packages import EXTRA_LOCK
from churn.release.engine import BaseUnavailable, Engine, Login
from churn.release.service import laid_out, locks_of

DOCKERFILE = Path(__file__).parents[1] / "serving" / "Dockerfile"
log = logging.getLogger(__name__)
LOCK = "requirements-serving.lock"
MODEL_LABEL, VERSION_LABEL, RUN_LABEL = "churn.model.name", "churn.model.version", "churn.run.id"
CONTRACT_LABEL = "churn.contract"


@dataclass(frozen=True)
class ImageSpec:
    """How an image is built, and where it is kept.

    `engine` is auto, required or none. `registry` is the image registry; None keeps images on this machine. `login` returns its
    credentials; by default those of the container engine. `verification_network` is where the built image is reached; None is loopback.
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
    verification_network: str | None = None

    @property
    def name(self) -> str:
        """The repository, with its image registry."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    def credentials(self) -> Login | None:
        """The credentials of the image registry; None for those of the container engine."""
        return self.login() if self.login else None


@dataclass(frozen=True)
class BuiltImage:
    """The image of a version, and the seconds of its build. `image_id` is None if none could be built here, for the `reason` given."""

    version: int
    image_id: str | None
    seconds: float | None = None
    reason: str = "there is no container engine"


def build_image(version: int, clients: Clients, spec: ImageSpec) -> BuiltImage:
    """Build the image of a version, without a tag. It gets one after verification.

    Raises:
        ArtifactChanged: the version's files are not those that were registered.
        EngineFailed: the container engine is required but unavailable or without its base image, or the build failed.
    """
    engine = Engine.find(spec.engine)
    if engine is None:
        return BuiltImage(version, None)
    try:
        base = engine.base(spec.base_image)
    except BaseUnavailable as missing:
        if spec.engine == "required":
            raise
        log.warning("%s", missing)
        return BuiltImage(version, None, reason=missing.reason)
    with laid_out(version, clients.ledger, clients.contract, clients.tracking) as context:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="churn-lock-") as folder:
            serving, extra = locks_of(version, clients.tracking, Path(folder), spec.lock)
            shutil.copyfile(serving, context / LOCK)
            (context / EXTRA_LOCK).write_text(extra.read_text() if extra else "")
        for file, name, setting in (
            (spec.ca_bundle, "ca-bundle.crt", "CHURN_BUILD_CA_BUNDLE"),
            (spec.pip_conf, "pip.conf", "CHURN_BUILD_PIP_CONF"),
        ):
            if file and not file.is_file():
                raise ChurnError(f"{setting}={file} does not exist. Correct the setting and build the image again.")
            if file:
                shutil.copy(file, context / name)
        labels = _labels(version, clients, spec) | {"org.opencontainers.image.base.name": base.name}
        if base.digest:
            labels["org.opencontainers.image.base.digest"] = base.digest
        (context / "Dockerfile").write_text(DOCKERFILE.read_text() + _label(labels))
        image_id = engine.build(context, base, spec.network)
    return BuiltImage(version, image_id, round(time.monotonic() - began, 2))


def _labels(version: int, clients: Clients, spec: ImageSpec) -> dict[str, str]:
    """The labels of the image. They do not depend on the time of the build; `created` is when the version was registered."""
    tracking, record = clients.tracking, clients.ledger.version(clients.tracking.model, version)
    with tracking.explained(f"describe version {version}"):
        registered_version = tracking.version(version)
    registered = datetime.fromtimestamp(registered_version.creation_timestamp / 1000, UTC)
    labels = {
        "org.opencontainers.image.title": tracking.model,
        "org.opencontainers.image.description": f"Probability of the event {clients.contract.event_in_words}, for each customer.",
        "org.opencontainers.image.version": str(version),
        "org.opencontainers.image.revision": spec.git_commit or "",
        "org.opencontainers.image.created": registered.isoformat(timespec="seconds"),
        MODEL_LABEL: tracking.model,
        VERSION_LABEL: str(version),
        RUN_LABEL: registered_version.run_id or "",
        "churn.snapshot": record.snapshot if record else "",
        CONTRACT_LABEL: clients.contract.fingerprint,
        "churn.model.digest": record.artifacts if record else "",
    }
    return {name: value for name, value in labels.items() if value}


def _label(labels: dict[str, str]) -> str:
    """The last instruction of the Dockerfile. Labels passed to the build API would also end up on its first stage."""
    quoted = (f"{name}={json.dumps(value).replace('$', chr(92) + '$')}" for name, value in labels.items())
    return "LABEL " + " ".join(quoted) + "\n"
