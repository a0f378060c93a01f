"""The client of the container engine; the only module that talks to one. Every failure is an outage, and is retried."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound
from requests.exceptions import RequestException

from churn.errors import Outage
from churn.foundation.local_server import LOOPBACK, ServiceEnded

PORT = "8080/tcp"
VERIFYING, OWNER = "churn.verifying", "churn.verifying.by"
"""Labels of the containers of a verification, with its host and process. They identify what a killed verification left behind."""
NETWORK = "churn-verification"
_AGAIN = "Try again. In Airflow, the task is retried automatically."
_LAST_LINES = 5
_LONGEST = 3600  # seconds that a verification may take
CONFLICT = 409  # HTTP's
_KILLED = 128  # an exit status above this is a signal


class EngineFailed(Outage):
    """The container engine or the image registry is unavailable or failed. This says nothing about the model, and is retried."""


class BaseUnavailable(EngineFailed):
    """The base image is not on this machine, and cannot be pulled. `reason` says so as the end of a sentence."""

    def __init__(self, name: str, cause: str) -> None:
        self.reason = (
            f"the base image {name} is not on this machine and cannot be pulled ({cause}); name another one in CHURN_BASE_IMAGE, or set "
            "CHURN_CONTAINER_ENGINE=none"
        )
        super().__init__(f"The image was not built, because {self.reason}. The promotion is kept. {_AGAIN}")


@dataclass(frozen=True)
class Login:
    """User and password for an image registry."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Login(hidden)"


@dataclass(frozen=True)
class Base:
    """The base of an image: the pinned reference to build from, its name, and its digest."""

    pinned: str
    name: str
    digest: str | None


class Engine:
    """The operations of a container engine that a release needs."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    @classmethod
    def find(cls, wanted: str) -> Engine | None:
        """Find the container engine of this machine; None if there is none and none is required.

        Args:
            wanted: `auto`, `required` or `none`.

        Raises:
            EngineFailed: an engine is required, and none answers.
        """
        if wanted == "none":
            return None
        try:
            client = docker.from_env(timeout=600)
            client.ping()
        except (DockerException, RequestException) as error:
            if wanted == "required":
                raise EngineFailed(
                    f"No container engine answers ({type(error).__name__}), but one is required by CHURN_CONTAINER_ENGINE, by DOCKER_HOST, or because "
                    f"images were built here before. Start it, or set CHURN_CONTAINER_ENGINE=none. {_AGAIN}"
                ) from error
            return None
        return cls(client)

    @classmethod
    def require(cls, wanted: str) -> Engine:
        """The engine that has built an image.

        Raises:
            EngineFailed: none answers.
        """
        engine = cls.find(wanted)
        if engine is None:
            raise EngineFailed(f"The container engine that built the image is unavailable. Start it. {_AGAIN}")
        return engine

    def base(self, name: str) -> Base:
        """The base image, pulled if needed. It is pinned by its digest if it comes from a registry, otherwise by its id.

        Raises:
            BaseUnavailable: it is not on this machine, and cannot be pulled.
        """
        with _explained(f"find the base image {name} (CHURN_BASE_IMAGE)"):
            try:
                image = self._client.images.get(name)
            except ImageNotFound:
                image = self._pulled_base(name)
        repository = name.partition("@")[0]
        if ":" in repository.rpartition("/")[2]:
            repository = repository.rpartition(":")[0]
        digests = [digest for digest in image.attrs["RepoDigests"] or [] if digest.partition("@")[0] == repository]
        pinned = digests[0] if digests else image.id
        return Base(pinned, name, digests[0].partition("@")[2] if digests else None)

    def _pulled_base(self, name: str) -> Any:
        try:
            return self._client.images.pull(name)
        except (DockerException, RequestException) as error:
            raise BaseUnavailable(name, type(error).__name__) from error

    def build(self, context: Path, base: Base, network: str | None) -> str:
        """Build the Dockerfile of a folder; returns the id of the image, which has no tag yet."""
        with _explained("build the image"):
            try:
                image, _ = self._client.images.build(
                    path=str(context),
                    buildargs={"BASE_IMAGE": base.pinned},
                    network_mode=network,
                    rm=True,
                    forcerm=True,
                )
            except BuildError as error:
                words = [line["stream"].strip() for line in error.build_log if line.get("stream", "").strip()]
                raise EngineFailed(
                    f"The image could not be built from {base.name}: {error.msg}. Its last output: {' / '.join(words[-_LAST_LINES:])}. "
                    "Check CHURN_BASE_IMAGE, CHURN_BUILD_NETWORK and CHURN_BUILD_CA_BUNDLE; then clear the failed run."
                ) from error
        return str(image.id)

    def size(self, image_id: str) -> int:
        """Size of an image in bytes, including its base."""
        with _explained("inspect the image"):
            return int(self._client.images.get(image_id).attrs["Size"])

    def labels(self, image_id: str) -> dict[str, str]:
        """The labels of an image."""
        with _explained("inspect the image"):
            return dict(self._client.images.get(image_id).labels)

    def named(self, tag: str) -> str | None:
        """The id of the image with a name on this machine; None if there is none."""
        with _explained(f"look for {tag}"):
            try:
                return str(self._client.images.get(tag).id)
            except ImageNotFound:
                return None

    def digest(self, reference: str, login: Login | None) -> str | None:
        """The digest that a registry has for a name; None if it has none."""
        with _explained(f"ask the registry for {reference}"):
            try:
                return str(self._client.images.get_registry_data(reference, auth_config=_auth(login)).id)
            except NotFound:
                return None

    def pull(self, reference: str, login: Login | None) -> None:
        """Pull an image by its digest."""
        with _explained(f"pull {reference}"):
            self._client.images.pull(reference, auth_config=_auth(login))

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Name an image. Repeating this changes nothing."""
        with _explained("tag the image"):
            self._client.images.get(image_id).tag(repository, tag)

    def untag(self, repository: str, tag: str) -> None:
        """Remove a name, but keep the image. Repeating this changes nothing."""
        with _explained("remove the tag"):
            try:
                self._client.images.remove(f"{repository}:{tag}", noprune=True)
            except ImageNotFound:
                return

    def push(self, repository: str, tag: str, login: Login | None) -> str:
        """Push a tag, and read back its digest from the registry.

        Raises:
            EngineFailed: the registry refused, was unavailable, or has another image than was pushed.
        """
        pushed = None
        with _explained(f"push {repository}:{tag}"):
            for line in self._client.images.push(repository, tag, auth_config=_auth(login), stream=True, decode=True):
                if "error" in line:
                    raise EngineFailed(
                        f"{repository}:{tag} could not be pushed: {str(line['error'])[:300]}. {_AGAIN} "
                        "Check CHURN_IMAGE_REGISTRY, and that the container engine is logged in to the image registry."
                    )
                pushed = line.get("aux", {}).get("Digest", pushed)
            digest = self._client.images.get_registry_data(f"{repository}:{tag}", auth_config=_auth(login)).id
        if digest != pushed:
            raise EngineFailed(
                f"{repository}:{tag} was pushed as {pushed}, but the image registry has {digest}, so someone else pushed it too. {_AGAIN}"
            )
        return str(digest)

    @contextmanager
    def running(
        self, image_id: str, name: str, timeout: float, wait: Callable[..., None], network: str | None = None
    ) -> Iterator[Running]:
        """Run an image as it is meant to be run, on a free port of loopback or in a network. It is removed on leaving.

        It is read-only, without capabilities, under its own user, in a network without any connection. Containers that killed
        verifications left behind are removed first.

        Args:
            image_id: the image to run.
            name: the name of what is verified; the name of the container is made from it and this process.
            timeout: seconds until it must answer.
            wait: waits for a URL; see `foundation.local_server.wait_until_ready`.
            network: a network without any connection that this process shares, if it runs in a container itself and therefore has
                another loopback; None for a port on loopback.
        """
        self.remove_strays()
        name = f"{name}-{socket.gethostname()}-{os.getpid()}"  # builders in containers may have the same pid
        self._remove(name)
        try:
            with _explained("start the image"):
                container = self._client.containers.run(
                    image_id,
                    detach=True,
                    name=name,
                    labels={VERIFYING: name, OWNER: f"{socket.gethostname()} {os.getpid()}"},
                    network=network or self._closed_network(),
                    read_only=True,
                    cap_drop=["ALL"],
                    security_opt=["no-new-privileges"],
                    ports={} if network else {PORT: (LOOPBACK, None)},
                )
                container.reload()
            url = _address(container, network)
            wait(url, lambda: _end(container), timeout)
            yield Running(url, container)
        finally:
            self._remove(name)

    def images(self, label: str) -> list[dict[str, Any]]:
        """Images with a label `name=value`: id, tags, labels and size."""
        with _explained("list the images"):
            images = self._client.images.list(filters={"label": label})
        return [
            {
                "id": image.id,
                "tags": list(image.tags),
                "labels": dict(image.labels),
                "size": int(image.attrs["Size"]),
            }
            for image in images
        ]

    def remove_image(self, image_id: str) -> bool:
        """Remove an image with all its tags; False if a container uses it."""
        try:
            self._client.images.remove(image_id, force=True)
        except ImageNotFound:
            return True
        except APIError as error:
            if error.status_code == CONFLICT:
                return False
            raise EngineFailed(f"The container engine could not remove {image_id[:19]} ({error}).") from error
        return True

    def remove_strays(self) -> list[str]:
        """Remove containers of verifications whose process has ended, or that are too old to be in use; returns their names."""
        removed = []
        with _explained("list the containers"):
            containers = self._client.containers.list(all=True, filters={"label": VERIFYING}, ignore_removed=True)
        for container in containers:
            host, _, pid = container.labels.get(OWNER, "").partition(" ")
            dead = host == socket.gethostname() and not psutil.pid_exists(int(pid))
            age = datetime.now(UTC) - datetime.fromisoformat(container.attrs["Created"][:19] + "+00:00")
            if dead or age.total_seconds() > _LONGEST:
                self._remove(str(container.name))
                removed.append(str(container.name))
        return removed

    def _remove(self, name: str) -> None:
        with _explained("remove the container"):
            try:
                self._client.containers.get(name).remove(force=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != CONFLICT:  # it is already being removed
                    raise

    def _closed_network(self) -> str:
        """A network whose containers answer on published ports of this machine, and reach nothing outside it."""
        with _explained("create the network of the verification"):
            if not self._client.networks.list(names=[f"^{NETWORK}$"]):
                self._client.networks.create(
                    NETWORK,
                    driver="bridge",
                    check_duplicate=True,
                    options={"com.docker.network.bridge.enable_ip_masquerade": "false"},
                )
        return NETWORK


@dataclass(frozen=True)
class Running:
    """A container that answers at `url`."""

    url: str
    _container: Any

    def run(self, command: list[str]) -> str:
        """The output of a command in the container."""
        with _explained(f"run {command[0]} in the container"):
            status, output = self._container.exec_run(command, demux=True)
        if status != 0:
            raise EngineFailed(f"{command[0]} ended with status {status} in the container. {_AGAIN}")
        return (output[0] or b"").decode()

    def copy_out(self, path: str, folder: Path) -> Path:
        """Copy a folder of the container to this machine."""
        with _explained(f"read {path} from the container"):
            stream, _ = self._container.get_archive(path)
            archive = io.BytesIO(b"".join(stream))
        with tarfile.open(fileobj=archive) as tar:
            # Debian 12's Python 3.11.2 has no filters yet.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(folder)  # noqa: S202 -- filtered
        return folder / Path(path).name


def _auth(login: Login | None) -> dict[str, str] | None:
    """The credentials as the client expects them; None for those of the engine."""
    return {"username": login.username, "password": login.password} if login else None


def _address(container: Any, network: str | None) -> str:
    """The address at which the container answers; empty if it has ended."""
    if network:
        address = container.attrs["NetworkSettings"]["Networks"][network]["IPAddress"]
        return f"http://{address}:{PORT.partition('/')[0]}" if address else ""
    bindings = container.ports.get(PORT)
    return f"http://{LOOPBACK}:{bindings[0]['HostPort']}" if bindings else ""


def _end(container: Any) -> ServiceEnded | None:
    with _explained("inspect the container"):
        container.reload()
        if container.status in ("created", "running"):
            return None
        status = int(container.attrs["State"]["ExitCode"])
        if status == 0 or status > _KILLED:  # a service does not end without an error unless it is told to
            raise EngineFailed(f"The container was stopped from outside (status {status}). {_AGAIN}")
        lines = container.logs(tail=_LAST_LINES).decode(errors="replace").strip().splitlines()
    return ServiceEnded(status, lines[-1] if lines else "it printed nothing")


@contextmanager
def _explained(act: str) -> Iterator[None]:
    try:
        yield
    except (DockerException, RequestException) as error:
        raise EngineFailed(
            f"The container engine could not {act} ({type(error).__name__}: {str(error)[:300]}). {_AGAIN}"
        ) from error
