"""The only reader of the environment.

Precedence: environment, then `.env` in the checkout, then files in `var/secrets` and
`/run/secrets`, then the defaults here. The defaults are those of the local mode; the stack sets others.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]
from dotenv import dotenv_values
from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url

from churn.checkout import HOME
from churn.contract import Contract
from churn.contracts.loading import load_contract
from churn.errors import ChurnError

log = logging.getLogger(__name__)
VAR = HOME / "var"
SECRETS = VAR / "secrets"
PREFIX = "CHURN_"
FOLLOW_UP = "default_factory_not_called"  # pydantic's: the default depends on a setting that is itself invalid
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


_RENAMED_CONTRACTS = {"churn.contract:BANK_CHURN": "churn.contracts.bank:BANK_CHURN"}


class SettingsError(ChurnError):
    """A setting is missing, unknown, or has a value that is not allowed."""


Optional = BeforeValidator(lambda value: None if value == "" else value)
"""An empty value in the environment means "not set"."""
OptionalText = Annotated[str | None, Optional]
OptionalPath = Annotated[Path | None, Optional]


def _setting(section: str, description: str, default: Any = ..., **limits: Any) -> Any:
    """A setting: the section of the reference that lists it, what it means, its default and what is allowed."""
    if "default_factory" in limits:
        return Field(description=description, json_schema_extra={"section": section}, **limits)
    return Field(default, description=description, json_schema_extra={"section": section}, **limits)


DATA = "Data and where it is kept"
SALT = "The secret that assigns customers to buckets"
TIMES = "When runs start"
ALERTS = "Alerts"
RULES = "Intake, training and promotion"
SPREAD = "Where data work runs"
SCORING = "Scores of current customers"
OUTCOMES = "What happened afterwards"
RETENTION = "What maintenance keeps, besides what production and a rollback need"
SERVICES = "MLflow and Airflow"
IMAGES = "The serving image"


class Settings(BaseSettings):
    """Typed, read once, frozen. Relative paths are relative to the checkout.

    The reference of settings and `.env.example` are written from this class: `make docs-reference`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=HOME / ".env", extra="ignore", frozen=True, populate_by_name=True
    )

    contract: Any = _setting(
        DATA,
        "The data contract: a YAML file such as `contracts/telco.yaml`, or `module:NAME`. Searched in the project folder, in its folder "
        "`contracts`, among the contracts that ship, and on the Python path.",
        "churn.contracts.bank:BANK_CHURN",
        validate_default=True,
    )
    data_root: str = _setting(
        DATA,
        "Folder or URL (`s3://bucket/prefix`) of the landing, accepted and quarantine zones.",
        "data",
        min_length=1,
    )
    aws_conn_id: OptionalText = _setting(
        DATA,
        "Airflow connection with the S3 credentials of the data root. Empty: the standard AWS credential chain.",
        None,
    )
    ledger_url: str = _setting(
        DATA,
        "Database of the ledger: `sqlite:///file` or `postgresql+psycopg2://user:<password>@host/database`.",
        "sqlite:///var/ledger.db",
    )

    bucket_salt: SecretStr = _setting(
        SALT,
        "Secret key that assigns customers to buckets. A different salt means a different holdout, so never change it. "
        "In local mode `make run` creates one in `var/secrets`.",
        min_length=16,
    )

    schedule: OptionalText = _setting(
        TIMES, "Cron expression of the nightly run. Empty: runs start only manually.", "0 2 * * *"
    )
    scoring_schedule: OptionalText = _setting(
        TIMES,
        "Cron expression of scoring runs, besides those after a promotion or a rollback. Empty: there are none besides.",
        None,
    )
    timezone: str = _setting(TIMES, "Time zone of the schedules.", "UTC")
    watch_landing: bool = _setting(
        TIMES, "Whether a nightly or scoring run also starts as soon as a file lands. Needs a data root on S3.", False
    )

    notifications_file: OptionalPath = _setting(
        ALERTS,
        "File that says who is notified of what; see `include/notifications.example.yaml`. "
        "Empty: alerts are only listed by `churn alerts`.",
        None,
    )
    silence_nights: int = _setting(
        ALERTS,
        "Number of nights without an accepted batch or without a decision after which an alert is sent. 0: never.",
        3,
        ge=0,
        le=365,
    )

    max_rejected_share: float = _setting(
        RULES,
        "A batch is rejected when more than this share of its rows is quarantined, not counting rows that only lack a label.",
        0.05,
        ge=0,
        le=1,
    )
    max_disputed_share: float = _setting(
        RULES,
        "A batch is rejected when more than this share of its known customers, and at least five, had the event before and do not have it now. "
        "The same limit applies to customers that have changed a permanent attribute.",
        0.02,
        ge=0,
        le=1,
    )
    max_size_ratio: float = _setting(
        RULES, "A batch that is this many times larger than the median of past batches causes a warning.", 3.0, gt=0
    )
    drift_limit: float = _setting(
        RULES, "Population stability index above which a column is reported as drifted.", 0.2, gt=0
    )
    settle_seconds: float = _setting(
        RULES,
        "A file that changed less than this many seconds ago is looked at again after that time; if it has changed, it is left for "
        "the next run. Only for a local data root: objects on S3 appear complete.",
        1.0,
        ge=0,
        le=600,
    )
    min_training_rows: int = _setting(RULES, "Number of training rows below which nothing is trained.", 1000, ge=50)
    cv_folds: int = _setting(
        RULES, "Number of folds of the cross-validation that selects the challenger.", 5, ge=2, le=20
    )
    candidates: str = _setting(
        RULES,
        "The function that returns the models that compete, as `module:function`; see `docs/pages/your-own-model.md`. The "
        "module is in `candidates/`, in the project folder or on the Python path.",
        "churn.learning.candidates:standard",
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
    )
    max_training_rows: int = _setting(
        RULES,
        "Number of rows that a model is fitted on at most. If there are more, a draw by customer decides.",
        3_000_000,
        ge=1000,
    )
    candidate_memory: ByteSize = _setting(
        RULES,
        "Memory that the fits of one candidate may take. An own candidate that takes more is left out of the run.",
        "1.5GB",
    )
    candidate_timeout: float = _setting(
        RULES,
        "Seconds that all fits of one candidate may take. An own candidate that takes more is left out of the run; if it is a standard one, "
        "the task fails.",
        1800,
        gt=0,
    )
    max_evidence_rows: int = _setting(
        RULES,
        "Number of unseen customers that versions are compared on at most. If there are more, a draw by customer decides.",
        5_000_000,
        ge=1000,
    )
    seed: int = _setting(RULES, "Random seed of the folds and the models.", 20, ge=0, lt=2**32)
    duckdb_memory_limit: str = _setting(
        RULES,
        "Memory limit of the columnar engine, which spills to disk beyond it.",
        "1GB",
        pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$",
    )
    cores: int | None = _setting(
        RULES,
        "Number of cores that data work uses, by default all that the process may use. The memory limit of the columnar engine is divided "
        "among them.",
        None,
        ge=1,
    )
    part_size: ByteSize = _setting(
        RULES,
        "Size of the parts into which an arriving file is divided, so that several cores work on it. Files that have arrived keep their parts.",
        "16MB",
        ge=100_000,
    )
    spread: Literal["here", "spark"] = _setting(
        SPREAD,
        "Where data work runs: `here`, on the cores of the machine of each task, or `spark`, on the executors of a Spark cluster. The results "
        "are the same.",
        "here",
    )
    spark_master: str = _setting(
        SPREAD,
        "The cluster: `local[*]`, `spark://host:7077` or `k8s://https://host`.",
        "local[*]",
        pattern=r"^(local(\[[\d*, ]+\])?|spark://.+|k8s://.+|yarn)$",
    )
    spark_conf: OptionalPath = _setting(
        SPREAD,
        "File of Spark's own settings, a name and a value on each line. It must not hold secrets. Empty: Spark's defaults and ours.",
        None,
    )
    spark_parts: int = _setting(
        SPREAD,
        "Number of parts from which work goes to the cluster. Smaller work is done by the task itself, because a Spark session takes half a "
        "minute to open.",
        2,
        ge=1,
    )
    spark_secret: SecretStr | None = _setting(
        SPREAD,
        "The secret that the processes of a standalone cluster share, which they take from `_SPARK_AUTH_SECRET`. Empty: Spark makes one where "
        "it can, as on Kubernetes.",
        None,
    )
    policy_file: Path = _setting(
        RULES, "The promotion policy, reviewed in git.", Path("include/churn/promotion_policy.yaml")
    )
    approval: Literal["never", "disputed", "always"] = _setting(
        RULES,
        "When a promotion needs a person's approval: `never`; `disputed`, when new batches contradict the earlier ones; `always`.",
        "never",
    )
    approval_hours: float = _setting(
        RULES,
        "How long to wait for an approval, in hours. The wait ends 15 minutes before the next run at the latest. If nobody has "
        "answered by then, the promotion is rejected.",
        20,
        gt=0,
        le=168,
    )
    second_person: bool = _setting(
        RULES,
        "Whether an approval must come from someone other than the person who started the run. A forced promotion then needs an "
        "approval too.",
        False,
    )
    shadows: int = _setting(
        OUTCOMES,
        "Number of newest held challengers that also score what arrives. Their results are shown; none is promoted by them.",
        3,
        ge=0,
    )
    on_refuted: Literal["alert", "ask", "rollback"] = _setting(
        OUTCOMES,
        "What follows when later rows refute a promotion, besides the alert: nothing, a link in it to the form of the rollback, or the "
        "rollback itself, which turns automatic promotion off.",
        "alert",
    )
    confirmation_days: int = _setting(
        OUTCOMES,
        "Days after which a promotion that later rows have neither confirmed nor refuted counts as undecided.",
        90,
        ge=1,
    )

    hand_made_changes: Literal["refuse", "adopt"] = _setting(
        RULES,
        "What happens when someone has changed the production version manually in MLflow: `refuse` stops the run, `adopt` "
        "accepts that version.",
        "refuse",
    )

    scoring_policy_file: Path = _setting(
        SCORING,
        "The scoring policy: whom to contact, what that costs and may bring. Reviewed in git.",
        Path("include/churn/scoring_policy.yaml"),
    )

    scores_url: SecretStr | None = _setting(
        SCORING,
        "Database that each list is delivered to, `postgresql+psycopg2://user:<password>@host/database`. Readers use its view `churn_scores`. "
        "Empty: no database.",
        None,
    )
    scores_drop: OptionalText = _setting(
        SCORING,
        "Folder or URL (`s3://bucket/prefix`) that the files of each list are delivered to, with the marker `_SUCCESS`. Empty: none.",
        None,
    )
    scores_csv: bool = _setting(
        SCORING, "Whether the folder of `CHURN_SCORES_DROP` also gets each list as one CSV file.", False
    )

    keep_versions: int = _setting(
        RETENTION, "Number of newest versions that are always kept in the MLflow registry.", 50, ge=1
    )
    keep_decisions: int = _setting(
        RETENTION,
        "Number of newest decisions that can be replayed and keep their runs in MLflow. The promotions that led to the champion "
        "are always kept.",
        365,
        ge=1,
    )
    keep_images: int = _setting(
        RETENTION,
        "Number of most recent production versions whose images are kept on the machine that builds them.",
        5,
        ge=1,
    )
    keep_lists: int = _setting(
        RETENTION,
        "Number of newest score lists of each campaign whose rows are kept. Lists whose horizon has not passed are always kept.",
        30,
        ge=1,
    )
    keep_populations: int = _setting(
        RETENTION,
        "Number of newest files of current customers that are kept, with their quarantined rows. Those of kept lists are always kept.",
        5,
        ge=1,
    )
    keep_outcomes: int = _setting(
        RETENTION,
        "Number of newest batches whose scores on arrival are kept, and of looks whose rows are. What the version in production is "
        "measured by is always kept.",
        400,
        ge=1,
    )
    keep_days: int = _setting(RETENTION, "Number of days for which Airflow's task logs are kept.", 180, ge=1)

    # Before the address of MLflow, whose default it is a part of.
    mlflow_port: int = _setting(SERVICES, "Port of the local MLflow server.", 5005, ge=1, le=65535)
    mlflow_tracking_uri: str = _setting(
        SERVICES,
        "URL of the MLflow server, for tracking and registry. By default the local one.",
        default_factory=lambda known: f"http://127.0.0.1:{known.get('mlflow_port')}",
        min_length=1,
        validation_alias="MLFLOW_TRACKING_URI",
    )
    experiment: str = _setting(SERVICES, "MLflow experiment that records the runs.", "churn", min_length=1)
    model_name: str = _setting(SERVICES, "Name of the registered model.", "churn", pattern=r"^[A-Za-z0-9._-]+$")
    mlflow_ui_url: OptionalText = _setting(
        SERVICES, "URL at which people open MLflow, if it differs from the tracking URI.", None
    )
    airflow_ui_url: OptionalText = _setting(
        SERVICES, "URL at which people open Airflow, if it is not the local one.", None
    )
    airflow_port: int = _setting(SERVICES, "Port of the local Airflow.", 8080, ge=1, le=65535)

    container_engine: Literal["auto", "required", "none"] = _setting(
        IMAGES,
        "`auto`: use this machine's container engine if there is one; its absence is an error once it has built images here or "
        "`DOCKER_HOST` names it. `required`: its absence is always an error. `none`: never use one.",
        "auto",
    )
    image_repository: str = _setting(
        IMAGES, "Repository of the serving image. The tag is the version.", "churn", pattern=r"^[a-z0-9][a-z0-9._/:-]*$"
    )
    image_registry: OptionalText = _setting(
        IMAGES,
        "Image registry to push to, for example `registry.example:5000/team`. Empty: images are kept on this machine.",
        None,
        pattern=r"^[a-z0-9][a-z0-9._/:-]*[a-z0-9]$",
    )
    registry_login: Literal["engine", "ecr"] = _setting(
        IMAGES,
        "How to log in to the image registry. `engine`: with the credentials of `docker login`. `ecr`: with a token from Amazon "
        "ECR, through the connection `CHURN_AWS_CONN_ID`.",
        "engine",
    )
    base_image: str = _setting(
        IMAGES,
        "Base image of the serving image. It must contain the Python version that trained the model.",
        f"python:{PYTHON}-slim",
    )
    engine_network: OptionalText = _setting(
        IMAGES,
        "Container network on which images are reached for verification, when this process itself runs in a container. Empty: a "
        "port on loopback.",
        None,
    )
    build_network: OptionalText = _setting(
        IMAGES, "Network of the image build, for example `host` when behind a proxy.", None
    )
    build_ca_bundle: OptionalPath = _setting(
        IMAGES, "CA bundle that the image build trusts. It is not kept in the image.", None
    )
    build_pip_conf: OptionalPath = _setting(
        IMAGES, "pip configuration of the image build, for your own package index. It is not kept in the image.", None
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment.

        Args:
            given: settings that replace those of the environment.

        Raises:
            SettingsError: a setting is unknown or invalid; names each, its value and what is allowed.
        """
        known = {environment_name(name) for name in cls.model_fields}
        file = cls.model_config.get("env_file")
        named = {*os.environ, *(dotenv_values(str(file)) if file else {})}
        unknown = sorted(name for name in named if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(
                f"Unknown setting: {', '.join(unknown)}. `churn settings` lists the settings that exist."
            )
        folders = [folder for folder in (SECRETS, Path("/run/secrets")) if folder.is_dir()]
        try:
            return cls(_secrets_dir=folders, **given)
        except ValidationError as error:
            raise SettingsError(
                "\n".join(_explain(fault) for fault in error.errors() if fault["type"] != FOLLOW_UP)
            ) from None

    @field_validator("contract", mode="before")
    @classmethod
    def _load_contract(cls, value: object) -> object:
        if isinstance(value, str):
            renamed = _RENAMED_CONTRACTS.get(value)
            if renamed:
                _warn_of_renamed_contract(value, renamed)
            return load_contract(renamed or value, HOME)
        if not isinstance(value, Contract):
            raise ValueError(f"must name a churn.contract.Contract, not a {type(value).__name__}")  # noqa: TRY004 -- pydantic collects ValueError
        return value

    @field_validator("schedule", "scoring_schedule")
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
            raise ValueError(f"only a data root on S3 can be watched, but CHURN_DATA_ROOT is {root}")
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

    @field_validator("scores_url", mode="before")
    @classmethod
    def _is_postgresql(cls, value: object) -> object:
        if value in ("", None):
            return None
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        try:
            driver = make_url(text).drivername
        except Exception as error:
            raise ValueError("must be a SQLAlchemy URL") from error
        if driver != "postgresql+psycopg2":
            raise ValueError("must begin with postgresql+psycopg2://")
        return value

    @field_validator("spark_secret", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("policy_file", "scoring_policy_file", "notifications_file", "spark_conf")
    @classmethod
    def _absolute_file(cls, value: Path | None) -> Path | None:
        return value and HOME / value

    @property
    def mlflow_ui(self) -> str:
        """Base URL of MLflow in links for people."""
        return re.sub(r"//[^/@]*@", "//", self.mlflow_ui_url or self.mlflow_tracking_uri).rstrip("/")

    @property
    def score_targets(self) -> list[str]:
        """Where each list is delivered to: `database`, `drop`, both, or nowhere."""
        return [name for name, place in (("database", self.scores_url), ("drop", self.scores_drop)) if place]

    @property
    def airflow_ui(self) -> str:
        """Base URL of Airflow in links for people."""
        return (self.airflow_ui_url or f"http://127.0.0.1:{self.airflow_port}").rstrip("/")


def environment_name(field: str) -> str:
    """The environment variable of a settings field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def masked(value: str) -> str:
    """Hide the user and password of a URL in a value that people will read."""
    return re.sub(r"//[^/@]*@", "//***@", value)


def git_commit() -> str | None:
    """The commit of this checkout, or of the one that the image was built from; None if it is unknown."""
    if built_from := os.environ.get("GIT_COMMIT"):
        return built_from
    try:
        import git  # fails where there is no git executable

        return git.Repo(HOME).head.commit.hexsha
    except (ImportError, ValueError):
        return None
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None


@cache
def _warn_of_renamed_contract(name: str, renamed: str) -> None:
    """Warn once in a process. A Python warning would name a line of pydantic."""
    log.warning("CHURN_CONTRACT=%s is now %s; the old name works for one minor version.", name, renamed)


def _explain(error: Any) -> str:
    field = str(error["loc"][0])
    name = environment_name(field) if field in Settings.model_fields else field
    if error["type"] == "missing":
        if field == "bucket_salt":
            return f"{name} is missing. Set it, or write it to {SECRETS.relative_to(HOME)}/{name.lower()} (`make run` creates one)."
        return f"{name} is missing. Set it."
    value = "(hidden)" if field == "bucket_salt" else repr(masked(str(error["input"])))
    return f"{name}={value}: {error['msg'].removeprefix('Value error, ').removesuffix('.')}."
