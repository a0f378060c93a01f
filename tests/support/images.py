"""What the tests of images share: an engine, if there is one, and a registry of images on loopback."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import httpx
import pytest
from docker.errors import APIError, DockerException, ImageNotFound

from churn.foundation.records import ImageRecord
from churn.pipeline import shipping
from churn.pipeline.workspace import Workspace
from churn.release.image import BuiltImage
from churn.release.service_checks import Verification
from churn.settings import PYTHON
from support.basics import free_port, running

BASE = os.environ.get("TEST_BASE_IMAGE", f"python:{PYTHON}-slim")
VERIFIED = Verification(probes=1, holdout_rows=0, max_difference=0.0, refused=0)


def why_not() -> str | None:
    """Why these tests cannot run here."""
    try:
        docker.from_env().images.get(BASE)
    except ImageNotFound:
        return f"the container engine has no image {BASE}; pull it, or name another in TEST_BASE_IMAGE"
    except DockerException:
        return "no container engine answers"
    return None


needs_engine = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
needs_registry = pytest.mark.skipif(
    shutil.which("docker-registry") is None, reason="the program docker-registry is not installed"
)


def new_folder(parent: Path) -> Path:
    """A folder whose name, and so its model's, no other run has: an interrupted one leaves its images in the engine."""
    folder = parent / f"bench-{token_hex(4)}"
    folder.mkdir()
    return folder


def with_engine(workspace: Workspace, **changes: object) -> Workspace:
    """The bench, with this machine's engine and a repository of its own."""
    bundle = os.environ.get("TEST_BUILD_CA_BUNDLE")
    settings = workspace.settings.model_copy(
        update={
            "container_engine": "required",
            "image_repository": workspace.settings.model_name.replace("_", "-").strip("-"),
            "base_image": BASE,
            "build_network": "host",
            "build_ca_bundle": Path(bundle) if bundle else None,
            **changes,
        }
    )
    return Workspace(settings, workspace.storage, workspace.ledger, workspace.registry_login)


def shipped_unseen(workspace: Workspace, version: int) -> ImageRecord:
    """Build and publish without the verification, for tests that are about what comes after it."""
    return shipping.publish(workspace, shipping.build(workspace, version), VERIFIED)


def images_of(workspace: Workspace, version: int) -> list[Any]:
    label = {"label": [f"churn.model.name={workspace.settings.model_name}", f"churn.model.version={version}"]}
    return docker.from_env().images.list(filters=label)


def remove_images(workspace: Workspace) -> None:
    engine = docker.from_env()
    for image in engine.images.list(filters={"label": f"churn.model.name={workspace.settings.model_name}"}):
        engine.images.remove(image.id, force=True)


def remove_all_with(label: str) -> None:
    """Remove images with a label and those that were made of them: an image goes after its children."""
    engine, removed = docker.from_env(), True
    while removed:
        removed = False
        for image in engine.images.list(all=True, filters={"label": label}):
            with suppress(APIError):
                engine.images.remove(image.id, force=True)
                removed = True


def containers_of(workspace: Workspace) -> list[str]:
    strays = docker.from_env().containers.list(all=True, filters={"label": "churn.verifying"})
    return [one.name for one in strays if f"-{workspace.settings.model_name}-" in one.name]


def derived(built: BuiltImage, command: list[str], start: list[str] | None = None) -> BuiltImage:
    """The image after a command of root in it: what somebody has meddled with."""
    engine = docker.from_env()
    container = engine.containers.create(built.image_id, entrypoint=command, command=[], user="0:0")
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs()
        original = engine.images.get(built.image_id).attrs["Config"]
        conf = {"User": original["User"], "Cmd": start or original["Cmd"], "Entrypoint": original["Entrypoint"] or []}
        made = container.commit(conf=conf)
    finally:
        container.remove(force=True)
    return BuiltImage(built.version, made.id)


def files_of(image_id: str, base: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Every file in every layer that an image has above its base."""
    engine = docker.from_env()
    above = len(engine.images.get(base).attrs["RootFS"]["Layers"])
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.images.get(image_id).save()))) as image:
        (manifest,) = json.loads(_content(image, "manifest.json"))
        for name in manifest["Layers"][above:]:
            with tarfile.open(fileobj=io.BytesIO(_content(image, name))) as layer:
                for member in layer.getmembers():
                    yield member, _content(layer, member.name) if member.isfile() else b""


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    assert stream
    return stream.read()


@dataclass(frozen=True)
class Registry:
    """A running registry of images."""

    address: str

    def digest(self, repository: str, tag: str) -> str | None:
        accept = "application/vnd.docker.distribution.manifest.v2+json"
        strays = httpx.head(f"http://{self.address}/v2/{repository}/manifests/{tag}", headers={"accept": accept})
        return strays.headers.get("docker-content-digest") if strays.is_success else None


@contextmanager
def registry_server(folder: Path, port: int | None = None, htpasswd: str | None = None) -> Iterator[Registry]:
    """Debian's docker-registry on loopback, its blobs in the folder."""
    port = port or free_port()
    auth = f"auth:\n  htpasswd:\n    realm: test\n    path: {folder}/htpasswd\n" if htpasswd else ""
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
    configuration = folder / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {folder}/blobs\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{auth}"
    )

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=2).status_code in (200, 401)
        except httpx.TransportError:
            return False

    with running(["docker-registry", "serve", str(configuration)], ready, folder / "registry.log"):
        yield Registry(f"127.0.0.1:{port}")
