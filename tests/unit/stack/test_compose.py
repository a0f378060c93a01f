"""What docker-compose.yaml promises of every service, held against what both versions of Compose read in it."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import compose
import pytest
import yaml

from churn.foundation.spark.session import read_conf
from churn.settings import Settings, environment_name
from support.basics import ROOT

COMPOSE_1 = shutil.which("docker-compose", path="/usr/bin:/usr/local/bin")
COMPOSE_2 = Path(compose.__file__).with_name("docker-compose")  # the wheel's wrapper around it forgets the exit status
ONE_SHOT = {"init", "buckets", "churn"}
OPTIONAL = {"churn", "serving", "spark-master", "spark-worker"}
EVERYTHING = ("--profile", "cli", "--profile", "serving", "--profile", "spark")
REQUIRED = sorted(set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yaml").read_text())))
THE_STACKS_OWN = {"CHURN_AWS_CONN_ID", "CHURN_ENGINE_NETWORK", "CHURN_MLFLOW_PORT"}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """The .env that `make up` writes."""
    file = tmp_path / ".env"
    subprocess.run([sys.executable, "include/stack/make_env.py", str(file)], cwd=ROOT, check=True, capture_output=True)
    return file


def _config(program: str | Path, env_file: Path, *options: str, **shell: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), "--env-file", str(env_file), *options, "config"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(env_file.parent), **shell}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _services(env_file: Path, **shell: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(_config(COMPOSE_2, env_file, *EVERYTHING, **shell).stdout)[
        "services"
    ]
    return found


@pytest.mark.parametrize("program", [COMPOSE_1, COMPOSE_2], ids=["1", "2"])
def test_both_versions_of_compose_read_it(program: str | None, env_file: Path) -> None:
    """The parsers of Compose 1.29 and 2 find nothing wrong, and the same services."""
    if program is None:
        pytest.skip("docker-compose 1 is not installed")
    read = _config(program, env_file, *EVERYTHING)
    assert (read.returncode, read.stderr) == (0, "")
    assert set(yaml.safe_load(read.stdout)["services"]) == set(_services(env_file))


@pytest.mark.parametrize("name", REQUIRED)
def test_without_a_secret_nothing_starts(name: str, env_file: Path) -> None:
    """There is no default for any secret: Compose refuses and names the one that is missing."""
    env_file.write_text(
        "".join(line for line in env_file.read_text().splitlines(keepends=True) if not line.startswith(f"{name}="))
    )
    read = _config(COMPOSE_2, env_file)
    assert read.returncode != 0
    assert name in read.stderr


def test_the_file_of_secrets_is_private_and_never_written_over(env_file: Path) -> None:
    """Mode 600; run again nothing changes; what somebody else wrote stays, and only what is missing is added."""
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    make = [sys.executable, str(ROOT / "include/stack/make_env.py"), str(env_file)]
    before = env_file.read_text()
    subprocess.run(make, check=True, capture_output=True)
    assert env_file.read_text() == before
    lines = before.splitlines(keepends=True)
    mine = "CHURN_SCHEDULE=0 3 * * *\nHOLDOUT_SALT=the salt of years\n"
    env_file.write_text(mine)
    subprocess.run(make, check=True, capture_output=True)
    completed = env_file.read_text()
    assert completed.startswith(mine)
    assert completed.count("HOLDOUT_SALT=") == 1
    assert {line.partition("=")[0] for line in completed.splitlines() if "=" in line} >= set(REQUIRED)
    assert len(lines) < len(completed.splitlines())
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


def test_it_is_not_in_git_and_not_in_the_image() -> None:
    """Neither a commit nor a layer can take the secrets along."""
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if not line.startswith(("#", "!"))) == "*"
    assert not [line for line in ignored if line.startswith("!") and ("env" in line or "var" in line or "data" in line)]


def test_every_setting_of_the_core_reaches_it(env_file: Path) -> None:
    """A setting in .env is the tasks' setting: none is forgotten when one is added."""
    worker = set(_services(env_file)["worker"]["environment"]) | set(_services(env_file)["builder"]["environment"])
    embedded_only = {"CHURN_MLFLOW_PORT"}
    assert {environment_name(field) for field in Settings.model_fields} - worker == embedded_only
    given = _services(env_file, CHURN_SEED="7")["worker"]["environment"]
    assert given["CHURN_SEED"] == "7"


def test_only_four_ports_are_published_and_on_loopback(env_file: Path) -> None:
    """Airflow, MLflow, the served model, Spark; elsewhere only if BIND_ADDRESS says so, and Spark never."""

    def published(**shell: str) -> dict[str, set[tuple[str, str]]]:
        return {
            name: {(port["host_ip"], port["published"]) for port in service["ports"]}
            for name, service in _services(env_file, **shell).items()
            if service.get("ports")
        }

    assert published() == {
        "api-server": {("127.0.0.1", "8080")},
        "mlflow": {("127.0.0.1", "5005")},
        "serving": {("127.0.0.1", "8081")},
        "spark-master": {("127.0.0.1", "8082")},
    }
    assert published(BIND_ADDRESS="0.0.0.0")["spark-master"] == {("127.0.0.1", "8082")}  # noqa: S104 -- its pages have no login
    assert published(BIND_ADDRESS="0.0.0.0")["mlflow"] == {("0.0.0.0", "5005")}  # noqa: S104 -- what is tested


def test_every_service_is_held_small(env_file: Path) -> None:
    """No service has more rights than it needs, a limit of memory is set, and logs are rotated."""
    for name, service in _services(env_file).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not service.get("cap_add"), name
        assert service.get("network_mode") is None, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert int(service["mem_limit"]) > 0, name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert service.get("user", "ours") != "root", name
        if name not in ONE_SHOT | {"serving"}:  # the served image brings its own
            assert service["healthcheck"]["test"], name


def test_the_limits_of_memory_fit_a_machine_of_8_gb(env_file: Path) -> None:
    """All that runs together: what prepares the stack has ended before the others begin."""
    running = {name: service for name, service in _services(env_file).items() if name not in OPTIONAL | ONE_SHOT}
    limits = {name: int(service["mem_limit"]) for name, service in running.items()}
    assert len(limits) == 10
    assert sum(limits.values()) < 8 * 2**30, {name: limit // 2**20 for name, limit in limits.items()}


def test_only_the_builder_has_the_engine(env_file: Path) -> None:
    """Its socket is as good as root on the machine; nothing else of this machine is mounted."""
    for name, service in _services(env_file).items():
        from_here = {volume["source"] for volume in service.get("volumes", []) if volume["type"] == "bind"}
        assert from_here == ({"/var/run/docker.sock", "/dev/null"} if name == "builder" else set()), name


def test_a_worker_has_neither_airflows_database_nor_its_keys(env_file: Path) -> None:
    """Whoever writes a DAG does not hold what signs tokens, decrypts connections, or opens the metadata."""
    secrets = dict(
        line.split("=", 1) for line in env_file.read_text().splitlines() if "=" in line and not line.startswith("#")
    )
    kept = [
        "POSTGRES_PASSWORD",
        "AIRFLOW_DB_PASSWORD",
        "MLFLOW_DB_PASSWORD",
        "AIRFLOW_FERNET_KEY",
        "AIRFLOW_JWT_SECRET",
    ]
    kept += ["AIRFLOW_ADMIN_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "S3_MLFLOW_ACCESS_KEY", "S3_MLFLOW_SECRET_KEY"]
    services = _services(env_file)
    for name in ("worker", "builder", "serving", "churn", "spark-master", "spark-worker"):
        values = " ".join(str(value) for value in services[name].get("environment", {}).values())
        assert [secret for secret in kept if secrets[secret] in values] == [], name


def test_amazons_s3_takes_three_settings(env_file: Path) -> None:
    """No address means Amazon's own: what every container starts with takes the empty one away. Region and buckets follow."""
    services = _services(env_file, S3_ENDPOINT_URL="", S3_REGION="eu-central-1", S3_BUCKET_PREFIX="acme-churn")
    assert services["mlflow"]["environment"]["MLFLOW_ARTIFACTS"] == "s3://acme-churn-mlflow"
    assert services["worker"]["environment"]["CHURN_DATA_ROOT"] == "s3://acme-churn-data"
    code = "from airflow.providers.amazon.aws.hooks.s3 import S3Hook; print(S3Hook('churn_s3').get_conn().meta.endpoint_url)"
    for given, expected in (
        ("", "https://s3.eu-central-1.amazonaws.com"),
        ("http://seaweedfs:8333", "http://seaweedfs:8333"),
    ):
        services = _services(env_file, S3_ENDPOINT_URL=given, S3_REGION="eu-central-1")
        environment = {
            key: value
            for key, value in services["worker"]["environment"].items()
            if (value is not None and "AWS" in key + "_") or key == "AIRFLOW_CONN_CHURN_S3"
        }
        command = ["include/stack/entrypoint.sh", sys.executable, "-W", "ignore", "-c", code]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(env_file.parent), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stdout.splitlines()[-1:] == [expected], ran.stderr[-1000:]


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "include/stack/Dockerfile", "include/churn/serving/Dockerfile", "tests/stack/Dockerfile"],
        ["yamllint", "--strict", "docker-compose.yaml", "tests/stack/stand-ins.yaml", "include"],
        [
            "shellcheck",
            "include/stack/stack.sh",
            "include/stack/entrypoint.sh",
            "include/stack/init.sh",
            "include/stack/mlflow.sh",
        ],
    ],
    ids=lambda command: command[0],
)
def test_the_linters_find_nothing(command: list[str]) -> None:
    """Dockerfiles, YAML and shell are clean."""
    program = str(Path(sys.executable).with_name(command[0]))
    ran = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_a_scanner_finds_no_secret_in_what_is_committed() -> None:
    """detect-secrets, over every file of the stack."""
    scanner = str(Path(sys.executable).with_name("detect-secrets"))
    files = [str(path) for path in (ROOT / "include/stack").iterdir() if path.is_file()]
    ran = subprocess.run(
        [scanner, "scan", "docker-compose.yaml", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert yaml.safe_load(ran.stdout)["results"] == {}


def test_executors_get_the_secret_of_the_cluster_and_no_other(env_file: Path) -> None:
    """Salt and keys of the data root come with the work, through a connection that is encrypted."""
    services = _services(env_file)
    secrets = dict(line.split("=", 1) for line in env_file.read_text().splitlines() if "=" in line and line[0] != "#")
    secrets.pop("DOCKER_GID")
    for name in ("spark-master", "spark-worker"):
        values = set(map(str, services[name]["environment"].values()))
        assert {secret for secret, value in secrets.items() if value in values} == {"SPARK_SECRET"}
        assert services[name]["image"] == services["worker"]["image"]
    assert services["worker"]["environment"]["CHURN_SPARK_SECRET"] == secrets["SPARK_SECRET"]
    assert services["worker"]["environment"]["CHURN_SPARK_MASTER"] == "spark://spark-master:7077"
    read_conf(ROOT / services["worker"]["environment"]["CHURN_SPARK_CONF"])
