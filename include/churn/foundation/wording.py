"""Words that several packages show to people: stored kinds of changes, and a person's words inside a text."""

from __future__ import annotations

KIND_WORDS = {
    "promotion": "promoted",
    "forced": "force-promoted",
    "rollback": "restored in a rollback",
    "take_back": "restored after an automatic rollback",
    "adopted": "adopted from MLflow",
}
"""What happened to the version that a change of production put there, by the stored kind of the change."""
REVERSALS = {"rollback": "rolled back", "take_back": "rolled back automatically"}
"""What happened to the version that was replaced, by the kinds of changes that reverse a promotion."""


def as_sentence_end(text: str) -> str:
    """A person's words with a full stop, so that another sentence may follow."""
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."
