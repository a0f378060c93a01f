"""Where MLflow registry, ledger and image disagree about production, and how they agree again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from churn.foundation.records import ImageRecord
from churn.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from churn.release.image import ImageSpec

_IMAGE_PROBLEMS = {
    "mismatch": "differs from the model",
    "faulty": "is not published, because it fails another check (libraries, files, invalid requests)",
    "failed": "could not be built",
}


def find_disagreements(workspace: Workspace) -> list[str]:
    """Where MLflow registry, ledger and image disagree about production, and what is missing in MLflow; empty if all is well."""
    from churn.foundation.artifacts import ArtifactChanged, downloaded, require_registered
    from churn.foundation.tracking import TrackingGone
    from churn.release.agreement import describe_difference, describe_missing, require_same_registry
    from churn.release.mirror import read_registry

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    promotion = rows[0] if rows else None
    expected = promotion.version if promotion else None
    state = read_registry(workspace.tracking)
    require_same_registry(rows, state, workspace.ledger, workspace.tracking)
    difference = describe_difference(rows, state)
    problems = [f"{difference} `churn reconcile` restores what the ledger says."] if difference else []
    problems += describe_missing(rows, state) + workspace.tracking.describe_deleted_experiment()
    if expected is not None:
        problem = _image_problem(
            expected, workspace.ledger.image(workspace.settings.model_name, expected), workspace.image_spec
        )
        problems += [f"The image of version {expected}, which is in production, {problem}"] if problem else []
    if expected is not None and expected in state.versions:
        try:
            with downloaded(expected, workspace.tracking) as files:
                require_registered(expected, files, workspace.ledger, workspace.settings.model_name)
        except (ArtifactChanged, TrackingGone) as changed:
            problems.append(f"Version {expected} is in production, but: {changed}")
    return problems


def reconcile(workspace: Workspace) -> list[str]:
    """Bring the MLflow registry into line with the ledger; returns what differed, in sentences."""
    from churn.release.agreement import describe_difference, describe_missing, require_same_registry
    from churn.release.mirror import mirror, read_registry

    rows = workspace.ledger.promotions(workspace.settings.model_name)
    if not rows:
        return ["Nothing has ever been in production, so there is nothing to reconcile."]
    state = read_registry(workspace.tracking)
    require_same_registry(rows, state, workspace.ledger, workspace.tracking)
    difference = describe_difference(rows, state)
    mirror(workspace.ledger, workspace.tracking)
    restored = [difference, "The MLflow registry agrees with the ledger again."] if difference else []
    return restored + describe_missing(rows, state) + workspace.tracking.describe_deleted_experiment()


def _image_problem(version: int, image: ImageRecord | None, spec: ImageSpec) -> str | None:
    """Describe what is wrong with the image in production, as the end of a sentence. It is only looked for if an engine answers."""
    from churn.release.engine import Engine, EngineFailed
    from churn.release.publishing import find_change

    if image is None:
        return (
            f"does not exist: its run failed or has not ended. Clear the run image-of-version-{version} of churn_image_build in Airflow, trigger "
            f"that DAG with the version, or run `churn image build --version {version}`."
        )
    if image.state in _IMAGE_PROBLEMS:
        return f"{_IMAGE_PROBLEMS[image.state]}: {image.detail}"
    try:
        changed = find_change(image, spec) if Engine.find(spec.engine) else None
    except EngineFailed as error:
        return f"could not be checked: {error}"
    return f"{changed}. Run `churn image build --version {version}`." if changed else None
