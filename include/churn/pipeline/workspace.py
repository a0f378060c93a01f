"""The settings, and the clients that the steps of a night are handed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from churn.contract import Contract
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger, open_ledger
from churn.foundation.storage import Storage
from churn.settings import HOME, VAR, Settings, git_commit

SERVING_LOCK = HOME / "requirements-serving.lock"
ENVIRONMENTS = VAR / "serving"
"""Environments in which models are served on this machine, by the hash of their lock."""

if TYPE_CHECKING:
    from churn.decision.eligibility import Sources
    from churn.foundation.tracking import Tracking
    from churn.learning.snapshot import Sampling
    from churn.release.engine import Login
    from churn.release.image import ImageSpec


@dataclass(frozen=True)
class Request:
    """How a night is asked for, by the schedule or by a person; `link` leads back to the asking.

    `force_reason` asks for the promotion whatever the policy says; `approval` for a person's yes before it.
    """

    night: str
    retrain: bool = False
    dry_run: bool = False
    note: str | None = None
    link: str | None = None
    approval: bool = False
    force_reason: str | None = None
    requested_by: str | None = None


@dataclass(frozen=True)
class Workspace:
    """The settings, and the clients that the steps are handed."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    registry_login: Callable[[], Login] | None = None

    @classmethod
    def open(
        cls, settings: Settings | None = None, fs: Any = None, registry_login: Callable[[], Login] | None = None
    ) -> Workspace:
        """Open storage and ledger.

        Args:
            settings: by default those of the environment.
            fs: a filesystem with credentials for the data root; by default made from the environment.
            registry_login: what the registry of images is entered with; by default what the container engine knows.
        """
        settings = settings or Settings.load()
        storage = Storage.open(settings.data_root, fs)
        return cls(settings, storage, open_ledger(settings.ledger_url), registry_login)

    @property
    def contract(self) -> Contract:
        """The data contract that the settings name."""
        contract: Contract = self.settings.contract
        return contract

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow."""
        from churn.foundation.tracking import Tracking

        return Tracking(
            self.settings.mlflow_tracking_uri,
            self.settings.mlflow_ui,
            self.settings.experiment,
            self.settings.model_name,
        )

    @cached_property
    def sampling(self) -> Sampling:
        """What sorts customers into buckets."""
        from churn.learning.snapshot import Sampling

        return Sampling(self.settings.bucket_salt.get_secret_value().encode(), self.settings.duckdb_memory_limit)

    @cached_property
    def sources(self) -> Sources:
        """Where versions, and what they are held against, come from."""
        from churn.decision.eligibility import Sources

        return Sources(self.storage, self.ledger, self.contract, self.tracking, self.sampling, ENVIRONMENTS)

    @property
    def _engine(self) -> str:
        """Where images were built before, or an engine is named, its absence is an outage and not a machine without one."""
        wanted = self.settings.container_engine
        known = "DOCKER_HOST" in os.environ or any(one.image_id for one in self.ledger.images(self.settings.model_name))
        return "required" if wanted == "auto" and known else wanted

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
        "CHURN_REGISTRY_LOGIN=ecr has the token fetched by Airflow's amazon provider, inside a DAG. From the command line log the engine in "
        "(`aws ecr get-login-password | docker login --username AWS --password-stdin REGISTRY`), and set CHURN_REGISTRY_LOGIN=engine."
    )
