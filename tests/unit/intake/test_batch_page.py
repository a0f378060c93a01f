"""The first page of a batch says what became of it, without a script."""

from pathlib import Path

from churn.intake.batch_page import INDEX, write_index
from churn.intake.validation import Judgement, Outcome
from support.small_tables import SMALL


def page(folder: Path, *outcomes: Outcome, broken: list[tuple[str, int, list[int]]] | None = None) -> str:
    write_index("ab" * 32, Judgement(outcomes), ["A sentence."], folder, SMALL, broken or [], "https://run")
    return (folder / INDEX).read_text()


def test_every_expectation_has_its_state(tmp_path: Path) -> None:
    """What failed comes first; a rule that rows broke counts them."""
    text = page(
        tmp_path,
        Outcome(("age.range",), "age: between", True, True),
        Outcome(("country.category",), "country: in set", True, True),
        Outcome(("batch.event_rate",), "rate: between", False, False),
        Outcome(("batch.rejected_share",), "share: between", False, True),
        broken=[("country.category", 3, [4, 9, 11])],
    )
    assert "rejected, 1 of 4 expectations failed" in text
    states = [row.split("</td>")[0].removeprefix("<td>") for row in text.split("<h2>Rules</h2>")[1].split("<tr>")[1:5]]
    assert states == ["FAILED", "warning", "3 rows quarantined", "holds"]
    assert 'href="https://run"' in text
    assert "<script" not in text


def test_a_rule_that_saw_no_row_was_not_judged(tmp_path: Path) -> None:
    """Without an accepted row, only the rules for what arrived have been judged."""
    text = page(
        tmp_path,
        Outcome(("batch.accepted_rows",), "accepted: between", False, True),
        Outcome(("batch.event_rate",), "rate: between", True, False),
        broken=[("age.range", 1, [2])],
    )
    assert "<td>not judged</td><td>batch.event_rate</td>" in text
    assert "<td>broken</td><td>age.range</td><td>no row was accepted</td>" in text
    assert "<td>not judged</td><td>country.category</td><td>no row was accepted</td>" in text


def test_a_file_that_could_not_be_read_has_a_page_without_rules(tmp_path: Path) -> None:
    """There was nothing to judge."""
    write_index("ab" * 32, None, ["No header."], tmp_path, SMALL, [])
    text = (tmp_path / INDEX).read_text()
    assert "the file cannot be read" in text
    assert "<h2>" not in text
