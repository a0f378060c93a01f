"""The serving image with a real container engine: built, run as it would be, and held against the registry's model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

from churn import night
from churn.foundation import serving
from churn.foundation.serving import ModelMismatch
from churn.release import image
from churn.release.image import BuiltImage, EngineFailed, ImageSpec
from churn.release.verify import verify
from churn.workbench import Request, Workbench
from support import ROOT, land_night, make_bench

BASE = os.environ.get("TEST_BASE_IMAGE", f"python:{serving.PYTHON}-slim")
REPOSITORY = "churn-test"


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


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> Workbench:
    """A bench with two versions in the registry."""
    bench = make_bench(tmp_path_factory.mktemp("image"), mlflow_url)
    for number in (1, 2):
        land_night(bench, number)
        request = Request(f"night {number}")
        for batch in night.arrive(bench, request).batches:
            night.validate(bench, request, batch.batch)
        night.compare(bench, request, night.train(bench, request))
        night.promote(bench, request.night)
    return bench


@pytest.fixture(scope="module")
def spec() -> Iterator[ImageSpec]:
    bundle = os.environ.get("TEST_BUILD_CA_BUNDLE")
    yield ImageSpec(
        repository=REPOSITORY,
        base_image=BASE,
        engine="required",
        network="host",
        ca_bundle=Path(bundle) if bundle else None,
        pip_conf=None,
        lock=ROOT / "requirements-serving.lock",
        environments=ROOT / "var/serving",
        git_commit="0123abc",
    )
    if why_not() is None:
        for tag in [tag for found in docker.from_env().images.list(REPOSITORY) for tag in found.tags]:
            docker.from_env().images.remove(tag, force=True)


@pytest.mark.engine
@needs_engine
def test_an_image_is_built_verified_and_tagged(promoted: Workbench, spec: ImageSpec) -> None:
    """Answers equal the registry model's, then the tag; built again it is the same image; nothing keeps running."""
    built = image.build_image(2, promoted.tracking, spec)
    verification = image.verify_image(built, promoted.tracking, promoted.contract, spec)
    record = image.publish_image(built, verification, "churn", spec)
    assert (record.state, record.tag, record.image_id) == ("published", f"{REPOSITORY}:2", built.image_id)
    assert verification.max_difference <= 1e-12
    assert image.build_image(2, promoted.tracking, spec) == built
    engine = docker.from_env()
    found = engine.images.get(f"{REPOSITORY}:2")
    assert found.labels["org.opencontainers.image.version"] == "2"
    assert found.labels["org.opencontainers.image.revision"] == "0123abc"
    assert found.labels["churn.run.id"] == promoted.tracking.version(2).run_id
    assert found.attrs["Config"]["User"] == "10001:10001"
    assert engine.containers.list(all=True, filters={"ancestor": built.image_id}) == []


@pytest.mark.engine
@needs_engine
def test_the_image_of_another_version_is_a_mismatch(promoted: Workbench, spec: ImageSpec) -> None:
    """The image of version 1, called version 2, answers differently: its promotion is taken back."""
    wrong = BuiltImage(2, image.build_image(1, promoted.tracking, spec).image_id)
    with pytest.raises(ModelMismatch, match="differs from the registry's model"):
        image.verify_image(wrong, promoted.tracking, promoted.contract, spec)


@pytest.mark.engine
@needs_engine
def test_a_model_that_does_not_load_is_a_mismatch(
    promoted: Workbench, spec: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged model file ends the container before it is ready, and that is said."""
    from contextlib import contextmanager

    honest = serving.downloaded

    @contextmanager
    def damaged(version: int, tracking: object) -> Iterator[Path]:
        with honest(version, tracking) as model:  # type: ignore[arg-type]
            (model / "model.skops").write_bytes(b"no model")
            yield model

    monkeypatch.setattr(serving, "downloaded", damaged)
    broken = image.build_image(2, promoted.tracking, spec)
    with pytest.raises(ModelMismatch, match="does not load"):
        image.verify_image(broken, promoted.tracking, promoted.contract, spec)


@pytest.mark.engine
@needs_engine
def test_a_base_image_that_cannot_be_had_says_nothing_about_the_model(promoted: Workbench, spec: ImageSpec) -> None:
    """The build fails as an outage, which is retried and takes nothing back."""
    with pytest.raises(EngineFailed, match="CHURN_BASE_IMAGE"):
        image.build_image(2, promoted.tracking, replace(spec, base_image="127.0.0.1:9/nowhere:1"))


def test_an_engine_that_is_away_is_an_outage(
    promoted: Workbench, spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an engine is required its absence is retried; where it is not, the state is honest."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(EngineFailed, match="required"):
        image.build_image(2, promoted.tracking, spec)
    assert image.build_image(2, promoted.tracking, replace(spec, engine="auto")) == BuiltImage(2, None)


def test_without_an_engine_the_same_app_is_verified_and_the_state_says_so(promoted: Workbench, spec: ImageSpec) -> None:
    """An environment made from the serving lock answers like the registry; never a fake success."""
    none = replace(spec, engine="none")
    built = image.build_image(2, promoted.tracking, none)
    verification = image.verify_image(built, promoted.tracking, promoted.contract, none)
    record = image.publish_image(built, verification, "churn", none)
    assert (record.state, record.tag, record.image_id) == ("not_built", None, None)
    assert record.detail.startswith("not built: no container engine")
    assert verification.max_difference <= 1e-12


def test_a_served_model_is_held_against_the_one_that_is_asked_for(promoted: Workbench, spec: ImageSpec) -> None:
    """Version 1 served, version 2 expected: a mismatch that says how far apart they are."""
    python = serving.serving_python(spec.lock, spec.environments)
    with (
        serving.downloaded(1, promoted.tracking) as model,
        serving.served(python, model) as url,
        pytest.raises(ModelMismatch, match="of 220 answers"),
    ):
        verify(url, promoted.tracking.load(2), promoted.contract)
