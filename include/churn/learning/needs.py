"""What a fitted model needs besides the product, wherever it is loaded: packages, a module, and types that may be loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import skops.io
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from churn.candidate import Candidate
from churn.learning.candidate_module import OwnModule
from churn.learning.extra_packages import EXTRA_LOCK, extra_lock, pinned_packages
from churn.serving.model import TRUSTED_TYPES

ENVIRONMENT = "environment"
"""Artifact folder with the locks from which the version can be served, whatever is installed later."""
MODULE = "candidates"
"""Artifact folder with the module that defines the candidates."""
PRODUCT_REQUIREMENTS = ("mlflow-skinny", "scikit-learn", "scipy", "numpy", "pandas", "skops")


@dataclass(frozen=True)
class TypeRule:
    """Which types of a saved model may be loaded in addition to `TRUSTED_TYPES`: those that candidates declare, and own classes."""

    declared: frozenset[str]
    module: str | None

    @classmethod
    def of(cls, candidates: Iterable[Candidate], module: OwnModule | None) -> TypeRule:
        """The rule for models that are made of these candidates."""
        declared = {name for candidate in candidates for name in candidate.trusted_types}
        return cls(frozenset(declared), module.name if module else None)

    def allows(self, name: str) -> bool:
        """Whether a type may be loaded."""
        return name in self.declared or bool(self.module and name.partition(".")[0] == self.module)

    def types_of(self, folder: Path) -> list[str]:
        """The types in the saved model of a folder that this rule allows and that are not trusted anyway."""
        flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["sklearn"]
        present = skops.io.get_untrusted_types(file=folder / flavor["pickled_model"])
        return sorted(name for name in present if name not in TRUSTED_TYPES and self.allows(name))


NO_TYPES = TypeRule(frozenset(), None)


@dataclass(frozen=True)
class ModelNeeds:
    """What a fitted model needs besides the product.

    Attributes:
        reference: `module:function` of the candidates.
        module: the module of the project that its candidates come from; None if it comes from the product or a package.
        types: which types may be loaded.
        requirements: its libraries, those of the product included, as `name==version`.
        lock: the serving lock.
        extra: content of the lock of its further packages; empty if it needs none.
    """

    reference: str
    module: OwnModule | None
    types: TypeRule
    requirements: tuple[str, ...]
    lock: Path
    extra: str

    def travelling(self, types: Iterable[str]) -> OwnModule | None:
        """The module, if a model with these types contains any of its classes; otherwise it is loaded without the module."""
        module = self.module
        return module if module and any(name.partition(".")[0] == module.name for name in types) else None

    @property
    def packages(self) -> set[str]:
        """The names of all packages that will be where the model is loaded."""
        return {*pinned_packages(self.lock.read_text()), *pinned_packages(self.extra)}


def needs_of(
    name: str, candidates: Iterable[Candidate], reference: str, module: OwnModule | None, lock: Path, extra: Path
) -> ModelNeeds:
    """What a model needs that is made of one candidate, or of several.

    Args:
        name: what the model is called, for errors.
        candidates: the candidates that it is made of.
        reference: `module:function` of the candidates.
        module: the module of the project that they come from.
        lock: the serving lock.
        extra: the lock of the extra packages, which may not exist.

    Raises:
        CandidateUnusable: a package is in no lock.
    """
    made_of = list(candidates)
    asked = sorted({each for candidate in made_of for each in candidate.requirements})
    pins = [f"{each}=={installed(each)}" for each in PRODUCT_REQUIREMENTS]
    further = sorted({canonicalize_name(Requirement(each).name) for each in asked} - set(PRODUCT_REQUIREMENTS))
    return ModelNeeds(
        reference=reference,
        module=module,
        types=TypeRule.of(made_of, module),
        requirements=(*pins, *(f"{each}=={installed(each)}" for each in further)),
        lock=lock,
        extra=extra_lock(name, asked, lock.read_text(), extra) if asked else "",
    )


def log_needs(needs: ModelNeeds) -> None:
    """Log locks and module to the active MLflow run, from which the version can be served whatever is installed later."""
    mlflow.set_tag("churn.candidates", needs.reference)
    mlflow.log_artifact(str(needs.lock), ENVIRONMENT)
    with tempfile.TemporaryDirectory(prefix="churn-needs-") as scratch:
        if needs.extra:
            (Path(scratch) / EXTRA_LOCK).write_text(needs.extra)
            mlflow.log_artifact(str(Path(scratch) / EXTRA_LOCK), ENVIRONMENT)
        if needs.module:
            needs.module.copy_to(Path(scratch) / MODULE)
            mlflow.log_artifacts(str(Path(scratch) / MODULE), MODULE)
            mlflow.set_tag("churn.candidates.sha256", needs.module.sha256)
