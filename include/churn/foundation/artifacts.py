"""The files of a registered version: fetched by number and checked against their hash at registration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from churn.errors import ChurnError
from churn.foundation.digests import folder_digest
from churn.foundation.ledger import Ledger
from churn.foundation.tracking import Tracking


class ArtifactChanged(ChurnError):  # noqa: N818 -- it says what is the matter
    """The files of a version have changed since registration."""


@contextmanager
def downloaded(version: int, tracking: Tracking) -> Iterator[Path]:
    """Fetch the files of a version, by number, into a temporary folder.

    Raises:
        TrackingUnreachable: MLflow or its artifact store is unavailable.
    """
    with tempfile.TemporaryDirectory(prefix="churn-model-") as folder:
        with tracking.explained(f"hand out the files of version {version}"):
            path = mlflow.artifacts.download_artifacts(tracking.model_uri(version), dst_path=folder)
        yield Path(path)


def require_registered(version: int, files: Path, ledger: Ledger, model: str) -> None:
    """Compare files with the hash that the ledger stored when the version was registered.

    Raises:
        ArtifactChanged: the hash differs, or the ledger has no hash of this version.
    """
    known = ledger.version(model, version)
    if known is None:
        raise ArtifactChanged(
            f"The ledger has no hash of version {version} of {model}, so its files cannot be checked. "
            "Only versions that a run of this pipeline trained are released."
        )
    if folder_digest(files) != known.artifacts:
        raise ArtifactChanged(
            f"The files of version {version} have changed since it was registered at "
            f"{known.registered_at:%Y-%m-%d %H:%M}. Restore them, or run `churn rollback` to a version whose files are intact."
        )
