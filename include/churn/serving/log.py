"""The log of the service: lines of JSON on standard output, about requests and from the server itself."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


def log_request(**facts: Any) -> None:
    """Write a line about a request: counts, times and rule names, never a value."""
    sys.stdout.write(_line(datetime.now(UTC), facts))


class JsonLines(logging.Formatter):
    """Formats the messages of the server like the access log; of an error, only the type is logged."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        failed = {"failed": record.exc_info[0].__name__} if record.exc_info and record.exc_info[0] else {}
        at = datetime.fromtimestamp(record.created, UTC)
        return _line(at, {"level": record.levelname, "message": record.getMessage(), **failed}).rstrip()


SERVER_LOG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": "churn.serving.log.JsonLines"}},  # by name, because each process creates its own
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stdout"}},
    "loggers": {"uvicorn": {"handlers": ["out"], "level": "WARNING", "propagate": False}},
}
"""Configuration of the server's own loggers, for `logging.config.dictConfig`."""


def _line(at: datetime, facts: dict[str, Any]) -> str:
    return json.dumps({"at": at.isoformat(timespec="milliseconds"), **facts}) + "\n"
