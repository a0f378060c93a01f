"""Ports for the servers of tests."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress


def free_port(below: int = 32_768) -> int:
    """Return an unused port, from a range below the one that the system assigns to clients."""
    while True:
        port = 10_240 + secrets.randbelow(below - 10_240)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
