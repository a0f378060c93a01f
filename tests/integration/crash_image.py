"""Run by test_image_crashes.py: an image is built, verified and published, killed after the n-th thing it did outside, and run again.

Effects are the acts of the container engine, writes to the ledger and to MLflow. The questions of the verification are
left out: they take time, and change nothing outside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import requests
from docker.models.containers import ContainerCollection

from churn.foundation.ledger import Ledger
from churn.pipeline import shipping
from churn.pipeline.workspace import Workspace
from churn.release import image_verification
from churn.release.engine import Engine
from support.basics import clone_workspace, crash_points, make_workspace, start_fork, wait_for_exit
from support.images import VERIFIED, Registry, containers_of, images_of, new_folder, remove_images, with_engine

ACTS = {Engine: ("build", "tag", "push"), ContainerCollection: ("run",), Ledger: ("record_image",)}
KILLED_AFTER = ("build", "push 2", "record_image")
SHOWN = {"tag": 3, "push": 2}
"""Where the tag stands among the arguments."""


def ship(workspace: Workspace, kill_after: int | None, log: Path) -> None:
    """Ship version 2; note each effect, and be killed after one of them."""
    done: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def effect(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if name == "request" and (
                "mlflow" not in str(kwargs.get("url", args[2:])) or str(kwargs.get("method", args[1])) == "GET"
            ):
                return result
            done.append(f"{name} {args[SHOWN[name]]}" if name in SHOWN else name)
            log.write_text("\n".join(done))
            if len(done) == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return effect

    for owner, names in ACTS.items():
        for name in names:
            setattr(owner, name, counted(name, getattr(owner, name)))
    mlflow.MlflowClient.log_artifact = counted("log_artifact", mlflow.MlflowClient.log_artifact)  # type: ignore[method-assign]
    requests.Session.request = counted("request", requests.Session.request)  # type: ignore[method-assign]
    image_verification.verify = lambda *_: VERIFIED  # type: ignore[assignment]
    shipping.ship(workspace, 2)


def state(workspace: Workspace, registry: Registry) -> dict[str, Any]:
    """What is left: one image, named twice, one digest, one row, no container; in relation, since each run has labels of its own."""
    model, repository = workspace.settings.model_name, workspace.settings.image_repository
    images, record = images_of(workspace, 2), workspace.ledger.image(model, 2)
    tags = workspace.tracking.version(2).tags
    current = workspace.ledger.in_production(model)
    return {
        "images": len(images),
        "tags": sorted(tag.rpartition(":")[2] for image in images for tag in image.tags),
        "state": record and record.state,
        "image is the ledger's": bool(record and [image.id for image in images] == [record.image_id]),
        "digests": record and [registry.digest(repository, tag) == record.digest for tag in ("2", "production")],
        "registry follows": record and [tags.get("churn.image"), tags.get("churn.image_digest") == record.digest],
        "containers": containers_of(workspace),
        "production": [current.version, current.kind] if current else None,
    }


def main(folder: Path, mlflow_url: str, source: Path, address: str) -> None:
    """Print, as JSON, what an undisturbed run leaves, and what each killed and repeated one leaves."""
    original, registry = make_workspace(source, mlflow_url), Registry(address)

    def workspace() -> Workspace:
        return with_engine(clone_workspace(original, new_folder(folder)), image_registry=address)

    log = folder / "effects"
    calm = workspace()
    assert wait_for_exit(start_fork(lambda: ship(calm, None, log))) == 0
    effects = log.read_text().splitlines()
    outcome: dict[str, Any] = {"calm": state(calm, registry), "effects": effects, "killed": []}
    for effect in crash_points(effects, KILLED_AFTER):
        if effect > 1 and effects[effect - 2] == effects[effect - 1]:
            continue  # of a row of one kind the first
        killed_workspace = workspace()
        try:
            killed = wait_for_exit(
                start_fork(lambda killed_workspace=killed_workspace, effect=effect: ship(killed_workspace, effect, log))
            )  # type: ignore[misc]
            again = wait_for_exit(
                start_fork(lambda killed_workspace=killed_workspace: ship(killed_workspace, None, log))
            )  # type: ignore[misc]
            left = state(killed_workspace, registry)
        finally:
            remove_images(killed_workspace)
        outcome["killed"].append({"after": effects[effect - 1], "killed": killed, "again": again, "state": left})
    remove_images(calm)  # at the end: its layers spare the others their making and pushing
    print(json.dumps(outcome))  # noqa: T201 -- the test reads it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
