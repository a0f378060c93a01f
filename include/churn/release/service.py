"""The folder that a version is served from, in the image and without one: code, contract, types and model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from churn.contract import Contract
from churn.decision.scoring import kept_lock, kept_locks, trusted_types
from churn.errors import ChurnError
from churn.foundation.artifacts import downloaded, require_registered
from churn.foundation.clients import Clients
from churn.foundation.ledger import Ledger
from churn.foundation.local_server import image_app, served, serving_python
from churn.foundation.serving_code import copy_own_code, copy_serving_code
from churn.foundation.tracking import Tracking
from churn.learning.registered_model import inputs_of, inputs_of_contract
from churn.serving import CONTRACT_FILE, MODEL_FOLDER, OWN_CODE, TYPES_FILE


@contextmanager
def laid_out(version: int, ledger: Ledger, contract: Contract, tracking: Tracking) -> Iterator[Path]:
    """A temporary folder from which `python -m churn.serving` serves a version. It is readable by everyone and contains nothing else.

    Raises:
        ArtifactChanged: the version's files are not those that were registered.
        ChurnError: the columns of the model are not the features of the contract.
        TrackingUnreachable: MLflow is unavailable.
    """
    with tempfile.TemporaryDirectory(prefix="churn-service-") as name, downloaded(version, tracking) as files:
        require_registered(version, files, ledger, tracking.model)
        _require_columns(version, files, contract)
        folder = Path(name)
        copy_serving_code(folder)
        copy_own_code(files, folder / OWN_CODE)
        (folder / CONTRACT_FILE).write_text(contract.to_json())
        (folder / TYPES_FILE).write_text(json.dumps(trusted_types(version, ledger, tracking)))
        shutil.copytree(files, folder / MODEL_FOLDER, ignore=shutil.ignore_patterns("registered_model_meta", "code"))
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield folder


def lock_of(version: int, tracking: Tracking, folder: Path, otherwise: Path) -> Path:
    """The locks that the training of a version kept, as one file in a folder; the present one for versions that kept none."""
    with tracking.explained(f"download the lock of version {version}"):
        run_id = str(tracking.version(version).run_id)
        return kept_lock(run_id, folder, tracking) or otherwise


def locks_of(version: int, tracking: Tracking, folder: Path, otherwise: Path) -> tuple[Path, Path | None]:
    """The two locks that the training of a version kept: of the service, and of further packages, which may be None."""
    with tracking.explained(f"download the locks of version {version}"):
        run_id = str(tracking.version(version).run_id)
        return kept_locks(run_id, folder, tracking) or (otherwise, None)


@contextmanager
def served_here(version: int, clients: Clients, lock: Path, port: int | None = None) -> Iterator[str]:
    """Serve a version on loopback, with the libraries of its lock as in its image. The service is stopped on leaving.

    Args:
        version: its number.
        clients: MLflow, ledger and contract.
        lock: the lock for a version whose training kept none.
        port: the port to listen on; None for a free one.

    Yields:
        Its base URL, once it answers.
    """
    with (
        laid_out(version, clients.ledger, clients.contract, clients.tracking) as folder,
        tempfile.TemporaryDirectory(prefix="churn-lock-") as scratch,
    ):
        python = serving_python(lock_of(version, clients.tracking, Path(scratch), lock), clients.environments)
        with served(python, image_app(folder), port) as url:
            yield url


def _require_columns(version: int, files: Path, contract: Contract) -> None:
    wanted, given = inputs_of(files), inputs_of_contract(contract)
    differing = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if differing:
        raise ChurnError(
            f"Version {version} was trained under another contract: {', '.join(differing)} differ. It cannot be served under "
            f"{contract.name} as it is now. Train a new version, or set CHURN_CONTRACT to the contract of that version."
        )
