"""What a command needs on a checkout before it begins: a salt, and the ports of the services that run there."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from churn.local.processes import Place, Run, is_same_process
from churn.local.services import CHECKOUT, ensure_secrets
from churn.settings import SECRETS, Settings, SettingsError, environment_name

SALT = environment_name("bucket_salt")


def prepare_checkout(place: Place = CHECKOUT) -> None:
    """Create the secrets of a local checkout that has no salt, as `make run` does, and use the ports of its running services.

    A ledger on a server, or data on S3, needs the salt that its snapshots were made with, so there none is made.
    """
    if not _has_salt() and _is_local():
        ensure_secrets(place)
    _remember_ports(place)


def _given() -> dict[str, str | None]:
    file = Settings.model_config.get("env_file")
    return {**(dotenv_values(str(file)) if file else {}), **os.environ}


def _has_salt() -> bool:
    folders = (SECRETS, Path("/run/secrets"))
    return bool(_given().get(SALT)) or any((folder / SALT.lower()).exists() for folder in folders)


def _is_local() -> bool:
    given = _given()
    ledger, root = (given.get(environment_name(field)) or "" for field in ("ledger_url", "data_root"))
    return (not ledger or ledger.startswith("sqlite")) and "://" not in root


def _remember_ports(place: Place) -> None:
    """Ports that nobody named are those of the running services: `CHURN_MLFLOW_PORT=5205 make run`, then `make status`."""
    run = Run.read(place)
    if run is None or not any(is_same_process(service) for service in run.services):
        return
    try:
        named = Settings.load().model_fields_set
    except SettingsError:
        return  # the command reports it
    for field, port in (("airflow_port", run.airflow_port), ("mlflow_port", run.mlflow_port)):
        if field not in named:
            os.environ[environment_name(field)] = str(port)
