"""The codes of decisions, as those sort them who tell people of a night."""

from __future__ import annotations

ORDINARY_HOLDS = frozenset({"IDENTICAL_SCORES", "FROZEN", "TOO_FRESH", "RETRY_WAIT", "INFERIOR"})
"""The holds of an ordinary night. Every other code means that something is wrong and is told, a new one too."""
