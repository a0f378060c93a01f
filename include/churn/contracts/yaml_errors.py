"""Says in plain English, with line and column, why a text is not valid YAML."""

from __future__ import annotations

import re

import yaml

from churn.errors import shown

YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)
"""What PyYAML raises for a text that it cannot read: also for an escape of a character that does not exist, and for deep nesting."""
_MOST = 200
_TAG = re.compile(r"could not determine a constructor for the tag '(?:tag:yaml\.org,2002:)?([^']*)'")


def describe_yaml_error(error: Exception) -> str:
    """What is wrong, to follow a colon: `line 3, column 5: mapping values are not allowed here`.

    Args:
        error: one of `YAML_ERRORS`.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = error.problem or error.context or "it cannot be read"
        return where + shown(_TAG.sub(r"the tag \1 is not allowed", problem), _MOST)
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character at position {error.position + 1} is not allowed"
    return "it has an escape of a character that does not exist"
