"""Verifies an image before it gets a name: its answers, its refusals, and its contents."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from churn.decision.scoring import Scorer, open_scorer
from churn.foundation.clients import Clients
from churn.foundation.digests import folder_digest
from churn.foundation.local_server import ModelMismatch, ServiceEnded, wait_until_ready
from churn.foundation.parts import has_table
from churn.foundation.paths import snapshot_rows
from churn.foundation.tracking import Tracking
from churn.learning.unseen import holdout_pieces
from churn.release.engine import Engine, Running
from churn.release.image import BuiltImage, ImageSpec
from churn.release.inventory import LIST_LIBRARIES, LIST_PACKAGES, read_inventory, require_libraries
from churn.release.probes import holdout_extremes
from churn.release.sbom import write_materials
from churn.release.service import laid_out, lock_of, served_here
from churn.release.service_checks import ImageFault, Verification, verify
from churn.serving import DOES_NOT_LOAD, MODEL_FOLDER, OWN_CODE, TYPES_FILE

ARTIFACTS = "image"
"""Artifact folder of the bill of materials."""
READY_TIMEOUT = 120
_PIECE = 100_000
_SERVED = "/opt/churn"
_PYTHON = "/opt/serving/bin/python"


def verify_image(built: BuiltImage, clients: Clients, spec: ImageSpec) -> Verification:
    """Start the image as it will be run, compare its answers with the registered model's, and check its contents.

    The bill of materials is logged to MLflow. Without a container engine, the same service runs in an environment made from the same lock.

    Raises:
        ModelMismatch: it does not load, or answers differently.
        ImageFault: it does not start for a reason other than the model; or it answers correctly, but is not what an image must be.
        ArtifactChanged, ModelUnloadable, Unscorable: there is no model to compare it with.
        EngineFailed: the container engine is unavailable.
        ServingUnavailable: there is no verdict, for a reason other than the model.
    """
    version, tracking = built.version, clients.tracking
    with (
        laid_out(version, clients.ledger, clients.contract, tracking) as folder,
        open_scorer(version, clients.ledger, tracking, clients.environments) as expected,
        tempfile.TemporaryDirectory(prefix="churn-verify-") as scratch,
    ):
        extremes = find_extremes(version, expected, clients)
        if built.image_id is None:
            with _end_explained(), served_here(version, clients, spec.lock) as url:
                return verify(url, expected, clients.contract, extremes)
        lock = lock_of(version, tracking, Path(scratch), spec.lock)
        engine = Engine.require(spec.engine)
        name = f"churn-verify-{tracking.model}-{version}"
        started = engine.running(built.image_id, name, READY_TIMEOUT, wait_until_ready, spec.verification_network)
        with _end_explained(), started as running:
            verification = verify(running.url, expected, clients.contract, extremes)
            _look_inside(running, built.image_id, engine, folder, lock, Path(scratch), version, tracking)
    return verification


@contextmanager
def _end_explained() -> Iterator[None]:
    """Explain why a service ended by itself. It counts against the model only if the service says that the model does not load."""
    try:
        yield
    except ServiceEnded as ended:
        if ended.status == DOES_NOT_LOAD:
            raise ModelMismatch(str(ended)) from ended
        raise ImageFault(f"{ended}. The image is not published.") from ended


def find_extremes(version: int, scorer: Scorer, clients: Clients) -> pd.DataFrame | None:
    """The most extreme rows of the holdout in the version's snapshot; None if its rows are missing or of another contract.

    Args:
        version: its number.
        scorer: scores with the registered model.
        clients: ledger and data root of the snapshot.
    """
    record = clients.ledger.version(clients.tracking.model, version)
    snapshot = clients.ledger.snapshot(record.snapshot) if record else None
    if snapshot is None or snapshot.contract_fingerprint != clients.contract.fingerprint:
        return None
    if not has_table(clients.storage, snapshot_rows(snapshot.snapshot)):
        return None
    pieces = holdout_pieces(clients.storage, snapshot, clients.contract, _PIECE)
    return holdout_extremes(pieces, scorer, clients.contract)


def _look_inside(
    running: Running,
    image_id: str,
    engine: Engine,
    folder: Path,
    lock: Path,
    scratch: Path,
    version: int,
    tracking: Tracking,
) -> None:
    inventory = read_inventory(running.run([_PYTHON, "-c", LIST_LIBRARIES]), running.run(LIST_PACKAGES))
    require_libraries(inventory, lock, folder / MODEL_FOLDER)
    if folder_digest(running.copy_out(f"{_SERVED}/{MODEL_FOLDER}", scratch)) != folder_digest(folder / MODEL_FOLDER):
        raise ImageFault("The files of the model in the image are not those that were registered. Build it again.")
    if folder_digest(running.copy_out(f"{_SERVED}/{OWN_CODE}", scratch)) != folder_digest(folder / OWN_CODE):
        raise ImageFault(
            "The module of the candidates in the image is not the one that was registered. Build it again."
        )
    if running.run(["cat", f"{_SERVED}/{TYPES_FILE}"]) != (folder / TYPES_FILE).read_text():
        raise ImageFault("The types that the image trusts are not those that were registered. Build it again.")
    name, _, number = running.run(["sh", "-c", '. /etc/os-release && printf "%s %s" "$ID" "$VERSION_ID"']).partition(
        " "
    )
    bill = write_materials(scratch, image_id, engine.labels(image_id), inventory, (name, number))
    with tracking.explained("log the bill of materials of the image"):
        tracking.client.log_artifact(str(tracking.version(version).run_id), str(bill), ARTIFACTS)
