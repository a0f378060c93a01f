"""Opens a registered version to score rows, after checking that its files are the registered ones.

A version that was trained with other library versions is served from its own environment, made from the locks that its
training kept. A version with a module of its own is served by another process: this one may have imported another module of
that name.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from churn.decision.comparison import Refusal
from churn.decision.inference import Scores
from churn.decision.reasons import Reason
from churn.decision.scoring_process import ScoringEnded, scoring_process
from churn.errors import ChurnError
from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
from churn.foundation.ledger import Ledger
from churn.foundation.local_server import (
    ServiceEnded,
    ServingUnavailable,
    ask,
    bare_environment,
    mlflow_app,
    served,
    serving_python,
)
from churn.foundation.serving_code import own_code
from churn.foundation.tracking import Tracking, TrackingGone
from churn.learning.extra_packages import EXTRA_LOCK
from churn.learning.needs import ENVIRONMENT
from churn.learning.registered_model import Input, inputs_of
from churn.serving.model import TRUSTED_TYPES, load_estimator

log = logging.getLogger(__name__)

Scorer = Callable[[pd.DataFrame], Scores]
_ROWS_A_REQUEST = 5_000


class ModelUnloadable(ChurnError):  # noqa: N818 -- names the state
    """A registered version cannot be loaded: its artifacts are missing or damaged."""


class FilesGone(ModelUnloadable):
    """The store of a registered version answers that its files do not exist. `what` says so in words."""

    def __init__(self, message: str, what: str) -> None:
        super().__init__(message)
        self.what = what


class Unscorable(ChurnError):  # noqa: N818 -- names the state
    """This version cannot be compared; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


@dataclass(frozen=True)
class LoadedScorer:
    """A version that is loaded in this process: the fitted estimator, and the columns that it needs."""

    model: Any
    inputs: dict[str, Input]

    def __call__(self, rows: pd.DataFrame) -> Scores:
        """The probability of class 1 of each row, shape (rows,)."""
        return np.asarray(self.model.predict_proba(self.read(rows)), dtype=np.float64)[:, 1]

    def read(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The columns that the version needs, in its types."""
        return _input(rows, self.inputs)


@contextmanager
def open_scorer(
    version: int, ledger: Ledger, tracking: Tracking, environments: Path, apart: bool = False
) -> Iterator[Scorer]:
    """Open a version for scoring.

    Args:
        version: its number.
        ledger: knows the hash of its files.
        tracking: MLflow.
        environments: the folder of the environments that versions are served from.
        apart: whether another process must score; otherwise it does only if this one cannot.

    Yields:
        A function from rows, with at least the columns that the version needs, to probabilities of class 1, shape (rows,).
        It raises whatever the model raises.

    Raises:
        FilesGone: its files do not exist.
        ModelUnloadable: its files cannot be downloaded.
        TrackingUnreachable: MLflow is unavailable.
        Unscorable: its files are not the registered ones, or no environment can load them.
    """
    with tracking.explained(f"find version {version}"):
        run_id = str(tracking.version(version).run_id)  # an outage is not a missing file
    with ExitStack() as open_things:
        folder = _files(version, tracking, open_things)
        _require_registered(version, folder, ledger, tracking)
        types = trusted_types(version, ledger, tracking)
        missing = _other_libraries(folder)
        if missing:
            log.info("Version %d was trained with %s, and is served from its own environment.", version, missing)
            python = _own_environment(version, folder, run_id, tracking, environments, missing)
            yield _served(version, folder, python, types, open_things)
        elif own_code(folder):
            yield _served(version, folder, Path(sys.executable), types, open_things)
        elif apart:
            yield _loaded_apart(version, folder, types, open_things)
        else:
            yield _loaded(version, folder, types)


def _files(version: int, tracking: Tracking, open_things: ExitStack) -> Path:
    try:
        return open_things.enter_context(downloaded(version, tracking))
    except TrackingGone as error:
        raise FilesGone(
            f"The files of version {version} of {tracking.model} were deleted. Nothing was changed. Restore them "
            f"(see {tracking.version_link(version)}), and run the step again.",
            "its files were deleted",
        ) from error
    except Exception as error:
        raise ModelUnloadable(
            f"The files of version {version} of {tracking.model} cannot be downloaded ({type(error).__name__}): they are missing or damaged. "
            f"Nothing was changed. Restore them (see {tracking.version_link(version)}), and run the step again."
        ) from error


def _require_registered(version: int, folder: Path, ledger: Ledger, tracking: Tracking) -> None:
    try:
        require_registered(version, folder, ledger, tracking.model)
    except ArtifactChanged as changed:
        sentence = str(changed)
        raise Unscorable(Refusal(Reason.ARTIFACT_CHANGED, sentence[0].lower() + sentence[1:])) from changed


def _loaded(version: int, folder: Path, types: list[str]) -> Scorer:
    """Load the model beneath its checks: an old champion is asked about rows of a wider contract too."""
    try:
        model = load_estimator(folder, types)
    except Exception as error:
        raise Unscorable(
            _unscorable(version, f"its files cannot be loaded ({type(error).__name__}: {_first_line(error)})")
        ) from error
    return LoadedScorer(model, inputs_of(folder))


def _loaded_apart(version: int, folder: Path, types: list[str], open_things: ExitStack) -> Scorer:
    wanted = inputs_of(folder)
    try:
        score = open_things.enter_context(scoring_process(folder, types, bare_environment()))
    except ScoringEnded as error:
        raise Unscorable(_unscorable(version, str(error))) from error
    return lambda rows: score(_input(rows, wanted))


def _own_environment(
    version: int, folder: Path, run_id: str, tracking: Tracking, environments: Path, missing: str
) -> Path:
    """The Python of an environment made from the lock that the training of the version kept."""
    python = yaml.safe_load((folder / "python_env.yaml").read_text())["python"]
    with tracking.explained(f"download the lock of version {version}"):
        lock = kept_lock(run_id, folder.parent, tracking)
    if lock is None:
        raise Unscorable(
            _unscorable(version, f"it was trained with {missing}, and no lock file was stored when it was trained")
        )
    try:
        return serving_python(lock, environments, python)
    except ServingUnavailable as error:
        raise Unscorable(
            _unscorable(version, f"it was trained with {missing}, which cannot be installed: {error}")
        ) from error


def _served(version: int, folder: Path, python: Path, types: list[str], open_things: ExitStack) -> Scorer:
    trust_only(folder, types)
    wanted = inputs_of(folder)
    try:
        url = open_things.enter_context(served(python, mlflow_app(folder)))
    except ServiceEnded as error:
        raise Unscorable(_unscorable(version, str(error))) from error
    return lambda rows: _asked(url, _input(rows, wanted))


def trusted_types(version: int, ledger: Ledger, tracking: Tracking) -> list[str]:
    """The types that the ledger recorded for a version, in addition to those that are trusted anyway."""
    recorded = ledger.version(tracking.model, version)
    return list(recorded.trusted_types or []) if recorded else []


def trust_only(folder: Path, types: list[str]) -> None:
    """Write the types of the ledger into a downloaded model, for MLflow's app: it would trust those that the model names."""
    file = folder / "MLmodel"
    content = yaml.safe_load(file.read_text())
    content["flavors"]["sklearn"]["skops_trusted_types"] = [*TRUSTED_TYPES, *types]
    file.write_text(yaml.safe_dump(content, sort_keys=False))


def kept_lock(run_id: str, folder: Path, tracking: Tracking) -> Path | None:
    """The locks that a training kept, as one file in a folder; None if it kept none."""
    kept = kept_locks(run_id, folder, tracking)
    if kept is None:
        return None
    serving, extra = kept
    if extra is None:
        return serving
    both = folder / "requirements.lock"
    both.write_text(f"{serving.read_text().rstrip()}\n{extra.read_text()}")
    return both


def kept_locks(run_id: str, folder: Path, tracking: Tracking) -> tuple[Path, Path | None] | None:
    """The serving lock that a training kept, and the lock of its extra packages if it needs any; None if it kept none."""
    files = {
        Path(kept.path).name: Path(tracking.client.download_artifacts(run_id, kept.path, str(folder)))
        for kept in tracking.client.list_artifacts(run_id, ENVIRONMENT)
    }
    extra = files.pop(EXTRA_LOCK, None)
    serving = next(iter(files.values()), None)
    return (serving, extra) if serving else None


def _asked(url: str, rows: pd.DataFrame) -> Scores:
    parts = [rows.iloc[at : at + _ROWS_A_REQUEST] for at in range(0, len(rows), _ROWS_A_REQUEST)]
    return np.concatenate([ask(url, part)[:, 1] for part in parts])


def _input(rows: pd.DataFrame, wanted: dict[str, Input]) -> pd.DataFrame:
    """The columns that a version needs, in its types. A column that the rows do not have is left out."""
    columns = {}
    for name, column in wanted.items():
        if name not in rows:
            continue
        if column.type == "double":
            columns[name] = rows[name].astype("float64")
        else:
            texts = rows[name].astype("object")
            columns[name] = texts.where(texts.notna(), None)
    return pd.DataFrame(columns)


def _other_libraries(folder: Path) -> str:
    """The libraries that the version was trained with and that are not installed here, as `name==version`; empty if there are none."""
    lines = [line.strip() for line in (folder / "requirements.txt").read_text().splitlines()]
    pinned = dict(line.split("==", 1) for line in lines if "==" in line)
    return ", ".join(f"{name}=={wanted}" for name, wanted in pinned.items() if _installed(name) != wanted)


def _installed(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None


def _unscorable(version: int, why: str) -> Refusal:
    return Refusal(Reason.CHAMPION_UNSCORABLE, f"version {version} cannot score today's customers: {why}.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
