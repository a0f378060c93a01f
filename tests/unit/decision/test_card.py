"""The review page: it holds all that was decided, loads nothing, and no text can harm it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_figures import SLICINGS, compare_both, draw_evidence, past_runs

from churn.contract import EventNames
from churn.decision.card import CardFacts, ParityRow, parity_table, render_card
from churn.decision.comparison import Comparison, Evidence, Refusal
from churn.decision.figures import draw_figures
from churn.decision.policy import decide
from churn.decision.policy_file import Policy
from churn.decision.reasons import Reason
from churn.decision.slices import Slicing
from support.basics import ROOT
from support.html_pages import Page

POLICY = Policy.read((ROOT / "include/churn/promotion_policy.yaml").read_text(), "promotion_policy.yaml")
HOSTILE = "<script>alert(1)</script>\" onload='x' <b> \x00\ud800 \u202egnp.exe 🧨👩‍👩‍👧 مرحبا " + "A" * 10_000


def make_facts(evidence: Evidence | None = None, comparison: Comparison | None = None, **changes: Any) -> CardFacts:
    evidence = evidence or draw_evidence()
    comparison = comparison or compare_both(evidence)
    decision = decide(comparison, POLICY)
    facts = CardFacts(
        title="nightly 2026-03-01",
        model="churn",
        verdict=decision.verdict,
        code=decision.code,
        sentence=decision.sentence,
        rules=decision.rules_as_dicts(),
        watch=decision.watch_as_dicts(),
        comparison=comparison,
        figures=draw_figures(comparison, evidence, past_runs()),
        parity=parity_table(evidence, SLICINGS, 0.2),
        links={"Comparison in MLflow": "http://localhost:5005/#/experiments/1/runs/2"},
        facts={"Snapshot": "5e5e5e5e5e5e", "Policy": "0123456789ab"},
        note=None,
    )
    return replace(facts, **changes)


@pytest.fixture(scope="module")
def facts() -> CardFacts:
    return make_facts()


def test_the_page_holds_the_whole_decision(facts: CardFacts) -> None:
    """Verdict, reason, every rule's sentence, every group and every fact can be read."""
    page = Page(render_card(facts))
    words = [
        facts.code,
        facts.sentence,
        *facts.facts.values(),
        *(rule["sentence"] for rule in (*facts.rules, *facts.watch)),
    ]
    words += [item.name for item in facts.comparison.slices]
    assert [word for word in words if word not in page.text] == []
    assert re.search(r"Promote: version 12 replaces champion 11|Hold: version 12 is not promoted", page.text)
    assert not page.open
    assert len(page.all("h1")) == 1


def test_a_hold_says_hold_in_words() -> None:
    """The verdict does not hang on a colour."""
    worse = draw_evidence()
    worse = replace(worse, challenger=worse.champion, champion=worse.challenger)
    assert "Hold: version 12 is not promoted" in Page(render_card(make_facts(worse))).text


def test_failures_stand_first(facts: CardFacts) -> None:
    """Rules that failed come before those that passed, in their own order."""
    rules = [{**rule, "passed": at % 3 != 0, "sentence": f"Sentence {at}."} for at, rule in enumerate(facts.rules)]
    text = Page(render_card(replace(facts, rules=rules))).text
    places = [text.index(rule["sentence"]) for rule in sorted(rules, key=lambda rule: rule["passed"])]
    assert places == sorted(places)


def test_a_failing_champion_is_said_at_the_top(facts: CardFacts) -> None:
    """What the champion itself fails stands before the metrics."""
    watch = [{**facts.watch[0], "passed": False, "sentence": "It is below the floor."}]
    text = Page(render_card(replace(facts, watch=watch))).text
    assert text.index("needs attention") < text.index("It is below the floor.") < text.index("Both models on the same")
    assert "needs attention" not in Page(render_card(facts)).text


def test_small_groups_are_said_to_be_small(facts: CardFacts) -> None:
    """A group that could not be tested is in the table and among the limits, and its p is not made up."""
    [small] = [item for item in facts.comparison.slices if item.p is None]
    text = " ".join(Page(render_card(facts)).text.split())
    assert re.search(rf"{small.name} ?{small.rows} ?{small.events} too few customers", text)
    assert f"Not tested, because of too few customers: Age {small.name} ({small.rows})" in text


def test_nothing_is_loaded_and_nothing_runs(facts: CardFacts) -> None:
    """No script, no handler, no resource from elsewhere, and a policy that forbids them."""
    html = render_card(facts)
    page = Page(html)
    assert {tag for tag, _ in page.elements} & {"script", "img", "link", "iframe", "object", "embed", "image"} == set()
    attributes = [
        (tag, name, value or "")
        for tag, attributes_of_tag in page.elements
        for name, value in attributes_of_tag.items()
    ]
    assert [item for item in attributes if item[1].startswith("on")] == []
    assert {tag for tag, _, value in attributes if re.search(r"https?:|//", value)} == {"a"}
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert any("default-src 'none'" in (item.get("content") or "") for item in page.all("meta"))


def test_every_chart_of_the_page_has_its_own_ids(facts: CardFacts) -> None:
    """Charts share a page: no id appears twice, and every label refers to one."""
    html = render_card(facts)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    labels = [name for names in re.findall(r'aria-labelledby="([^"]+)"', html) for name in names.split()]
    assert labels
    assert set(labels) <= set(ids)


def test_charts_have_a_title_and_the_colours_of_the_page(facts: CardFacts) -> None:
    """Each figure is an image with a title, without colours of its own."""
    page = Page(render_card(facts))
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(charts) == len(page.all("figure")) == len(facts.figures)
    assert len(page.all("title")) == 1 + len(charts)
    assert not any({"fill", "stroke", "style"} & set(svg) for svg in page.all("svg"))


def test_the_same_facts_give_the_same_page() -> None:
    """Neither the time nor an earlier rendering leaves a trace."""
    assert render_card(make_facts()) == render_card(make_facts())
    facts = make_facts()
    assert render_card(facts) == render_card(facts)


@pytest.mark.parametrize("where", ["title", "model", "sentence", "note", "code"])
def test_hostile_text_is_text(where: str, facts: CardFacts) -> None:
    """A name or note full of HTML makes no element, and nothing that a page may not hold gets through."""
    html = render_card(replace(facts, figures={}, **{where: HOSTILE}))
    plain = Page(render_card(replace(facts, figures={}, **{where: "plain"})))
    assert [tag for tag, _ in Page(html).elements] == [tag for tag, _ in plain.elements]
    assert not re.search(r"[\x00\ud800\u202e]", html)
    html.encode()


def test_hostile_facts_and_rules_are_text(facts: CardFacts) -> None:
    """The same for what comes in lists; a link that is none to the web is no link."""
    rules = [{**facts.rules[0], "name": HOSTILE, "sentence": HOSTILE}]
    links = {HOSTILE: "javascript:alert(1)", "broken": "http://[", "fine": 'https://x.example/"><script>'}
    html = render_card(replace(facts, rules=rules, watch=rules, links=links, facts={HOSTILE: HOSTILE}))
    page = Page(html)
    assert not page.all("script")
    assert [item["href"] for item in page.all("a") if "rel" in item] == ['https://x.example/"><script>']


def test_a_refused_comparison_says_why_and_shows_no_numbers() -> None:
    """Nothing measured: the reason instead of a table, and no parity of scores that were refused."""
    evidence = draw_evidence()
    refused = compare_both(evidence, refusal=Refusal(Reason.INPUT_MISMATCH, "another salt was used."))
    text = Page(render_card(make_facts(evidence, refused))).text
    assert "Nothing was measured: another salt was used." in text
    assert "Not tested in this run." in text
    assert "Parity between slices" not in text


def test_without_a_champion_the_page_speaks_of_one_model() -> None:
    """The first version: intervals of its own metrics, no column of a champion."""
    evidence = draw_evidence(champion=False, anchor=False)
    page = Page(render_card(make_facts(evidence)))
    assert "There is no champion yet." in page.text
    assert "Champion v" not in page.text
    assert "Difference" not in page.text


def test_parity_is_counted_on_the_rows_that_decide() -> None:
    """By hand: four customers in one group, one in the other, and one that does not count."""
    evidence = Evidence(
        customers=np.arange(6, dtype=np.uint64),
        labels=np.array([1, 1, 1, 0, 0, 0]),
        batches=np.zeros(6, np.int64),
        codes={"Gender": np.array([0, 0, 0, 0, 0, 1], np.int8), "Geography": np.zeros(6, np.int8)},
        used=np.array([False, True, True, True, True, True]),
        current=np.ones(6, bool),
        undisputed=np.ones(6, bool),
        challenger=np.array([0.8, 0.9, 0.3, 0.5, 0.1, 0.2]),
        champion=None,
        anchor=None,
    )
    sliced = (Slicing("Geography", ("France",)), Slicing("Gender", ("Female", "Male", "Other"), parity=True))
    first, second, third = parity_table(evidence, sliced, 0.4)
    assert first == ParityRow("Gender", "Female", "challenger", 4, 0.5, pytest.approx(0.45), 0.5, 0.5, 0.5)
    assert second == ParityRow("Gender", "Male", "challenger", 1, 0.0, pytest.approx(0.2), 0.0, None, None)
    assert third == ParityRow("Gender", "Other", "challenger", 0, None, None, None, None, None)


def test_parity_has_both_models_side_by_side(facts: CardFacts) -> None:
    """Each group has a line for each model that was scored, and each is on the page."""
    assert {(item.column, item.group, item.model) for item in facts.parity} == {
        (item.column, group, model)
        for item in SLICINGS
        if item.parity
        for group in item.names
        for model in ("challenger", "champion")
    }
    text = Page(render_card(facts)).text
    assert all(f"{100 * item.predicted:.1f}%" in text for item in facts.parity)


def test_the_page_calls_the_event_as_the_contract_does() -> None:
    """In tables, captions and axes; nothing speaks of leaving where customers cancel."""
    names = EventNames("cancelled", "renewed")
    evidence = draw_evidence()
    comparison = compare_both(evidence)
    figures = draw_figures(comparison, evidence, [], names=names)
    html = render_card(make_facts(evidence, comparison, names=names, figures=figures))
    text = Page(html).text.partition("Model churn, run")[2]
    assert "observed share that cancelled" in text
    assert "Customers that renewed" in text
    assert "how many of the flagged customers cancelled" in text
    assert not re.search(r"\b(left|stayed|leave|churned)\b", text.replace("upper left", ""))
