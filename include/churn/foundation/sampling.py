"""The assignment of customers to buckets."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from churn.foundation.spread import Spread


@dataclass(frozen=True)
class Sampling:
    """The secret salt that assigns customers to buckets, and where the work of the assignment runs."""

    salt: bytes = field(repr=False)
    spread: Spread

    @property
    def fingerprint(self) -> str:
        """Identifies the salt without revealing it; 16 hex digits."""
        return hmac.new(self.salt, b"churn bucket salt", hashlib.sha256).hexdigest()[:16]
