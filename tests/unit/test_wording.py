"""The phrases that used to make readers stumble do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.basics import ROOT

BANNED = {
    r"\bis away\b|\bare away\b|\bwas away\b": "is unavailable",
    r"cannot be had|could not be had": "cannot be downloaded, is unavailable",
    r"\bso many (of|past|days|nights)\b": "number of",
    r"\b(is|are) told (of|by)\b|\bpeople are told\b": "is notified, alerts are sent",
    r"\bheld? against\b|\bholds .{1,30} against\b": "compare with, check against",
    r"\bby hand\b": "manually",
    r"\bstands? twice\b|\bstands (in|there)\b": "appears twice, is in",
    r"\bnobody('s)? (needs|answer|can|said)\b": "no longer needed; if nobody answers; was not approved",
    r"\bwho ?ever\b": "the person who, anyone who",
    r"\b(took|taken|take) in (before|by)\b|\btakes in\b": "accept, ingest",
    r"\bthe cure\b|\bthe way out\b|\ba word of\b": "the fix, the next step, a message from",
    r"\b(figures?|numbers) seen\b": "measured",
    r"\bnot there at all\b": "is missing",
    r"\bmade? (it )?again\b": "reproduce, rebuild",
    r"\bmade up for\b": "retried, run later, backfilled",
    r"\bit is said\b": "reports, shows",
    r"(?<!there )\b(is|are) no (?!longer|more|less|need|better|worse|different)\w": "is not a, are not",
    r"\bis in production since\b": "has been in production since",
    r"\bthe way back\b": "rollback, the previous version",
    r"\bembedded (mode|Airflow|MLflow)\b": "local",
    r"\bthe anchor\b": "the baseline version",
    r"\bset aside\b.{0,12}\brows\b|\brows (that were |are |were )?set aside\b|\b(the|what is|all) set aside\b": "quarantined rows",
    r"[0-9](&nbsp;|\s)%(?=\s+(interval|of)\b|[.,;)<]|$)": "95% (without a blank)",
    r"\bgoes in the end\b|\basks for nobody\b": "(reorder the sentence)",
}
PROSE = [
    *(ROOT / "include").rglob("*.html"),
    *(ROOT / "include").rglob("*.j2"),
    *(ROOT / "docs/pages").rglob("*.md"),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / ".env.example",
    ROOT / "docker-compose.yaml",
    ROOT / "CHANGELOG.md",
    ROOT / "include/notifications.example.yaml",
    ROOT / "include/churn/promotion_policy.yaml",
    ROOT / "data/README.md",
    ROOT / "Makefile",
    *(ROOT / "include/stack").glob("*.sh"),
    *(ROOT / "include").rglob("static/*.js"),
    *(file for file in (ROOT / ".github").rglob("*") if file.is_file()),
]
CODE = [
    file for folder in ("include", "dags", "plugins", "benchmarks", "docs") for file in (ROOT / folder).rglob("*.py")
]


def texts(file: Path) -> Iterator[str]:
    """The prose of a file: every paragraph of a text, every string and comment of a program, each on one line."""
    source = file.read_text()
    if file.suffix != ".py":
        yield from paragraphs(source)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
    yield from paragraphs("\n".join(line if line.lstrip().startswith("#") else "" for line in source.splitlines()))


def paragraphs(source: str) -> Iterator[str]:
    """Join lines up to the next blank one, without the marks of comments, so that a wrapped phrase is found."""
    lines = [re.sub(r"^\s*(#+|//|\*)?\s*", "", line) for line in source.splitlines()]
    yield from (" ".join(block.split()) for block in "\n".join(lines).split("\n\n") if block.strip())


@pytest.mark.parametrize("file", sorted({*PROSE, *CODE}), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_phrase_needs_a_second_reading(file: Path) -> None:
    """Pages, errors, help texts, docstrings and documentation use none of the phrases above."""
    matches = [
        f"{match.group(0)!r} in {text[max(match.start() - 60, 0) : match.end() + 30]!r}: write {better}"
        for text in texts(file)
        for phrase, better in BANNED.items()
        if (match := re.search(phrase, text, re.IGNORECASE))
    ]
    assert matches == []


@pytest.mark.parametrize(
    "text",
    [
        "MLflow is away.",
        "for whoever asks",
        "So it stands twice.",
        "Move it by hand.",
        "an anchor is the anchor",
        "95 % interval",
        "Whoever asks",
        "By hand or not",
        "Here is the cure.",
        "This is the way out.",
        "a word of MLflow",
        "It stands there.",
        "x.csv is no file",
        "they are no numbers",
        "MLflow takes in a version",
        "the figures seen so far",
        "nobody said yes",
        "all set aside",
        "It is not there at all.",
        "# Move it by\n# hand.",
    ],
)
def test_a_phrase_is_found(text: str) -> None:
    """The list catches what it is for, in upper case and across lines too."""
    assert any(re.search(phrase, line, re.IGNORECASE) for phrase in BANNED for line in paragraphs(text))
