"""The review's charts and pages: whole, small, named, and that no text of anybody's can harm them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
from test_card import Page

from churn.foundation.ledger import Ledger, LedgerError, read_ledger
from churn.review import svg
from churn.review.data import Data, load_batch, load_data, make_data
from churn.review.images import load_images
from churn.review.night_list import load_nights
from churn.review.nights import Comparing, load_night
from churn.review.overview import load_overview
from churn.review.pages import (
    render_batch,
    render_comparing,
    render_data,
    render_images,
    render_message,
    render_night,
    render_nights,
    render_overview,
)
from churn.review.report import write_report
from churn.review.svg import Curve, Mark, Series, Span
from support.basics import ROOT
from support.review_ledger import HOSTILE, NOW, SETTINGS, SITE, batch_hash, fill_ledger, forty_nights, night_name


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("review"))


def every_page(ledger: Ledger) -> dict[str, str]:
    """Each page of a ledger, as HTML."""
    last, before = (load_night(ledger, SETTINGS, night_name(ledger, back)) for back in (0, 4))
    batch = load_batch(ledger, SETTINGS, ledger.newest_batches(1)[0].batch)
    assert last is not None
    assert before is not None
    assert batch is not None
    return {
        "overview": render_overview(load_overview(ledger, SETTINGS, NOW), SITE),
        "nights": render_nights(load_nights(ledger, SETTINGS), SITE),
        "night": render_night(last, SITE),
        "promoted": render_night(before, SITE),
        "compare": render_comparing(Comparing(before, last), SITE),
        "data": render_data(load_data(ledger), SITE),
        "batch": render_batch(batch, SITE),
        "images": render_images(load_images(ledger, SETTINGS), SITE),
    }


# --- The charts


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter("text")]  # noqa: S314 -- our own


@pytest.mark.parametrize(
    "drawn",
    [
        svg.draw_intervals(
            "a",
            "T & <b>",
            "D",
            [Mark("one", "+1", "better", 0.1, 0.05, 0.2, -0.01), Mark("two", "too few", "untested")],
        ),
        svg.draw_series("a", "T & <b>", "D", [Series("champion", [None, (0.8, 0.7, 0.9)])], ["", "v2"]),
        svg.draw_curves("a", "T & <b>", "D", [Curve("champion", [(0, 0), (1, 1)], [0.1, 0.1])], ("x", "y")),
        svg.draw_spans("a", "T & <b>", "D", [Span(0, 1, "v1", "rollback")], ("2026-01-01", "2026-02-01")),
        svg.draw_heat("a", "T & <b>", "D", ["Age"], [["steady", "drifted"]], ("then", "now")),
        svg.draw_bars("a", "T & <b>", "D", [("rule", "12", 12, "worse"), ("none", "0", 0, "champion")]),
    ],
)
def test_a_chart_is_named_described_small_and_coloured_by_the_page(drawn: str) -> None:
    """An image with title and description; no colour, style or script of its own; some kB at most."""
    root = ET.fromstring(drawn)  # noqa: S314 -- our own
    assert root.get("role") == "img"
    assert (root.findtext("title"), root.findtext("desc")) == ("T & <b>", "D")
    assert root.get("aria-labelledby") == "a-title a-desc"
    names = {name for one in root.iter() for name in one.attrib}
    assert names & {"style", "fill", "stroke", "href", "onload"} == set()
    assert {one.tag for one in root.iter()} <= {"svg", "title", "desc", "text", "line", "circle", "path", "rect"}
    assert len(drawn) < 2500


def test_an_interval_lies_where_its_numbers_are() -> None:
    """Left of zero is left of the line; the dot is between its bounds."""
    drawn = svg.draw_intervals("a", "", "", [Mark("one", "", "worse", -0.02, -0.03, -0.01)])
    root = ET.fromstring(drawn)  # noqa: S314 -- our own

    def place(look: str, name: str) -> float:
        (one,) = (one for one in root.iter() if one.get("class") == look)
        return float(str(one.get(name)).rstrip("%"))

    assert (
        place("reach worse", "x1") < place("dot worse", "cx") < place("reach worse", "x2") < place("zero", "x1") <= 98
    )


def test_a_chart_of_one_value_or_none_is_drawn() -> None:
    """Equal values and empty nights divide by nothing."""
    assert "M" in svg.draw_series("a", "", "", [Series("champion", [(0.8, 0.8, 0.8)])], [""])
    assert texts(svg.draw_series("a", "", "", [Series("champion", [None])], [""]))
    assert svg.draw_intervals("a", "", "", [Mark("x", "", "unsure", 0.0, 0.0, 0.0)])


# --- The pages


def test_every_page_is_whole_and_says_one_thing_on_top(ledger: Ledger) -> None:
    """Elements are closed, ids are single, one heading of the first rank, tables have heads, and charts their numbers."""
    for name, html in every_page(ledger).items():
        page = Page(html)
        assert not page.open, name
        assert len(page.all("h1")) == 1, name
        ids = [one["id"] for _, one in page.elements if "id" in one]
        assert len(ids) == len(set(ids)), name
        assert html.count("<table") == html.count("<thead>"), name
        assert html.count('role="img"') <= html.count("<table") + 2, name
        assert len(html.encode()) < 100_000, name


def test_no_text_can_harm_a_page(tmp_path: Path) -> None:
    """Script, markup, 10,000 letters, turned-round letters, NUL and emoji in every name and note: shown, cut, and harmless."""
    url = f"sqlite:///{tmp_path}/hostile.db"
    fill_ledger(url, 12, HOSTILE.replace("\x00", ""))
    for name, html in every_page(read_ledger(url)).items():
        page = Page(html)
        assert not page.open, name
        assert [one.get("src") for one in page.all("script")] == ["/churn-review/page.js"], name
        assert page.all("b") == []
        assert {key for _, one in page.elements for key in one if key.startswith("on") or key == "style"} == set(), name
        assert {str(one.get("href")).split(":")[0] for one in page.all("a")} <= {
            "https",
            "#main",
            "?format=json",
            *(str(one.get("href")) for one in page.all("a") if str(one.get("href")).startswith("/churn-review/")),
        }, name
        assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", html), name
        assert "A" * 2500 not in page.text, name
        assert len(html.encode()) < 400_000, name
    page = Page(render_message(HOSTILE, [HOSTILE], SITE))
    assert not page.open
    assert page.all("b") == []


@pytest.fixture
def counted_queries(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What was asked of any database."""
    asked: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_a_page_asks_as_often_however_old_the_ledger(tmp_path: Path, counted_queries: list[str]) -> None:
    """Ten nights or three hundred: the same number of queries for every page, and none that reads a table from end to end."""
    counts: dict[int, list[int]] = {}
    for nights in (10, 300):
        url = f"sqlite:///{tmp_path}/{nights}.db"
        fill_ledger(url, nights)
        ledger = read_ledger(url)
        name, batch = night_name(ledger, 1), batch_hash(nights - 1)
        for load in (
            lambda one: load_overview(one, SETTINGS, NOW),
            lambda one: load_nights(one, SETTINGS),
            lambda one, name=name: load_night(one, SETTINGS, name),
            load_data,
            lambda one, batch=batch: load_batch(one, SETTINGS, batch),
            lambda one: load_images(one, SETTINGS),
        ):
            counted_queries.clear()
            load(ledger)
            counts.setdefault(nights, []).append(len(counted_queries))
    assert counts[10] == counts[300]
    assert max(counts[300]) <= 14


def test_a_reader_changes_nothing_and_makes_nothing(tmp_path: Path) -> None:
    """Its ledger takes no write, and a file that is not there stays so."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill_ledger(url, 2)
    with pytest.raises(LedgerError):
        read_ledger(url).add_batch("a", "a.csv", 1, NOW)
    assert read_ledger(f"sqlite:///{tmp_path}/deep/none.db").schema() is None
    assert not (tmp_path / "deep").exists()


def test_the_pages_load_nothing_heavy() -> None:
    """Airflow's API server shows them: neither models nor pictures nor data frames are imported for it."""
    from test_layers import in_fresh_interpreter

    heavy = ["mlflow", "pandas", "scipy", "sklearn", "matplotlib", "great_expectations", "duckdb", "pyarrow", "docker"]
    names = [
        path.stem for path in (ROOT / "include/churn/review").glob("*.py") if path.stem not in ("__init__", "report")
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module('churn.review.' + name)\n"
    assert in_fresh_interpreter(f"{code}print([name for name in {heavy!r} if name in sys.modules])") == "[]"


def test_data_without_batches_says_what_to_do() -> None:
    """No batch is no drift and no good news."""
    view: Data = make_data([], {}, 0, 0)
    text = Page(render_data(view, SITE)).text
    assert "No file has arrived yet." in text
    assert "trigger a night" in text


def test_a_report_is_whole_without_airflow(ledger: Ledger, tmp_path: Path) -> None:
    """Every link between its pages is a file of the folder; no script, no action; each page has its JSON."""
    found = write_report(tmp_path / "out", ledger, SETTINGS, NOW, 12)
    assert len(found) == 4 + 12 + 12
    for file in found:
        page = Page(file.read_text())
        assert page.all("script") == []
        assert page.all("form") == []
        within = [
            str(one.get("href")) for one in page.all("a") if not str(one.get("href")).startswith(("https://", "#"))
        ]
        assert [name for name in within if not (tmp_path / "out" / name).is_file()] == [], file.name
        assert isinstance(json.loads(file.with_suffix(".json").read_text()), dict)
        assert "Trigger a night" not in page.text
    assert (tmp_path / "out/style.css").is_file()
