"""Checks the health of the service in this container; exit status 0 means healthy.

Airflow's own commands load all of Airflow, six seconds of a core each time; these checks take a tenth of a second.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

SECONDS = 10
FRESH = 60
"""Age in seconds of the last heartbeat above which a job is unhealthy."""


def url(address: str) -> bool:
    """A server answers."""
    with urllib.request.urlopen(address, timeout=SECONDS):  # noqa: S310 -- the address is docker-compose.yaml's
        return True  # any other answer raises


def job(kind: str) -> bool:
    """Return whether a job of this kind on this host has a recent heartbeat in Airflow's database."""
    import psycopg2
    from sqlalchemy.engine import make_url

    address = make_url(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).set(drivername="postgresql")
    connection = psycopg2.connect(address.render_as_string(hide_password=False), connect_timeout=SECONDS)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM job WHERE job_type = %s AND hostname = %s AND state = 'running' "
            "AND latest_heartbeat > now() - make_interval(secs => %s)",
            [kind, socket.gethostname(), FRESH],
        )
        return cursor.fetchone() is not None


def worker() -> bool:
    """Return whether the Celery worker of this host answers a ping."""
    from celery import Celery

    name = f"celery@{socket.gethostname()}"
    app = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"])
    return bool(app.control.ping(destination=[name], timeout=SECONDS))


if __name__ == "__main__":
    question, *rest = sys.argv[1:]
    sys.exit(not {"url": url, "job": job, "worker": worker}[question](*rest))
