"""The assignment of customers to buckets."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """The secret salt that assigns customers to buckets, and the memory that this may use, such as `1GB`."""

    salt: bytes
    memory_limit: str

    @property
    def fingerprint(self) -> str:
        """Distinguishes two salts without revealing either; 16 hex digits."""
        return hmac.new(self.salt, b"churn bucket salt", hashlib.sha256).hexdigest()[:16]
