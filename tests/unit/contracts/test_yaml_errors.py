"""Why a text is not valid YAML is said in plain English, with line and column."""

from __future__ import annotations

import pytest
import yaml

from churn.contracts.yaml_errors import YAML_ERRORS, describe_yaml_error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        (
            "a: 1\nb: !!python/object/apply:os.system [x]",
            "line 2, column 4: the tag python/object/apply:os.system is not allowed",
        ),
        ("a: !mine x", "line 1, column 4: the tag !mine is not allowed"),
        ("a: \0", "the character at position 4 is not allowed"),
        ('a: "\\UFFFFFFFF"', "it has an escape of a character that does not exist"),
        ("[" * 2000, "it is nested too deeply"),
    ],
)
def test_the_fault_is_described(text: str, words: str) -> None:
    with pytest.raises(YAML_ERRORS) as caught:
        yaml.safe_load(text)
    assert describe_yaml_error(caught.value) == words
