"""A task of the image that is killed at any point, and run again, comes to one image, one digest, and no stray container."""

from __future__ import annotations

from pathlib import Path

import pytest

from churn.pipeline.workspace import Workspace
from support.basics import run_script
from support.images import needs_engine, needs_registry, registry_server


@pytest.mark.engine
@needs_engine
@needs_registry
def test_killed_after_any_effect_the_next_run_comes_to_the_same(second_champion: Workspace, tmp_path: Path) -> None:
    """SIGKILL after build, start, bill of materials, tag, push, ledger and MLflow: the same end as undisturbed."""
    folder, store = tmp_path / "runs", tmp_path / "registry"
    folder.mkdir()
    store.mkdir()
    source = Path(second_champion.settings.data_root).parent
    with registry_server(store) as registry:
        outcome = run_script(
            "crash_image.py", folder, second_champion.settings.mlflow_tracking_uri, source, registry.address
        )
    calm = outcome["calm"]
    assert calm == {
        "images": 1,
        "tags": ["2", "production"],
        "state": "published",
        "image is the ledger's": True,
        "digests": [True, True],
        "registry follows": ["published", True],
        "containers": [],
        "production": [2, "promotion"],
    }
    for part in (
        "build",
        "run",
        "log_artifact",
        "tag 2",
        "push 2",
        "tag production",
        "push production",
        "record_image",
        "request",
    ):
        assert part in outcome["effects"], outcome["effects"]
    assert len(outcome["killed"]) >= 1, outcome["effects"]
    for run in outcome["killed"]:
        assert (run["killed"], run["again"]) == (-9, 0), run["after"]
        assert run["state"] == calm, run["after"]
