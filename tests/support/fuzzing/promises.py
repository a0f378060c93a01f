"""What every message promises, whoever writes it."""

from __future__ import annotations

import unicodedata

from support.fuzzing.cases import Defect

CANARY = "zqCanary"
"""Put into cells as the value of a customer: no message, log or page may repeat it."""
LONGEST_MESSAGE = 4000
_INTERNALS = (
    "Traceback (most recent",
    'File "',
    "<class '",
    " object at 0x",
    "duckdb.",
    "pyarrow.",
    "yaml.",
    "pydantic",
    "KeyError",
    "ValueError",
    "TypeError",
    "IndexError",
    "AttributeError",
    "AssertionError",
    "RecursionError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "OverflowError",
    "MemoryError",
)


def require_plain(message: str, *, secret: bool = True) -> None:
    """Check that a message is a few sentences in plain words: short, printable, without the words of a library or a customer's value.

    Args:
        message: what a person reads.
        secret: whether cells of the case were marked with the canary.
    """
    if not message.strip():
        raise Defect("A message is empty")
    if len(message) > LONGEST_MESSAGE:
        raise Defect(f"A message is too long: {len(message)} characters, {message[:300]}")
    odd = [letter for letter in message if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
    if odd:
        raise Defect(
            f"A message has characters that cannot be shown or stored: {sorted(set(odd))[:5]!r} in {message[:300]!a}"
        )
    for words in _INTERNALS:
        if words in message:
            raise Defect(f"A message has words of the program: {words} in {message[:500]}")
    if secret and CANARY.lower() in message.lower():
        raise Defect(f"A message repeats a value: {message[:500]}")
