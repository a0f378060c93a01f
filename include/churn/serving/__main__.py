"""`python -m churn.serving`: runs the service under uvicorn, with `WEB_CONCURRENCY` processes."""

import os

import uvicorn

from churn.serving import HOST_VARIABLE, PORT_VARIABLE
from churn.serving.log import SERVER_LOG

SECONDS_TO_FINISH = 20
"""Seconds after SIGTERM in which requests in progress are still answered; new requests are refused."""

if __name__ == "__main__":
    uvicorn.run(
        "churn.serving.app:create_app",
        factory=True,
        host=os.environ[HOST_VARIABLE],
        port=int(os.environ[PORT_VARIABLE]),
        access_log=False,  # the service writes its own access log
        log_config=SERVER_LOG,
        ws="none",
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
