"""The files of a registered version: downloaded by number, and checked against the hash from its registration."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.models.model import MLMODEL_FILE_NAME

from churn.errors import ChurnError
from churn.foundation.digests import folder_digest
from churn.foundation.ledger import Ledger
from churn.foundation.tracking import Tracking, TrackingGone


class ArtifactChanged(ChurnError):  # noqa: N818 -- the name says what is wrong
    """The files of a version have changed since registration."""


@contextmanager
def downloaded(version: int, tracking: Tracking) -> Iterator[Path]:
    """Download the files of a version, by number, into a temporary folder.

    Raises:
        TrackingGone: the version or its files do not exist.
        TrackingUnreachable: MLflow or its artifact store is unavailable.
    """
    with tempfile.TemporaryDirectory(prefix="churn-model-") as folder:
        with tracking.explained(f"send the files of version {version}"):
            path = Path(mlflow.artifacts.download_artifacts(tracking.model_uri(version), dst_path=folder))
        if not (path / MLMODEL_FILE_NAME).exists():  # a folder that was deleted is downloaded as an empty one
            raise TrackingGone(
                f"The files of version {version} of {tracking.model} were deleted from the artifact store. Nothing was promoted. Restore them "
                f"from a backup (see {tracking.version_link(version)}), or run `churn rollback` to a version whose files are intact."
            )
        yield path


def require_registered(version: int, files: Path, ledger: Ledger, model: str) -> None:
    """Compare files with the hash that the ledger stored when the version was registered.

    Raises:
        ArtifactChanged: the hash differs, or the ledger has no hash of this version.
    """
    registered = ledger.version(model, version)
    if registered is None:
        raise ArtifactChanged(
            f"The ledger has no hash of version {version} of {model}, so its files cannot be checked. "
            "Only versions trained by this pipeline can be released."
        )
    if folder_digest(files) != registered.artifacts:
        raise ArtifactChanged(
            f"The files of version {version} have changed since it was registered on "
            f"{registered.registered_at:%Y-%m-%d %H:%M}. Restore them, or run `churn rollback` to a version whose files are intact."
        )
