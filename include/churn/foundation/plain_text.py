"""Removes characters from texts that could harm a page or a picture."""

from __future__ import annotations

import re

_HARMFUL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def clean(text: str) -> str:
    """Replace characters that no page may contain, and those that reverse the direction of text."""
    return _HARMFUL.sub("�", text)
