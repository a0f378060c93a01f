"""The page of the lists: the current one in full, and no customer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from churn.foundation.ledger import Ledger
from churn.review.pages import render_scores
from churn.review.scores import Scores, load_scores, make_scores
from support.html_pages import Page
from support.review_ledger import HOSTILE, NOW, SETTINGS, SITE, fill_ledger, forty_nights


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("scores"))


def shown(ledger: Ledger, name: str | None = None, before: int | None = None) -> Scores:
    view = load_scores(ledger, SETTINGS, NOW, name, before)
    assert view is not None
    return view


def test_the_newest_list_is_shown_in_full(ledger: Ledger) -> None:
    """Counts that add up, groups, expected value against ranking by probability, reasons, drift, difference and deliveries."""
    view = shown(ledger)
    text = Page(render_scores(view, SITE)).text
    assert view.headline == "380 customers are to be contacted, and 20 are left alone for comparison."
    assert "4,003 customers arrived: 4,000 were scored and 3 quarantined" in text
    assert (
        "61,000 of all within the capacity, control group included; 60,500 for as many of the likeliest customers"
        in text
    )
    assert "12 entered the contact group, 9 left it, 388 stayed" in text
    assert "ROC AUC 0.84" in text
    assert "if the scores are calibrated for these customers" in text
    assert "NumOfProducts" in text
    assert "TreeSHAP values" in text
    assert view.shown is not None
    assert [line.column for line in view.shown.drift if line.drifted] == ["Age"]
    assert "1 of 2 have drifted" in text


def test_each_campaign_has_a_current_list(ledger: Ledger) -> None:
    """An earlier list says that it was replaced; one of a version that is no longer in production says that, too."""
    view = shown(ledger)
    current = [line for line in view.lines if line.current]
    assert {line.campaign for line in current} == {"retention", "spring"}
    earlier = next(line for line in view.lines if not line.current)
    page = Page(render_scores(shown(ledger, earlier.list_id), SITE)).text
    assert "A newer list of this campaign has replaced it." in page


@pytest.mark.parametrize("campaign", ["retention", "spring"])
def test_the_page_opens_with_the_campaign_of_the_scoring_policy(ledger: Ledger, tmp_path: Path, campaign: str) -> None:
    """Whichever campaign has the newest list; a policy that cannot be read does not take the page away."""
    file = tmp_path / "scoring_policy.yaml"
    file.write_text(SETTINGS.scoring_policy_file.read_text().replace("name: retention", f"name: {campaign}"))
    settings = SETTINGS.model_copy(update={"scoring_policy_file": file})
    view = load_scores(ledger, settings, NOW)
    assert view is not None
    assert view.shown is not None
    assert (view.shown.line.campaign, view.shown.line.current) == (campaign, True)
    file.write_text("campaign: [")
    unread = load_scores(ledger, settings, NOW)
    assert unread is not None
    assert unread.shown is not None


@pytest.mark.parametrize(
    ("later", "words"), [(0, ""), (1, "Version {} is in production now. Its list follows"), (None, "")]
)
def test_a_list_of_another_version_than_the_champion_says_so(ledger: Ledger, later: int | None, words: str) -> None:
    """`later` is how much the champion is later than the version of the list; None if nothing is in production."""
    (row,) = ledger.score_lists("churn", limit=1)
    champion = None if later is None else row.version + later
    view = make_scores([row], row, frozenset({row.list_id}), {}, champion, SETTINGS, NOW).shown
    assert view is not None
    assert view.stale.startswith(words.format(champion))
    assert bool(view.stale) == bool(words)


def test_a_failed_delivery_shows_its_reason(ledger: Ledger) -> None:
    failed = next(line for line in shown(ledger).lines if line.failed)
    text = Page(render_scores(shown(ledger, failed.list_id), SITE)).text
    assert "It does not answer." in text
    assert "***@db" in text


def test_the_lists_have_pages(ledger: Ledger) -> None:
    first = load_scores(ledger, SETTINGS, NOW, limit=30)
    assert first is not None
    assert (len(first.lines), first.first) == (30, True)
    second = load_scores(ledger, SETTINGS, NOW, before=first.older, limit=30)
    assert second is not None
    assert (len(second.lines), second.older, second.first) == (10, None, False)
    assert {line.list_id for line in first.lines}.isdisjoint(line.list_id for line in second.lines)


def test_without_a_list_the_page_says_what_to_do(tmp_path: Path) -> None:
    from churn.foundation.ledger import open_ledger

    view = shown(open_ledger(f"sqlite:///{tmp_path}/empty.db"))
    text = Page(render_scores(view, SITE)).text
    assert "No list has been published yet." in text
    assert "churn score --from-accepted" in text


def test_an_unknown_list_has_no_page(ledger: Ledger) -> None:
    assert load_scores(ledger, SETTINGS, NOW, "f" * 64) is None


def test_hostile_texts_are_shown_as_texts(tmp_path: Path) -> None:
    """A name of a file, of a person or of a column with markup, and ten thousand characters."""
    view = shown(fill_ledger(f"sqlite:///{tmp_path}/hostile.db", 12, HOSTILE))
    html = render_scores(view, SITE)
    assert "<script>alert" not in html
    assert len(html) < 100_000


def test_a_list_of_an_earlier_version_is_shown_without_what_it_lacks(ledger: Ledger) -> None:
    """Of lists that were made before reasons and differences were recorded."""
    row = ledger.score_lists("churn", limit=1)[0]
    old = replace(row, summary={"capacity": 400, "expected_value": 1.0}, published_at=NOW - timedelta(days=3))
    view = make_scores([old], old, frozenset({old.list_id}), {}, old.version, SETTINGS, NOW)
    text = Page(render_scores(view, SITE)).text
    assert "Not measured." in text
    assert "has not been delivered anywhere" in text
