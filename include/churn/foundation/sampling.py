"""The assignment of customers to buckets."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """The secret salt that assigns customers to buckets, and the memory limit of the assignment, such as `1GB`."""

    salt: bytes
    memory_limit: str

    @property
    def fingerprint(self) -> str:
        """Identifies the salt without revealing it; 16 hex digits."""
        return hmac.new(self.salt, b"churn bucket salt", hashlib.sha256).hexdigest()[:16]
