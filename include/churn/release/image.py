"""Build, verify and publish the serving image; the only module that talks to a container engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from requests.exceptions import RequestException

from churn.contract import Contract
from churn.errors import ChurnError, Outage
from churn.foundation import serving
from churn.foundation.records import ImageRecord
from churn.foundation.serving import wait_until_ready
from churn.foundation.tracking import Tracking
from churn.release.verify import Verification, verify

DOCKERFILE = Path(__file__).parents[1] / "serving" / "Dockerfile"
PORT = "8080/tcp"
READY_TIMEOUT = 120
LAST_LINES = 5
PRODUCTION_TAG = "production"
KILLED = 128  # an exit status above it is a signal's


class EngineFailed(Outage):
    """The container engine is away or could not build; it says nothing about the model. Retried."""


@dataclass(frozen=True)
class ImageSpec:
    """How an image is built. `engine`: auto, required or none."""

    repository: str
    base_image: str
    engine: str
    network: str | None
    ca_bundle: Path | None
    pip_conf: Path | None
    lock: Path
    environments: Path
    git_commit: str | None


@dataclass(frozen=True)
class BuiltImage:
    """The image of a version; `image_id` is None on a machine without a container engine."""

    version: int
    image_id: str | None


def build_image(version: int, tracking: Tracking, spec: ImageSpec) -> BuiltImage:
    """Build the image of a version number, untagged: the tag comes after verification.

    Raises:
        EngineFailed: the engine is away although it is required, or the build failed.
    """
    engine = _engine(spec)
    if engine is None:
        return BuiltImage(version, None)
    with serving.downloaded(version, tracking) as model, tempfile.TemporaryDirectory(prefix="churn-image-") as folder:
        context = Path(folder)
        shutil.copy(DOCKERFILE, context / "Dockerfile")
        shutil.copy(spec.lock, context / "requirements-serving.lock")
        shutil.copytree(model, context / "model")
        for file, name, setting in (
            (spec.ca_bundle, "ca-bundle.crt", "CHURN_BUILD_CA_BUNDLE"),
            (spec.pip_conf, "pip.conf", "CHURN_BUILD_PIP_CONF"),
        ):
            if file and not file.is_file():
                raise ChurnError(f"{setting}={file}: there is no such file. Set it right, and run the image again.")
            if file:
                shutil.copy(file, context / name)
        image = _build(engine, context, spec, _facts(version, tracking, spec))
    return BuiltImage(version, str(image.id))


def verify_image(built: BuiltImage, tracking: Tracking, contract: Contract, spec: ImageSpec) -> Verification:
    """Start the image as it would be run, and compare its answers with the registry model's.

    Without an engine the same scoring app runs in an environment made from the same lock.

    Raises:
        ModelMismatch: it does not load, or answers differently.
        EngineFailed: the engine is away.
        ServingUnavailable: there is no verdict, for a reason that is not the model.
    """
    expected = tracking.load(built.version)
    if built.image_id is None:
        python = serving.serving_python(spec.lock, spec.environments)
        with serving.downloaded(built.version, tracking) as model, serving.served(python, model) as url:
            return verify(url, expected, contract)
    with _running(_answering_engine(spec), built.image_id) as url:
        return verify(url, expected, contract)


def publish_image(built: BuiltImage, verification: Verification, model: str, spec: ImageSpec) -> ImageRecord:
    """Tag the verified image with its version; repeated, it changes nothing.

    Returns:
        What the ledger is to remember: `published`, or `not_built` on a machine without an engine.
    """
    asked = f"{verification.probes} answers equal the registry model's (largest difference {verification.max_difference:.1e})"
    if built.image_id is None:
        detail = f"not built: no container engine; the same serving app in an environment of its own: {asked}"
        return _record(model, built, "not_built", detail, verification, tag=None)
    engine = _answering_engine(spec)
    with _explained("tag the image"):
        engine.images.get(built.image_id).tag(spec.repository, str(built.version))
    return _record(model, built, "published", asked, verification, tag=f"{spec.repository}:{built.version}")


def has_image(image: ImageRecord, spec: ImageSpec) -> bool:
    """Whether a version's image still is the one that was published; one that was never built needs none.

    Raises:
        EngineFailed: it was published, and no engine answers.
    """
    if image.image_id is None:
        return True
    engine = _answering_engine(spec)
    with _explained("look for the image"):
        try:
            engine.images.get(image.image_id)
        except ImageNotFound:
            return False
    return True


def point_production(image: ImageRecord, spec: ImageSpec) -> None:
    """Let the tag `production` name a published image; repeated, it changes nothing."""
    if image.state != "published":
        return
    engine = _answering_engine(spec)
    with _explained("point `production` to the image"):
        engine.images.get(image.image_id).tag(spec.repository, PRODUCTION_TAG)


def mismatch(built: BuiltImage, model: str, reason: str) -> ImageRecord:
    """What the ledger is to remember of an image that is not the model."""
    return _record(model, built, "mismatch", reason, None, tag=None)


def _record(
    model: str, built: BuiltImage, state: str, detail: str, verification: Verification | None, tag: str | None
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
    )


def _engine(spec: ImageSpec) -> docker.DockerClient | None:
    """The machine's engine, or None where there is none and none is required."""
    if spec.engine == "none":
        return None
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except (DockerException, RequestException) as error:
        if spec.engine == "required":
            raise EngineFailed(
                f"No container engine answers ({type(error).__name__}), and CHURN_CONTAINER_ENGINE=required. Start it; the step is retried."
            ) from error
        return None
    return client


def _answering_engine(spec: ImageSpec) -> docker.DockerClient:
    engine = _engine(spec)
    if engine is None:
        raise EngineFailed("The container engine that built the image is away. Start it; the step is retried.")
    return engine


def _facts(version: int, tracking: Tracking, spec: ImageSpec) -> dict[str, str]:
    with tracking.explained(f"describe version {version}"):
        found = tracking.version(version)
    return {
        "MODEL_NAME": tracking.model,
        "MODEL_VERSION": str(version),
        "RUN_ID": found.run_id or "",
        "REVISION": spec.git_commit or "",
    }


def _build(engine: docker.DockerClient, context: Path, spec: ImageSpec, facts: dict[str, str]) -> Any:
    with _explained("build the image"):
        try:
            image, _ = engine.images.build(
                path=str(context),
                buildargs={"BASE_IMAGE": spec.base_image, **facts},
                network_mode=spec.network,
                rm=True,
                forcerm=True,
            )
        except BuildError as error:
            words = [line["stream"].strip() for line in error.build_log if line.get("stream", "").strip()]
            raise EngineFailed(
                f"The image could not be built from {spec.base_image}: {error.msg}. Last words: {' / '.join(words[-LAST_LINES:])}. "
                "Check CHURN_BASE_IMAGE, CHURN_BUILD_NETWORK and CHURN_BUILD_CA_BUNDLE; then clear the failed run to try again."
            ) from error
    return image


@contextmanager
def _running(engine: docker.DockerClient, image_id: str) -> Iterator[str]:
    """The image as it is meant to be run: read-only, no capabilities, on a free port of loopback."""
    with _explained("start the image"):
        container = engine.containers.run(
            image_id,
            detach=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            ports={PORT: (serving.LOOPBACK, None)},
        )
    try:
        with _explained("find the port of the image"):
            container.reload()
        bindings = container.ports.get(PORT)
        url = f"http://{serving.LOOPBACK}:{bindings[0]['HostPort']}" if bindings else ""
        wait_until_ready(url, lambda: _last_words(container), READY_TIMEOUT)
        yield url
    finally:
        with _explained("remove the container"):
            container.remove(force=True)


def _last_words(container: Any) -> str | None:
    with _explained("look at the container"):
        container.reload()
        if container.status in ("created", "running"):
            return None
        if container.attrs["State"]["ExitCode"] > KILLED:
            raise EngineFailed(
                f"The container was ended from outside (status {container.attrs['State']['ExitCode']}). The step is retried."
            )
        lines = container.logs(tail=LAST_LINES).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"container {container.status}"


@contextmanager
def _explained(act: str) -> Iterator[None]:
    try:
        yield
    except (APIError, DockerException, RequestException) as error:
        raise EngineFailed(
            f"The container engine could not {act} ({type(error).__name__}: {str(error)[:300]}). The step is retried."
        ) from error
