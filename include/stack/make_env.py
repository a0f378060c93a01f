"""Adds the missing secrets of the stack to .env and changes no other line.

It needs only Python. It writes the file completely or not at all, readable by its owner only, and never replaces a value:
a new salt would change the holdout, and a new key would make encrypted data unreadable.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path

SECRETS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": lambda: secrets.token_hex(24),
    "AIRFLOW_DB_PASSWORD": lambda: secrets.token_hex(24),
    "MLFLOW_DB_PASSWORD": lambda: secrets.token_hex(24),
    "LEDGER_DB_PASSWORD": lambda: secrets.token_hex(24),
    "REDIS_PASSWORD": lambda: secrets.token_hex(24),
    "S3_DATA_ACCESS_KEY": lambda: secrets.token_hex(10),
    "S3_DATA_SECRET_KEY": lambda: secrets.token_hex(24),
    "S3_MLFLOW_ACCESS_KEY": lambda: secrets.token_hex(10),
    "S3_MLFLOW_SECRET_KEY": lambda: secrets.token_hex(24),
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(64),
    "AIRFLOW_API_SECRET": lambda: secrets.token_hex(32),
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(15),
    "MLFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(15),
    "MLFLOW_PIPELINE_PASSWORD": lambda: secrets.token_hex(24),
    "MLFLOW_FLASK_SECRET": lambda: secrets.token_hex(32),
    "SPARK_SECRET": lambda: secrets.token_hex(32),
    "HOLDOUT_SALT": lambda: secrets.token_hex(32),
}
MODE = stat.S_IRUSR | stat.S_IWUSR
HEAD = """
# --- Secrets of the stack (docker-compose.yaml), created by `make up`. Keep them: without AIRFLOW_FERNET_KEY Airflow's connections
# cannot be read, and a new HOLDOUT_SALT changes the holdout. To change a database password, edit it here and run `make up`.
"""


def missing_lines(text: str) -> list[str]:
    """Return the lines that a .env with this text still needs."""
    pairs = (line.partition("=") for line in text.splitlines())
    there = {name.strip(): value.strip() for name, _, value in pairs if value.strip()}
    lines = [f"{name}={make()}" for name, make in SECRETS.items() if name not in there]
    return lines if "DOCKER_GID" in there else [*lines, f"DOCKER_GID={socket_group(there.get('DOCKER_SOCKET'))}"]


def socket_group(named: str | None) -> int:
    """Return the group of the container engine's socket, which the builder joins."""
    socket = Path(os.environ.get("DOCKER_SOCKET") or named or "/var/run/docker.sock")
    return socket.stat().st_gid if socket.exists() else 0


def main(file: Path) -> None:
    """Complete the file."""
    text = file.read_text() if file.exists() else ""
    lines = missing_lines(text)
    if not lines:
        file.chmod(MODE)
        return
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    new.touch(mode=MODE)
    new.write_text(text + HEAD + "\n".join(lines) + "\n")
    new.replace(file)
    sys.stdout.write(f"Added {len(lines)} lines to {file}. Keep a copy of it in a safe place.\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
