"""Says in plain English what is wrong with a value that pydantic refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBER, _WHOLE_NUMBER, _MAPPING, _TIME = (
    "must be a number",
    "must be a whole number",
    "must be a mapping of names to values",
    "must be a time, such as 2026-01-31T02:00:00Z",
)
_SENTENCES = {
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "string_pattern_mismatch": "does not have the required form",
    "string_too_long": "is longer than {max_length} characters",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "finite_number": "must be a finite number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "int_type": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
}


def describe_fault(fault: Mapping[str, Any]) -> str:
    """What is wrong, to follow the name of the value: "is missing".

    Args:
        fault: one of `ValidationError.errors()`.
    """
    sentence = _SENTENCES.get(fault["type"])
    if sentence is not None:
        return sentence.format_map(fault.get("ctx") or {})
    message = str(fault["msg"]).removeprefix("Value error, ").removesuffix(".")
    return message if message.startswith("must ") else f"is invalid ({message[:1].lower()}{message[1:]})"
