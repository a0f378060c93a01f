"""The only reader of the environment.

Precedence: environment, then `.env` in the checkout, then files in `var/secrets` and
`/run/secrets`, then the defaults here. The defaults are the embedded mode; a stack sets others.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]
from dotenv import dotenv_values
from pydantic import Field, ImportString, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url

from churn.contract import Contract
from churn.errors import ChurnError

HOME = Path(__file__).resolve().parents[2]
VAR = HOME / "var"
SECRETS = VAR / "secrets"
PREFIX = "CHURN_"
BEFORE_NIGHT = timedelta(minutes=15)
"""An approval that nobody gave expires so long before the next night."""
FOLLOW_UP = "default_factory_not_called"  # pydantic's: a default that hangs on a setting that is wrong itself
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class SettingsError(ChurnError):
    """A setting is missing, unknown, or has a value that is not allowed."""


class Settings(BaseSettings):
    """Typed, read once, frozen. Relative paths are relative to the checkout."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=HOME / ".env", extra="ignore", frozen=True, populate_by_name=True
    )

    contract: ImportString[Any] = Field(
        default="churn.contract:BANK_CHURN", validate_default=True, description="The data contract, as `module:name`."
    )
    airflow_port: int = Field(default=8080, ge=1, le=65535, description="Port of the embedded Airflow.")
    mlflow_port: int = Field(default=5005, ge=1, le=65535, description="Port of the embedded MLflow server.")
    data_root: str = Field(
        default="data",
        min_length=1,
        description="Folder or URL (`s3://bucket/prefix`) of the zones landing, accepted, quarantine.",
    )
    ledger_url: str = Field(
        default="sqlite:///var/ledger.db",
        description="The ledger: `sqlite:///file` or `postgresql+psycopg2://user:<password>@host/database`.",
    )
    mlflow_tracking_uri: str = Field(
        default_factory=lambda known: f"http://127.0.0.1:{known.get('mlflow_port')}",
        min_length=1,
        validation_alias="MLFLOW_TRACKING_URI",
        description="The MLflow server: tracking and registry; by default the embedded one.",
    )
    mlflow_ui_url: str | None = Field(
        default=None, description="Where a person opens MLflow, if that is not the tracking URI."
    )
    airflow_ui_url: str | None = Field(
        default=None, description="Where a person opens Airflow, if that is not the embedded one."
    )
    aws_conn_id: str | None = Field(
        default=None,
        description="Airflow connection that holds the S3 credentials of the data root; none: the standard AWS chain.",
    )
    experiment: str = Field(default="churn", min_length=1, description="MLflow experiment of the nights.")
    model_name: str = Field(default="churn", pattern=r"^[A-Za-z0-9._-]+$", description="Registered model.")
    policy_file: Path = Field(
        default=Path("include/churn/promotion_policy.yaml"), description="The rules of promotion, reviewed in git."
    )
    approval: Literal["never", "disputed", "always"] = Field(
        default="never",
        description="Whether a person must agree before a promotion: `never`; when new batches contradict the rest (`disputed`); `always`.",
    )
    approval_hours: float = Field(
        default=20,
        gt=0,
        le=168,
        description="So long an approval is waited for, but never into the next night; then the challenger is held.",
    )
    second_person: bool = Field(
        default=False,
        description="Whether a yes counts only from somebody else than the person who asked for the night; a forced promotion then needs one too.",
    )
    hand_made_changes: Literal["refuse", "adopt"] = Field(
        default="refuse",
        description="What happens to a version that somebody put into production in MLflow: the night stops, or takes it over.",
    )
    bucket_salt: SecretStr = Field(
        min_length=16,
        description="Secret key that sorts customers into buckets. Another salt is another holdout: never change it.",
    )

    schedule: str | None = Field(
        default="0 2 * * *", description="Cron expression of the nightly run; empty: only by hand."
    )
    timezone: str = Field(default="UTC", description="Time zone of the schedule.")
    watch_landing: bool = Field(
        default=False,
        description="Whether a night begins as soon as a file lands, beside the schedule; needs a data root on S3.",
    )
    notifications_file: Path | None = Field(
        default=None,
        description="Who is told of what, as in `include/notifications.example.yaml`; empty: alerts are only listed by `churn alerts`.",
    )
    silence_nights: int = Field(
        default=3,
        ge=0,
        le=365,
        description="After so many nights with nothing accepted, or no decision, silence is alerted; 0: never.",
    )

    max_rejected_share: float = Field(
        default=0.05, ge=0, le=1, description="A batch with a larger share of rows set aside is rejected whole."
    )
    max_disputed_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="A batch in which a larger share of known customers has come back or changed identity is rejected whole.",
    )
    max_size_ratio: float = Field(
        default=3.0, gt=0, description="A batch that is larger than so many past batches (their median) is warned of."
    )
    drift_limit: float = Field(
        default=0.2, gt=0, description="Population stability index from which on a column is said to have drifted."
    )
    settle_seconds: float = Field(
        default=1.0,
        ge=0,
        le=600,
        description="A file in a landing folder that changed so recently is looked at twice, in case it is still being written.",
    )
    min_training_rows: int = Field(default=1000, ge=50, description="With fewer training rows nothing is trained.")
    cv_folds: int = Field(
        default=5, ge=2, le=20, description="Folds of the cross-validation that chooses the challenger."
    )
    seed: int = Field(default=20, ge=0, lt=2**32, description="Seed of folds and models.")
    duckdb_memory_limit: str = Field(
        default="1GB",
        pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$",
        description="Memory limit of the columnar engine; beyond it, it spills to disk.",
    )

    keep_versions: int = Field(
        default=50, ge=1, description="So many of the newest versions stay in the registry, whatever nobody needs."
    )
    keep_decisions: int = Field(
        default=365,
        ge=1,
        description="So many of the newest decisions can be replayed, and keep their runs in MLflow; promotions on the way to the champion always.",
    )
    keep_images: int = Field(
        default=5,
        ge=1,
        description="Images of so many of the versions that were in production last stay on the machine that builds.",
    )
    keep_days: int = Field(default=180, ge=1, description="So many days Airflow's task logs stay.")

    image_repository: str = Field(
        default="churn",
        pattern=r"^[a-z0-9][a-z0-9._/:-]*$",
        description="Repository of the serving image; the tag is the version.",
    )
    image_registry: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*[a-z0-9]$",
        description="Registry that images are pushed to, for example `registry.example:5000/team`; empty: they stay on this machine.",
    )
    registry_login: Literal["engine", "ecr"] = Field(
        default="engine",
        description="`engine`: what `docker login` left; `ecr`: a token from Amazon ECR, by the connection of `CHURN_AWS_CONN_ID`.",
    )
    base_image: str = Field(
        default=f"python:{PYTHON}-slim",
        description="Base of the serving image; must hold the Python that trained the model.",
    )
    container_engine: Literal["auto", "required", "none"] = Field(
        default="auto",
        description="`auto`: this machine's engine if it has one, and an error once it has built images here or `DOCKER_HOST` names it; `required`: an error without one; `none`: never ask for one.",
    )
    engine_network: str | None = Field(
        default=None,
        description="Network on which the images to be verified are reached, where this process runs in a container itself; none: by a port of loopback.",
    )
    build_network: str | None = Field(
        default=None, description="Network of the image build, for example `host` behind a proxy."
    )
    build_ca_bundle: Path | None = Field(
        default=None, description="CA bundle that the image build trusts; it does not stay in the image."
    )

    build_pip_conf: Path | None = Field(
        default=None,
        description="pip configuration of the image build, for a package index of your own; it does not stay in the image.",
    )

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: names every bad setting, its value and what is allowed.
        """
        known = {environment_name(name) for name in cls.model_fields}
        file = cls.model_config.get("env_file")
        given = {*os.environ, *(dotenv_values(str(file)) if file else {})}
        unknown = sorted(name for name in given if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(
                f"Unknown setting {', '.join(unknown)}. `churn settings` lists the settings that exist."
            )
        folders = [folder for folder in (SECRETS, Path("/run/secrets")) if folder.is_dir()]
        try:
            return cls(_secrets_dir=folders)
        except ValidationError as error:
            raise SettingsError(
                "\n".join(_explain(one) for one in error.errors() if one["type"] != FOLLOW_UP)
            ) from None

    @field_validator("contract")
    @classmethod
    def _is_contract(cls, value: object) -> object:
        if not isinstance(value, Contract):
            raise ValueError(f"must name a churn.contract.Contract, not a {type(value).__name__}")  # noqa: TRY004 -- pydantic collects ValueError
        return value

    @field_validator(
        "schedule",
        "mlflow_ui_url",
        "airflow_ui_url",
        "aws_conn_id",
        "image_registry",
        "engine_network",
        "build_network",
        "build_ca_bundle",
        "build_pip_conf",
        "notifications_file",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None and not croniter.is_valid(value):
            raise ValueError("must be a cron expression, such as 0 2 * * *, or empty")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("must be an IANA time zone, such as Europe/Zurich") from error
        return value

    @field_validator("data_root")
    @classmethod
    def _absolute_root(cls, value: str) -> str:
        return value if "://" in value else str(HOME / value)

    @field_validator("watch_landing")
    @classmethod
    def _watches_s3(cls, value: bool, info: ValidationInfo) -> bool:
        root = str(info.data.get("data_root", "s3://"))
        if value and not root.startswith("s3://"):
            raise ValueError(f"only a data root on S3 can be watched, and CHURN_DATA_ROOT is {root}")
        return value

    @field_validator("ledger_url")
    @classmethod
    def _absolute_ledger(cls, value: str) -> str:
        try:
            url = make_url(value)
        except Exception as error:
            raise ValueError("must be a SQLAlchemy URL") from error
        if url.drivername == "sqlite" and url.database:
            return f"sqlite:///{HOME / url.database}"
        if url.drivername != "postgresql+psycopg2":
            raise ValueError("must begin with sqlite:/// or postgresql+psycopg2://")
        return value

    @field_validator("policy_file", "notifications_file")
    @classmethod
    def _absolute_file(cls, value: Path | None) -> Path | None:
        return value and HOME / value

    def approval_time(self, now: datetime) -> timedelta:
        """How long an approval that is asked for now is waited for: until shortly before the next night at the latest."""
        longest = timedelta(hours=self.approval_hours)
        if self.schedule is None:
            return longest
        local = now.astimezone(ZoneInfo(self.timezone))
        next_night: datetime = croniter(self.schedule, local).get_next(datetime)
        until_night = next_night - local
        return max(min(longest, until_night - BEFORE_NIGHT), timedelta(minutes=1))

    @property
    def mlflow_ui(self) -> str:
        """Base URL of MLflow for links that people open."""
        return re.sub(r"//[^/@]*@", "//", self.mlflow_ui_url or self.mlflow_tracking_uri).rstrip("/")

    @property
    def airflow_ui(self) -> str:
        """Base URL of Airflow for links that people open."""
        return (self.airflow_ui_url or f"http://127.0.0.1:{self.airflow_port}").rstrip("/")


def environment_name(field: str) -> str:
    """The environment variable of a settings field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def masked(value: str) -> str:
    """A value for people, without the user and password of a URL."""
    return re.sub(r"//[^/@]*@", "//***@", value)


def git_commit() -> str | None:
    """The commit of the checkout that runs, or that the image was built from; None if nobody knows."""
    if built_from := os.environ.get("GIT_COMMIT"):
        return built_from
    try:
        import git  # fails where there is no git executable

        return git.Repo(HOME).head.commit.hexsha
    except (ImportError, ValueError):
        return None
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None


def _explain(error: Any) -> str:
    field = str(error["loc"][0])
    name = environment_name(field) if field in Settings.model_fields else field
    if error["type"] == "missing":
        cure = (
            f"set it, or put it into {SECRETS.relative_to(HOME)}/{name.lower()} (`make run` makes one)"
            if field == "bucket_salt"
            else "set it"
        )
        return f"{name} is missing: {cure}."
    value = "(hidden)" if field == "bucket_salt" else repr(masked(str(error["input"])))
    return f"{name}={value}: {error['msg']}."
