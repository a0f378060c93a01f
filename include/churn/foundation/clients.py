"""The settings and clients that every step receives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from churn.contract import Contract
from churn.foundation.ledger import Ledger
from churn.foundation.sampling import Sampling
from churn.foundation.spread import Spread
from churn.foundation.spread_choice import choose_spread
from churn.foundation.storage import Storage
from churn.settings import VAR, Settings

if TYPE_CHECKING:
    from churn.foundation.tracking import Tracking

ENVIRONMENTS = VAR / "serving"
"""Folder of the environments that serve models on this machine, each named after the hash of its lock."""


@dataclass(frozen=True)
class Clients:
    """Settings, data root and ledger, with the contract, MLflow and the bucket assignment that the settings define."""

    settings: Settings
    storage: Storage
    ledger: Ledger

    @property
    def contract(self) -> Contract:
        """The data contract that the settings name."""
        contract: Contract = self.settings.contract
        return contract

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow, imported and connected on first use, because the import is slow."""
        from churn.foundation.tracking import Tracking

        return Tracking(
            self.settings.mlflow_tracking_uri,
            self.settings.mlflow_ui,
            self.settings.experiment,
            self.settings.model_name,
        )

    @property
    def spread(self) -> Spread:
        """Where data work runs."""
        return choose_spread(self.settings)

    @cached_property
    def sampling(self) -> Sampling:
        """The assignment of customers to buckets."""
        return Sampling(self.settings.bucket_salt.get_secret_value().encode(), self.spread)

    @property
    def environments(self) -> Path:
        """The folder of the environments that serve earlier versions."""
        return ENVIRONMENTS
