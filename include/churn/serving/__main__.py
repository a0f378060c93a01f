"""`python -m churn.serving`: the service under uvicorn; `WEB_CONCURRENCY` is the number of its processes."""

import os

import uvicorn

from churn.serving import HOST_VARIABLE, PORT_VARIABLE
from churn.serving.log import SERVER_LOG

SECONDS_TO_FINISH = 20
"""On SIGTERM, seconds in which requests that have begun are still answered; new ones are refused."""

if __name__ == "__main__":
    uvicorn.run(
        "churn.serving.app:create_app",
        factory=True,
        host=os.environ[HOST_VARIABLE],
        port=int(os.environ[PORT_VARIABLE]),
        access_log=False,  # the service writes its own
        log_config=SERVER_LOG,
        ws="none",
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
