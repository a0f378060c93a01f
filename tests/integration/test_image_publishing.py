"""From a verified image to its digest in a registry of images, a real one; and what goes wrong on the way."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker
import pytest
from typer.testing import CliRunner

from churn.cli import main
from churn.errors import ChurnError
from churn.pipeline import disagreements, shipping, steps
from churn.pipeline.workspace import Workspace
from churn.release.engine import Engine, EngineFailed, Login
from churn.release.image import BuiltImage
from churn.release.image_retention import list_stored, remove_images
from churn.release.publishing import find_published
from support.basics import free_port
from support.images import VERIFIED, Registry, needs_engine, needs_registry, registry_server, with_engine
from support.images import remove_images as remove_all

pytestmark = [pytest.mark.engine, needs_engine, needs_registry]
PASSWORD = "a-token-of-twelve-hours"
HTPASSWD = "AWS:$2b$05$kqUWyM1V0oJDnq0mGCdDbuQWLxfwd5JaK9i0DWDlUdSqEES8uAYc2\n"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    (tmp_path / "registry").mkdir()
    with registry_server(tmp_path / "registry") as outcome:
        yield outcome


@pytest.fixture
def workspace(two_champions: Workspace, registry: Registry) -> Iterator[Workspace]:
    """A bench that pushes to the registry; version 2 is in production, without an image yet."""
    outcome = with_engine(two_champions, image_registry=registry.address)
    yield outcome
    remove_all(outcome)


def small_image(workspace: Workspace, version: int, megabytes: int = 1, run_id: str | None = None) -> BuiltImage:
    """An image with the labels of a version and little in it: pushing does not ask what is inside."""
    import io
    import os
    import tarfile

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("content")
        entry.size = megabytes * 2**20
        tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    run_id = run_id or workspace.tracking.version(version).run_id
    labels = (
        f"LABEL churn.model.name={workspace.settings.model_name} churn.model.version={version} churn.run.id={run_id}"
    )
    answer = docker.from_env().api.import_image_from_data(archive.getvalue(), changes=labels)
    return BuiltImage(version, json.loads(answer.splitlines()[-1])["status"], 1.5)


def test_published_is_what_the_registry_says(workspace: Workspace, registry: Registry) -> None:
    """Pushed, its digest read back, kept in the ledger and at the version; `production` is the same digest."""
    record = shipping.publish(workspace, small_image(workspace, 2), VERIFIED)
    repository = workspace.settings.image_repository
    assert record.tag == f"{registry.address}/{repository}:2"
    assert record.digest == registry.digest(repository, "2") == registry.digest(repository, "production")
    assert workspace.ledger.image(workspace.settings.model_name, 2) == record
    tags = workspace.tracking.version(2).tags
    assert (tags["churn.image_digest"], tags["churn.image_build_seconds"]) == (record.digest, "1.5")


def test_what_is_not_in_production_is_not_named_so(workspace: Workspace, registry: Registry) -> None:
    """An earlier version's image by hand is pushed, and `production` does not move to it."""
    shipping.publish(workspace, small_image(workspace, 1), VERIFIED)
    repository = workspace.settings.image_repository
    assert registry.digest(repository, "1")
    assert registry.digest(repository, "production") is None


def test_production_moves_after_the_digest_is_read_back_and_kept(
    workspace: Workspace, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment when `production` is pushed, the ledger has the digest that the registry answers."""
    seen: list[tuple[str, object]] = []
    honest = Engine.push

    def watched(engine: Engine, repository: str, tag: str, login: Login | None) -> str:
        known = workspace.ledger.image(workspace.settings.model_name, 2)
        seen.append((tag, known and known.digest == registry.digest(workspace.settings.image_repository, "2")))
        return honest(engine, repository, tag, login)

    monkeypatch.setattr(Engine, "push", watched)
    shipping.publish(workspace, small_image(workspace, 2), VERIFIED)
    assert seen == [("2", None), ("production", True)]


def test_a_registry_that_is_away_takes_nothing_back(two_champions: Workspace, tmp_path: Path) -> None:
    """The push is an outage; the promotion stays, and the retry publishes once the registry is there."""
    port = free_port()
    workspace = with_engine(two_champions, image_registry=f"127.0.0.1:{port}")
    built, model = small_image(workspace, 2), workspace.settings.model_name
    try:
        with pytest.raises(EngineFailed, match="push"):
            shipping.publish(workspace, built, VERIFIED)
        assert workspace.ledger.image(model, 2) is None
        assert workspace.ledger.in_production(model).version == 2
        assert workspace.ledger.freeze(model) is None
        with registry_server(tmp_path, port) as registry:
            record = shipping.publish(workspace, built, VERIFIED)
            assert record.digest == registry.digest(workspace.settings.image_repository, "production")
    finally:
        remove_all(workspace)


@contextmanager
def cutting(port: int, after: int) -> Iterator[int]:
    """A way to a port that is cut, for good, once so many bytes have gone up; yields its own port."""
    passed, server = [0], socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while (passed[0] < after) and (data := source.recv(65_536)):
                passed[0] += len(data) if counts else 0
                target.sendall(data)
        for half in (source, target):
            with suppress(OSError):
                half.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                upstream = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(client, upstream, True), daemon=True).start()
                threading.Thread(target=pump, args=(upstream, client, False), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def test_a_push_that_dies_half_way_is_repeated(two_champions: Workspace, tmp_path: Path) -> None:
    """Cut in the middle of a layer: an outage, nothing recorded; the same push again is whole."""
    (tmp_path / "registry").mkdir()
    with registry_server(tmp_path / "registry") as registry:
        port = int(registry.address.rpartition(":")[2])
        with cutting(port, 3 * 2**20) as broken:
            workspace = with_engine(two_champions, image_registry=f"127.0.0.1:{broken}")
            built = small_image(workspace, 2, megabytes=8)
            with pytest.raises(EngineFailed, match="push"):
                shipping.publish(workspace, built, VERIFIED)
        assert workspace.ledger.image(workspace.settings.model_name, 2) is None
        assert registry.digest(workspace.settings.image_repository, "2") is None
        whole = with_engine(two_champions, image_registry=registry.address)
        record = shipping.publish(whole, built, VERIFIED)
        assert record.digest == registry.digest(workspace.settings.image_repository, "production")
        remove_all(workspace)


def test_what_is_pushed_but_gone_here_comes_back_by_its_digest(workspace: Workspace, registry: Registry) -> None:
    """Pruned on this machine, a rollback finds the image in the registry, and `production` names it again."""
    first, second = (shipping.publish(workspace, small_image(workspace, version), VERIFIED) for version in (1, 2))
    docker.from_env().images.remove(first.image_id, force=True)
    done = steps.roll_back(workspace, None, "a test", "tester", "rollback 1")
    assert (done.promotion.version, done.image) == (1, first)
    assert registry.digest(workspace.settings.image_repository, "production") == first.digest != second.digest


def test_what_is_gone_everywhere_is_built_again(workspace: Workspace) -> None:
    """Removed from the engine and from the registry: it is not taken for published."""
    record = shipping.publish(workspace, small_image(workspace, 1), VERIFIED)
    docker.from_env().images.remove(record.image_id, force=True)
    shutil.rmtree(Path(workspace.settings.data_root).parent / "registry/blobs")
    assert find_published(1, workspace.ledger, workspace.settings.model_name, workspace.image_spec) is None


def test_the_status_says_when_the_image_in_production_is_gone(two_champions: Workspace) -> None:
    """Removed behind our back: a problem with its cure, not `published`."""
    workspace = with_engine(two_champions)
    record = shipping.publish(workspace, small_image(workspace, 2), VERIFIED)
    assert disagreements.find_disagreements(workspace) == []
    docker.from_env().images.remove(record.image_id, force=True)
    (problem,) = disagreements.find_disagreements(workspace)
    assert "no longer exists. Run `churn image build --version 2`" in problem


def test_a_base_of_a_registry_is_pinned_by_its_digest(workspace: Workspace, registry: Registry) -> None:
    """What is built on is the digest, whatever its tag will name tomorrow; the label keeps it."""
    engine, name = docker.from_env(), f"{registry.address}/base"
    built = small_image(workspace, 1)
    engine.images.get(built.image_id).tag(name, "3.11")
    engine.images.push(name, "3.11")
    engine.images.remove(built.image_id, force=True)
    base = Engine.find("required").base(f"{name}:3.11")
    assert base.digest == registry.digest("base", "3.11")
    assert base.pinned == f"{name}@{base.digest}"
    assert Engine.find("required").base(workspace.settings.base_image).pinned.startswith("sha256:")


def test_only_images_that_nobody_needs_go(workspace: Workspace) -> None:
    """The one in production and the last that were stay; unpublished ones go, and what went is said to be pruned."""
    first, second = (shipping.publish(workspace, small_image(workspace, version), VERIFIED) for version in (1, 2))
    leftover, foreign = small_image(workspace, 2), small_image(workspace, 1, run_id="anothers")
    model, engine = workspace.settings.model_name, Engine.find("required")
    stored = list_stored(1, workspace.ledger, model, engine)
    assert {image.image_id: image.reason for image in stored} == {
        first.image_id: None,
        second.image_id: "is tagged production",
        leftover.image_id: None,
        foreign.image_id: "belongs to a version of another project",
    }
    assert {image.reason for image in list_stored(2, workspace.ledger, model, engine)} == {
        "is tagged production",
        "was in production",
        "belongs to a version of another project",
        None,
    }
    gone = remove_images([image for image in stored if image.reason is None], workspace.ledger, model, engine)
    assert {image.image_id for image in gone} == {first.image_id, leftover.image_id}
    assert [workspace.ledger.image(model, version).state for version in (1, 2)] == ["pruned", "published"]
    outcome = find_published(1, workspace.ledger, model, workspace.image_spec)
    assert outcome is not None, "the registry still has it"


def test_the_commands(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`churn image` lists what is, says that a version is published, and prunes on demand only."""
    settings = workspace.settings
    for name in ("ledger_url", "data_root", "model_name", "image_registry", "image_repository", "base_image"):
        monkeypatch.setenv(f"CHURN_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("CHURN_CONTAINER_ENGINE", "required")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)

    def churn(*arguments: str) -> str:
        result = CliRunner().invoke(main.app, ["image", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "No image has been built" in churn("list")
    old = shipping.publish(workspace, small_image(workspace, 1), VERIFIED)
    new = shipping.publish(workspace, small_image(workspace, 2), VERIFIED)
    listed = json.loads(churn("list", "--json"))
    assert [(image["version"], image["digest"], image["in_production"]) for image in listed] == [
        (2, new.digest, True),
        (1, old.digest, False),
    ]
    assert "now, since" in churn("list")
    assert f"published as {new.tag}" in churn("build")
    assert "would be removed with --yes" in churn("prune", "--keep", "1")
    assert workspace.ledger.image(settings.model_name, 1).state == "published"
    assert "has been removed" in churn("prune", "--keep", "1", "--yes")
    assert workspace.ledger.image(settings.model_name, 1).state == "pruned"
    aside = CliRunner().invoke(main.app, ["image", "build", "--version", "99"])
    assert (aside.exit_code, "The ledger has no version 99" in aside.stderr) == (1, True)
    assert [image["version"] for image in json.loads(churn("list", "--json"))] == [2, 1]
    missing = CliRunner().invoke(main.app, ["image", "verify", "--version", "7"])
    assert (missing.exit_code, "churn image build --version 7" in missing.stderr) == (1, True)


class _Ecr(BaseHTTPRequestHandler):
    """Amazon's answer to GetAuthorizationToken, and nothing else."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["x-amz-target"].endswith("GetAuthorizationToken")
        token = base64.b64encode(f"AWS:{PASSWORD}".encode()).decode()
        outcome = {"authorizationToken": token, "proxyEndpoint": "https://ecr.test", "expiresAt": 1.9e9}
        body = json.dumps({"authorizationData": [outcome]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def ecr() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ecr)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_amazons_registry_is_entered_by_the_providers_connection(
    two_champions: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of the ECR hook opens a registry that asks for it; without one the push is an outage that says no password."""
    from churn_airflow.steps import registry_login

    with registry_server(tmp_path, htpasswd=HTPASSWD) as registry, ecr() as endpoint:
        connection = {"conn_type": "aws", "login": "key", "password": "secret"}
        connection["extra"] = {"endpoint_url": endpoint, "region_name": "eu-central-1"}  # type: ignore[assignment]
        monkeypatch.setenv("AIRFLOW_CONN_CHURN_ECR", json.dumps(connection))
        changes = {"image_registry": registry.address, "registry_login": "ecr", "aws_conn_id": "churn_ecr"}
        workspace = with_engine(two_champions, **changes)
        built = small_image(workspace, 2)
        entered = Workspace(workspace.settings, workspace.storage, workspace.ledger, registry_login(workspace.settings))
        try:
            with pytest.raises(ChurnError, match="aws ecr get-login-password"):
                shipping.publish(workspace, built, VERIFIED)
            wrong = Workspace(
                workspace.settings, workspace.storage, workspace.ledger, lambda: Login("AWS", "not-the-token")
            )
            with pytest.raises(EngineFailed) as refused:
                shipping.publish(wrong, built, VERIFIED)
            assert "not-the-token" not in str(refused.value) + repr(wrong.registry_login and wrong.registry_login())
            record = shipping.publish(entered, built, VERIFIED)
            assert record.state == "published"
            assert record.digest is not None
        finally:
            remove_all(workspace)
