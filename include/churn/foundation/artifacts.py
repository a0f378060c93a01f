"""The files of a registered version: fetched by number, and still those that were registered."""

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
    """The files of a version are not those that were registered."""


@contextmanager
def downloaded(version: int, tracking: Tracking) -> Iterator[Path]:
    """The files of a version in a temporary folder, by number.

    Raises:
        TrackingUnreachable: they cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="churn-model-") as folder:
        with tracking.explained(f"hand out the files of version {version}"):
            path = mlflow.artifacts.download_artifacts(tracking.model_uri(version), dst_path=folder)
        yield Path(path)


def require_registered(version: int, files: Path, ledger: Ledger, model: str) -> None:
    """Hold files against the hash that the ledger kept when the version was registered.

    Raises:
        ArtifactChanged: they have another hash, or the ledger knows none of this version.
    """
    known = ledger.version(model, version)
    if known is None:
        raise ArtifactChanged(
            f"The ledger has no hash of version {version} of {model}: nobody can say whether its files are those that were registered. "
            "Only versions that a night trained are released."
        )
    if folder_digest(files) != known.artifacts:
        raise ArtifactChanged(
            f"The files of version {version} are not those that were registered: somebody changed them since "
            f"{known.registered_at:%Y-%m-%d %H:%M}. Restore them, or `churn rollback` to a version whose files are whole."
        )
