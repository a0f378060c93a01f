"""The serving image with a real container engine: built, run as it would be, and held against the registry's model."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import httpx
import pytest

from churn.errors import NothingToDo
from churn.foundation import artifacts
from churn.foundation.artifacts import ArtifactChanged
from churn.foundation.ledger import Ledger
from churn.foundation.local_server import ModelMismatch, wait_until_ready
from churn.pipeline import disagreements, shipping
from churn.pipeline.workspace import Workspace
from churn.release.engine import BaseUnavailable, Engine, EngineFailed
from churn.release.image import BuiltImage, build_image
from churn.release.image_scoring import image_scorer
from churn.release.image_verification import verify_image
from churn.release.probes import contract_rows, rows_body
from churn.release.service_checks import ImageFault
from churn.scoring import second_scoring
from churn.scoring.score_list import ListRequest, make_list
from churn.scoring.second_scoring import SecondScoringDiffers
from support.basics import ROOT, clone_workspace, free_port
from support.images import (
    containers_of,
    derived,
    files_of,
    images_of,
    needs_engine,
    new_folder,
    remove_all_with,
    remove_images,
    why_not,
    with_engine,
)
from support.score_lists import in_this_process

pytestmark = pytest.mark.engine
SECRET = "index-password-4711"


@pytest.fixture(scope="module")
def shipped(second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A bench whose champion, version 2, has its image."""
    folder = new_folder(tmp_path_factory.mktemp("image"))
    workspace = clone_workspace(second_champion, folder)
    if why_not():
        yield workspace
        return
    workspace = with_engine(workspace)
    shipping.ship(workspace, 2)
    yield workspace
    remove_images(workspace)


@needs_engine
def test_an_image_is_built_verified_and_published(shipped: Workspace) -> None:
    """Its answers are the model's, it is named by its version and as `production`; ledger and MLflow say what it is."""
    name = shipped.image_spec.name
    record = shipped.ledger.image(shipped.settings.model_name, 2)
    (image,) = images_of(shipped, 2)
    assert (record.state, record.tag, record.image_id, record.digest) == ("published", f"{name}:2", image.id, None)
    assert sorted(image.tags) == [f"{name}:2", f"{name}:production"]
    assert record.max_difference is not None
    assert record.max_difference <= 1e-12
    assert record.probes > 1000
    assert (record.size, record.build_seconds is not None) == (image.attrs["Size"], True)
    tags = shipped.tracking.version(2).tags
    assert (tags["churn.image"], tags["churn.image_image_id"]) == ("published", image.id)
    assert int(tags["churn.image_size"]) == record.size
    assert containers_of(shipped) == []


@needs_engine
def test_the_labels_say_what_the_image_is(shipped: Workspace) -> None:
    """`docker inspect` answers: model, version, run, snapshot, commit, contract, when, on which base."""
    (image,) = images_of(shipped, 2)
    known, version = shipped.ledger.version(shipped.settings.model_name, 2), shipped.tracking.version(2)
    labels = image.labels
    assert labels["org.opencontainers.image.title"] == labels["churn.model.name"] == shipped.settings.model_name
    assert labels["org.opencontainers.image.version"] == labels["churn.model.version"] == "2"
    assert labels["org.opencontainers.image.revision"] == shipped.image_spec.git_commit
    assert labels["org.opencontainers.image.base.name"] == shipped.settings.base_image
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", labels["org.opencontainers.image.created"])
    assert labels["churn.run.id"] == version.run_id
    assert labels["churn.snapshot"] == known.snapshot
    assert labels["churn.contract"] == shipped.contract.fingerprint
    assert labels["churn.model.digest"] == known.artifacts


@needs_engine
def test_no_layer_has_what_the_model_does_not_need(shipped: Workspace) -> None:
    """No compiler, package manager, cache or test data above the base."""
    (image,) = images_of(shipped, 2)
    names = {member.name for member, _ in files_of(image.id, shipped.settings.base_image)}
    unwanted = re.compile(r"(^|/)(pip|uv|gcc|cc|tests|ca-bundle\.crt|pip\.conf|\.cache|Dockerfile)(/|$)|\.csv$")
    assert [name for name in sorted(names) if unwanted.search(name)] == []
    assert any(name.endswith(".pyc") for name in names)


@needs_engine
def test_the_bill_of_materials_is_beside_the_image(shipped: Workspace, tmp_path: Path) -> None:
    """CycloneDX in the run's artifacts: the locked libraries and the distribution's packages, of this image."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    run_id = shipped.tracking.version(2).run_id
    text = Path(shipped.tracking.client.download_artifacts(run_id, "image/sbom.cdx.json", str(tmp_path))).read_text()
    bill = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    purls = {component["purl"] for component in bill["components"] if component["type"] == "library"}
    (system,) = [component for component in bill["components"] if component["type"] == "operating-system"]
    assert f"&distro={system['name']}-{system['version']}" in next(purl for purl in purls if "pkg:deb/" in purl)
    assert any(purl.startswith("pkg:pypi/scikit-learn@") for purl in purls)
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in purls)
    (image,) = images_of(shipped, 2)
    assert bill["metadata"]["component"]["hashes"][0]["content"] == image.id.removeprefix("sha256:")


@needs_engine
def test_what_is_published_is_not_built_again(shipped: Workspace) -> None:
    """A second time says that it is published, and changes nothing."""
    before = shipped.ledger.image(shipped.settings.model_name, 2)
    with pytest.raises(NothingToDo, match=r"already been published as .*:2, verified"):
        shipping.build(shipped, 2)
    assert shipping.ship(shipped, 2) == before


@needs_engine
def test_the_image_scores_a_sample_of_each_list(shipped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample is scored in the image of the version, if that is on this machine. If the image answers otherwise, there is no list."""
    monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
    request = ListRequest("list", dry_run=True)
    summary = make_list(shipped, request).row.summary
    assert summary["scored_again"] == ["in another process", "in its image"]
    assert summary["largest_difference"] <= 1e-12
    published = shipped.ledger.image(shipped.settings.model_name, 2)
    other = shipping.build(shipped, 1).image_id
    monkeypatch.setattr(Ledger, "image", lambda *_: replace(published, image_id=other))
    with pytest.raises(SecondScoringDiffers, match=r"version 2 in its image, the scores differ by up to 0\."):
        make_list(shipped, request)
    nowhere = replace(published, image_id="sha256:" + "0" * 64)
    monkeypatch.setattr(Ledger, "image", lambda *_: nowhere)
    with image_scorer(2, shipped) as scorer:
        assert scorer is None
    assert make_list(shipped, request).row.summary["scored_again"] == ["in another process"]
    assert containers_of(shipped) == []


@needs_engine
def test_without_its_base_image_nothing_is_built_and_the_settings_are_named(two_champions: Workspace) -> None:
    """Found out in seconds: the service is verified without an image. Where an engine is required, it is an outage."""
    nowhere = f"127.0.0.1:{free_port()}/nothing:1"
    record = shipping.ship(with_engine(two_champions, container_engine="auto", base_image=nowhere), 2)
    assert record.state == "not_built"
    for part in (nowhere, "cannot be pulled", "CHURN_BASE_IMAGE", "CHURN_CONTAINER_ENGINE=none", "own environment"):
        assert part in record.detail
    assert disagreements.find_disagreements(two_champions) == []
    with pytest.raises(BaseUnavailable, match="CHURN_BASE_IMAGE"):
        shipping.build(with_engine(two_champions, base_image=nowhere), 2)


@needs_engine
def test_built_anew_the_layers_hold_the_same(shipped: Workspace, tmp_path: Path) -> None:
    """Without a cache, on another day: the same files with the same content, owner and mode, bytecode included.

    A password for the package index is in no layer and not in the history.
    """
    engine = docker.from_env()
    (tmp_path / "Dockerfile").write_text(f"FROM {shipped.settings.base_image}\nLABEL built=anew\n")
    base, _ = engine.images.build(path=str(tmp_path), rm=True)
    pip_conf = tmp_path / "pip.conf"
    pip_conf.write_text(f"# {SECRET}\n[global]\ntimeout = 60\n")
    spec = replace(shipped.image_spec, base_image=base.id, pip_conf=pip_conf)
    again = build_image(2, shipped, spec)
    try:
        (image,) = [image for image in images_of(shipped, 2) if image.tags]
        assert contents(again.image_id, shipped) == contents(image.id, shipped)
        assert SECRET not in json.dumps(engine.images.get(again.image_id).history())
    finally:
        remove_all_with("built=anew")


def contents(image_id: str | None, workspace: Workspace) -> dict[str, tuple[int, int, str]]:
    """Owner, mode and hash of every file above the base, but for the accounts, which have the day in them."""
    found = {}
    for member, content in files_of(image_id or "", workspace.settings.base_image):
        assert SECRET.encode() not in content, member.name
        if not member.name.startswith("etc/"):
            found[member.name] = (member.uid, member.mode, hashlib.sha256(content).hexdigest())
    return found


@needs_engine
def test_an_image_that_is_not_the_model_takes_its_promotion_back(second_champion: Workspace, tmp_path: Path) -> None:
    """The image of version 1, called version 2: back to 1, frozen, no tag; whoever was promoted meanwhile stays."""
    workspace = with_engine(clone_workspace(second_champion, new_folder(tmp_path)))
    try:
        wrong = BuiltImage(2, shipping.build(workspace, 1).image_id)
        with pytest.raises(
            ModelMismatch,
            match=r"differs from the registered model.*rolled back automatically\. Version 1 is in production",
        ):
            shipping.verify(workspace, wrong)
        model = workspace.settings.model_name
        last = workspace.ledger.in_production(model)
        assert (last.version, last.kind, workspace.ledger.image(model, 2).state) == (1, "take_back", "mismatch")
        assert workspace.ledger.freeze(model) is not None
        assert [tag for image in images_of(workspace, 1) for tag in image.tags] == []
        with pytest.raises(ModelMismatch, match="has been rolled back automatically"):
            shipping.verify(workspace, wrong)
        assert workspace.ledger.in_production(model) == last
        assert containers_of(workspace) == []
    finally:
        remove_images(workspace)


@needs_engine
def test_files_that_changed_in_the_store_are_not_built(
    second_champion: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version whose files have another hash than at registration: its own reason, no image, nothing taken back."""
    workspace = with_engine(clone_workspace(second_champion, new_folder(tmp_path)))
    honest = artifacts.mlflow.artifacts.download_artifacts

    def tampered(*args: object, **kwargs: object) -> str:
        folder = Path(honest(*args, **kwargs))
        (folder / "model.skops").write_bytes((folder / "model.skops").read_bytes() + b"\0")
        return str(folder)

    monkeypatch.setattr(artifacts.mlflow.artifacts, "download_artifacts", tampered)
    with pytest.raises(ArtifactChanged, match="have changed since it was registered"):
        shipping.ship(workspace, 2)
    assert images_of(workspace, 2) == []
    assert workspace.ledger.in_production(workspace.settings.model_name).version == 2
    assert workspace.ledger.image(workspace.settings.model_name, 2).state == "failed"


MEDDLED = {
    "a service that does not start": (
        ["sh", "-c", "echo no > /opt/churn/contract.json"],
        ImageFault,
        "ended with status 1",
    ),
    "a model that does not load": (
        ["sh", "-c", "echo no > /opt/churn/model/model.skops"],
        ModelMismatch,
        "does not load",
    ),
    "a model file beside the answers": (
        ["sh", "-c", "echo '# more' >> /opt/churn/model/MLmodel"],
        ImageFault,
        "files of the model",
    ),
    "a library of another version": (
        [
            "sh",
            "-c",
            "cd /opt/serving/lib/python3*/site-packages && sed -i 's/^Version: .*/Version: 1.0/' threadpoolctl-*/METADATA",
        ],
        ImageFault,
        "threadpoolctl 1.0 instead of",
    ),
    "a library too many": (
        [
            "sh",
            "-c",
            "cd /opt/serving/lib/python3*/site-packages && mkdir more-1.dist-info && printf 'Name: more\\nVersion: 1\\n' > more-1.dist-info/METADATA",
        ],
        ImageFault,
        "more 1 instead of none",
    ),
    "a type too many": (
        ["sh", "-c", "echo '[\"os.system\"]' > /opt/churn/trusted-types.json"],
        ImageFault,
        "types that the image trusts",
    ),
    "a contract that lets anything through": (
        ["sh", "-c", 'sed -i \'s/"maximum": 850/"maximum": 9850/\' /opt/churn/contract.json'],
        ImageFault,
        "CreditScore: above",
    ),
    "a contract that lets too little through": (
        ["sh", "-c", 'sed -i \'s/"maximum": 850/"maximum": 400/\' /opt/churn/contract.json'],
        ImageFault,
        "refuses rows of the contract",
    ),
}


@needs_engine
@pytest.mark.parametrize("what", MEDDLED)
def test_an_image_that_somebody_meddled_with_is_not_published(shipped: Workspace, what: str) -> None:
    """Whatever was changed in it is found, and is called what it is."""
    command, error, words = MEDDLED[what]
    (image,) = images_of(shipped, 2)
    meddled = derived(BuiltImage(2, image.id), command)
    try:
        with pytest.raises(error, match=words):
            verify_image(meddled, shipped, shipped.image_spec)
    finally:
        docker.from_env().images.remove(meddled.image_id, force=True)


@needs_engine
@pytest.mark.parametrize(("start", "error"), [(["true"], EngineFailed), (["false"], ImageFault)])
def test_a_container_that_ends_is_not_a_model_that_does_not_load(
    shipped: Workspace, start: list[str], error: type[Exception]
) -> None:
    """Told to stop (status 0), or broken otherwise: nothing that is held against the model."""
    (image,) = images_of(shipped, 2)
    other = derived(BuiltImage(2, image.id), ["true"], start)
    try:
        with pytest.raises(error):
            verify_image(other, shipped, shipped.image_spec)
    finally:
        docker.from_env().images.remove(other.image_id, force=True)


@needs_engine
def test_a_name_that_means_another_image_is_found_and_put_right(shipped: Workspace) -> None:
    """Somebody tags a meddled image: the status says so, the commands do not look past it, a build names the right one."""
    record = shipped.ledger.image(shipped.settings.model_name, 2)
    meddled = derived(BuiltImage(2, record.image_id), ["true"])
    engine = docker.from_env()
    try:
        engine.images.get(meddled.image_id).tag(shipped.image_spec.name, "2")
        (problem,) = disagreements.find_disagreements(shipped)
        assert f"is not the one that {record.tag} names now. Run `churn image build --version 2`" in problem
        with pytest.raises(NothingToDo, match="already been published"):
            shipping.build(shipped, 2)
        assert engine.images.get(record.tag).id == record.image_id
        assert disagreements.find_disagreements(shipped) == []
    finally:
        engine.images.remove(meddled.image_id, force=True)


@needs_engine
def test_verifications_side_by_side_do_not_end_each_other(shipped: Workspace) -> None:
    """A second one leaves the container of the first alone; what a process that is gone left behind is removed."""
    engine, name = Engine.find("required"), f"churn-verify-{shipped.settings.model_name}-2"
    (image,) = images_of(shipped, 2)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    labels = {"churn.verifying": name, "churn.verifying.by": f"{socket.gethostname()} {gone.pid}"}
    docker.from_env().containers.create(image.id, name=f"{name}-stray", labels=labels)
    with engine.running(image.id, name, 120, wait_until_ready) as running:
        assert [image for image in containers_of(shipped) if image.endswith("stray")] == []
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r}); import support; from churn.release.engine import Engine; Engine.find('required').remove_strays()"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert httpx.get(f"{running.url}/ping").status_code == 200
    assert containers_of(shipped) == []


@needs_engine
def test_a_fault_of_the_image_takes_nothing_back(shipped: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the model, so the promotion stays; it is not published, and the state says why."""
    before = shipped.ledger.image(shipped.settings.model_name, 2)
    (image,) = images_of(shipped, 2)

    def faulty(*_: object) -> None:
        raise ImageFault("the libraries are others")

    monkeypatch.setattr(shipping, "verify_image", faulty)
    with pytest.raises(ImageFault):
        shipping.verify(shipped, BuiltImage(2, image.id))
    assert shipped.ledger.image(shipped.settings.model_name, 2).state == "faulty"
    assert shipped.ledger.in_production(shipped.settings.model_name).version == 2
    shipped.ledger.record_image(before)


@needs_engine
def test_the_container_is_closed_and_stops_gracefully(shipped: Workspace) -> None:
    """Not root, read-only, no capability; its health check passes; SIGTERM lets the request in flight be answered."""
    (image,) = images_of(shipped, 2)
    engine = Engine.find("required")
    answered: list[int] = []
    rows = contract_rows(shipped.contract)
    body = rows_body(rows)
    body["data"] = body["data"] * 100
    with engine.running(image.id, f"churn-verify-{shipped.settings.model_name}-stop", 120, wait_until_ready) as running:
        (name,) = [image for image in containers_of(shipped) if "-stop-" in image]
        container = docker.from_env().containers.get(name)
        status = container.exec_run(["sh", "-c", "id -u; touch /opt/churn/x; grep CapEff /proc/1/status; env"])
        said = status.output.decode()  # the engine may put what went to standard error first
        assert "10001" in said.splitlines()
        assert "Read-only file system" in said
        assert "0000000000000000" in said
        assert "MLFLOW_TRACKING_URI" not in said
        assert "AWS_" not in said
        (network,) = container.attrs["NetworkSettings"]["Networks"]
        options = docker.from_env().networks.get(network).attrs["Options"]
        assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
        assert container.exec_run(container.attrs["Config"]["Healthcheck"]["Test"][1:]).exit_code == 0

        def send() -> None:
            answered.append(
                httpx.post(f"{running.url}/invocations", json={"dataframe_split": body}, timeout=60).status_code
            )

        client = threading.Thread(target=send)
        client.start()
        time.sleep(0.5)  # the request is in flight, and takes longer
        container.stop(timeout=30)
        client.join()
        container.reload()
        assert (answered, container.attrs["State"]["ExitCode"]) == ([200], 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{running.url}/ping")


@needs_engine
def test_a_base_image_that_cannot_be_had_says_nothing_about_the_model(
    second_champion: Workspace, tmp_path: Path
) -> None:
    """The build fails as an outage, which is retried and takes nothing back."""
    workspace = with_engine(clone_workspace(second_champion, new_folder(tmp_path)), base_image="127.0.0.1:9/nowhere:1")
    with pytest.raises(EngineFailed, match="CHURN_BASE_IMAGE"):
        shipping.ship(workspace, 2)
    model = workspace.settings.model_name
    assert (workspace.ledger.in_production(model).version, workspace.ledger.image(model, 2).state) == (2, "failed")
