"""The clients that the steps of a run are given, and how a run is requested."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from churn.checkout import HOME
from churn.errors import ChurnError, require_storable
from churn.foundation.clients import Clients
from churn.foundation.ledger import open_ledger
from churn.foundation.storage import Storage
from churn.settings import Settings, git_commit

SERVING_LOCK = HOME / "requirements-serving.lock"
EXTRA_LOCK = HOME / "requirements-extra.lock"

if TYPE_CHECKING:
    from churn.release.engine import Login
    from churn.release.image import ImageSpec


@dataclass(frozen=True)
class Request:
    """How a run is requested, by the schedule or by a person. `night` is its id, and `link` its page in Airflow.

    `force_reason` requests the promotion whatever the policy decides; `approval` requests a person's approval before it.
    `plausible_reason` confirms for the registered model that a very high ROC AUC is plausible. `at` is the time of a run that is
    replayed; None: now.
    """

    night: str
    retrain: bool = False
    dry_run: bool = False
    note: str | None = None
    link: str | None = None
    approval: bool = False
    force_reason: str | None = None
    requested_by: str | None = None
    plausible_reason: str | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        """Check the texts that a person wrote.

        Raises:
            ChurnError: one has a character that cannot be stored.
        """
        require_storable(self.note, "note")
        require_storable(self.force_reason, "reason to force the promotion")
        require_storable(self.plausible_reason, "reason why a very high ROC AUC is plausible")


@dataclass(frozen=True)
class Workspace(Clients):
    """The clients of all steps, and what the steps of the serving image need besides."""

    registry_login: Callable[[], Login] | None = None

    @classmethod
    def open(
        cls, settings: Settings | None = None, fs: Any = None, registry_login: Callable[[], Login] | None = None
    ) -> Workspace:
        """Open storage and ledger.

        Args:
            settings: by default those of the environment.
            fs: a filesystem with credentials for the data root; by default made from the environment.
            registry_login: returns the credentials of the image registry; by default those of the container engine.

        Raises:
            LedgerOfAnother: the ledger belongs to another contract or model.
        """
        settings = settings or Settings.load()
        storage = Storage.open(settings.data_root, fs, many_machines=settings.spread == "spark")
        ledger = open_ledger(settings.ledger_url)
        ledger.claim(settings.contract.name, settings.model_name)
        return cls(settings, storage, ledger, registry_login)

    @property
    def _engine(self) -> str:
        """The setting; but where images were built before, or an engine is named, a missing engine is an outage."""
        wanted = self.settings.container_engine
        images = self.ledger.images(self.settings.model_name)
        expected = "DOCKER_HOST" in os.environ or any(image.image_id for image in images)
        return "required" if wanted == "auto" and expected else wanted

    @property
    def image_spec(self) -> ImageSpec:
        """How a serving image is built."""
        from churn.release.image import ImageSpec

        return ImageSpec(
            repository=self.settings.image_repository,
            base_image=self.settings.base_image,
            engine=self._engine,
            verification_network=self.settings.engine_network,
            network=self.settings.build_network,
            ca_bundle=self.settings.build_ca_bundle,
            pip_conf=self.settings.build_pip_conf,
            lock=SERVING_LOCK,
            git_commit=git_commit(),
            registry=self.settings.image_registry,
            login=self.registry_login or (_no_token if self.settings.registry_login == "ecr" else None),
        )


def _no_token() -> Login:
    raise ChurnError(
        "CHURN_REGISTRY_LOGIN=ecr works only in a DAG, where Airflow's amazon provider fetches the token. On the command line, log the "
        "engine in (`aws ecr get-login-password | docker login --username AWS --password-stdin REGISTRY`) and set CHURN_REGISTRY_LOGIN=engine."
    )
