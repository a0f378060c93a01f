"""The review's charts and pages: valid, small, labelled, short, and safe whatever texts they show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa

from churn.contract import EventNames
from churn.foundation import svg
from churn.foundation.ledger import Ledger, LedgerError, read_ledger
from churn.foundation.svg import Curve, Mark, Series, Span
from churn.review.changes import Change, group_changes
from churn.review.data import Data, load_batch, load_data, make_data
from churn.review.images import load_images
from churn.review.night_list import load_nights
from churn.review.nights import ComparedRuns, Night, load_night
from churn.review.outcomes import load_outcomes
from churn.review.overview import Pending, load_overview
from churn.review.pages import (
    render_batch,
    render_compared_runs,
    render_data,
    render_images,
    render_message,
    render_night,
    render_nights,
    render_outcomes,
    render_overview,
    render_scores,
    render_undecided,
)
from churn.review.report import write_report
from churn.review.scores import Scores, load_scores
from churn.review.undecided import Failure, Undecided
from support.basics import ROOT
from support.html_pages import Page
from support.review_ledger import HOSTILE, NOW, SETTINGS, SITE, batch_hash, fill_ledger, forty_nights, night_name

MOST_ROWS = 20


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return forty_nights(tmp_path_factory.mktemp("review"))


def every_page(ledger: Ledger) -> dict[str, str]:
    """Render each page of a ledger as HTML."""
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
        "compare": render_compared_runs(ComparedRuns(before, last), SITE),
        "data": render_data(load_data(ledger), SITE),
        "batch": render_batch(batch, SITE),
        "images": render_images(load_images(ledger, SETTINGS), SITE),
        "scores": render_scores(lists_of(ledger), SITE),
        "outcomes": render_outcomes(load_outcomes(ledger, SETTINGS, NOW), SITE),
    }


def lists_of(ledger: Ledger, name: str | None = None, before: int | None = None) -> Scores:
    view = load_scores(ledger, SETTINGS, NOW, name, before)
    assert view is not None
    return view


# --- The charts


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(chart).iter("text")]  # noqa: S314 -- our own


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
def test_a_chart_is_accessible_small_and_coloured_by_the_page(drawn: str) -> None:
    """An image with title and description, without a colour, style or script of its own, of a few kB."""
    root = ET.fromstring(drawn)  # noqa: S314 -- our own
    assert root.get("role") == "img"
    assert (root.findtext("title"), root.findtext("desc")) == ("T & <b>", "D")
    assert root.get("aria-labelledby") == "a-title a-desc"
    names = {name for element in root.iter() for name in element.attrib}
    assert names & {"style", "fill", "stroke", "href", "onload"} == set()
    assert {element.tag for element in root.iter()} <= {
        "svg",
        "title",
        "desc",
        "text",
        "line",
        "circle",
        "path",
        "rect",
    }
    assert len(drawn) < 2500


def test_an_interval_is_drawn_at_its_values() -> None:
    """A negative interval is left of the line at zero; the dot is between its bounds."""
    drawn = svg.draw_intervals("a", "", "", [Mark("one", "", "worse", -0.02, -0.03, -0.01)])
    root = ET.fromstring(drawn)  # noqa: S314 -- our own

    def place(look: str, name: str) -> float:
        (shape,) = (shape for shape in root.iter() if shape.get("class") == look)
        return float(str(shape.get(name)).rstrip("%"))

    assert (
        place("reach worse", "x1") < place("dot worse", "cx") < place("reach worse", "x2") < place("zero", "x1") <= 98
    )


def test_a_chart_of_one_value_or_of_none_is_drawn() -> None:
    """Equal values and runs without a value do not divide by zero."""
    assert "M" in svg.draw_series("a", "", "", [Series("champion", [(0.8, 0.8, 0.8)])], [""])
    assert texts(svg.draw_series("a", "", "", [Series("champion", [None])], [""]))
    assert svg.draw_intervals("a", "", "", [Mark("x", "", "unsure", 0.0, 0.0, 0.0)])


# --- The pages


def test_every_page_is_valid_and_has_one_headline(ledger: Ledger) -> None:
    """Elements are closed, ids are unique, there is one h1, tables have heads, and charts have tables with their numbers."""
    for name, html in every_page(ledger).items():
        page = Page(html)
        assert not page.open, name
        assert len(page.all("h1")) == 1, name
        ids = [element["id"] for _, element in page.elements if "id" in element]
        assert len(ids) == len(set(ids)), name
        assert html.count("<table") == html.count("<thead>"), name
        assert html.count('role="img"') <= html.count("<table") + 2, name
        assert len(html.encode()) < 100_000, name


def test_no_text_can_harm_a_page(tmp_path: Path) -> None:
    """Script, markup, 10,000 letters, bidirectional overrides, NUL and emoji in every name and note are cut and harmless."""
    url = f"sqlite:///{tmp_path}/hostile.db"
    fill_ledger(url, 12, HOSTILE.replace("\x00", ""))
    for name, html in every_page(read_ledger(url)).items():
        page = Page(html)
        assert not page.open, name
        assert [element.get("src") for element in page.all("script")] == ["/churn-review/page.js"], name
        assert page.all("b") == []
        assert {
            key for _, element in page.elements for key in element if key.startswith("on") or key == "style"
        } == set(), name
        assert {str(element.get("href")).split(":")[0] for element in page.all("a")} <= {
            "https",
            "#main",
            "?format=json",
            *(
                str(element.get("href"))
                for element in page.all("a")
                if str(element.get("href")).startswith("/churn-review/")
            ),
        }, name
        assert not re.search("[\x00-\x08\u202a-\u202e\u2066-\u2069]", html), name
        assert "A" * 2500 not in page.text, name
        assert len(html.encode()) < 400_000, name
    page = Page(render_message(HOSTILE, [HOSTILE], SITE))
    assert not page.open
    assert page.all("b") == []


def test_every_page_names_the_model_and_the_event_as_the_contract_calls_it(ledger: Ledger) -> None:
    """The model is in the heading and in the title; a telephone customer cancels, and does not leave."""
    site = replace(SITE, model="subscribers", names=EventNames("cancelled", "renewed"))
    night = load_night(ledger, SETTINGS, night_name(ledger, 0))
    assert night is not None
    pages = [
        render_overview(load_overview(ledger, SETTINGS, NOW), site),
        render_night(night, site),
        render_data(load_data(ledger), site),
        render_message("Nothing", ["to see"], site),
    ]
    for html in pages:
        assert "Model <bdi>subscribers</bdi>" in html
        assert "· subscribers review</title>" in html
    assert 'class="n">Cancelled</th>' in pages[1]
    assert "Flagged of those that renewed" in pages[1]
    assert not re.search(r">Left<|[Ll]eavers|[Ss]tayers", pages[1])


@pytest.fixture
def counted_queries(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The statements sent to any database."""
    statements: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_the_number_of_queries_does_not_grow_with_the_ledger(tmp_path: Path, counted_queries: list[str]) -> None:
    """Every page needs as many queries after 300 runs as after 10."""
    counts: dict[int, list[int]] = {}
    for nights in (10, 300):
        url = f"sqlite:///{tmp_path}/{nights}.db"
        fill_ledger(url, nights)
        ledger = read_ledger(url)
        name, batch = night_name(ledger, 1), batch_hash(nights - 1)
        for load in (
            lambda ledger: load_overview(ledger, SETTINGS, NOW),
            lambda ledger: load_nights(ledger, SETTINGS),
            lambda ledger, name=name: load_night(ledger, SETTINGS, name),
            load_data,
            lambda ledger, batch=batch: load_batch(ledger, SETTINGS, batch),
            lambda ledger: load_images(ledger, SETTINGS),
            lists_of,
            lambda ledger: load_outcomes(ledger, SETTINGS, NOW),
        ):
            counted_queries.clear()
            load(ledger)
            counts.setdefault(nights, []).append(len(counted_queries))
    assert counts[10] == counts[300]
    assert max(counts[300]) <= 15


def test_a_reader_neither_changes_nor_creates_a_ledger(tmp_path: Path) -> None:
    """A write is refused, and a missing file is not created."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    fill_ledger(url, 2)
    with pytest.raises(LedgerError):
        read_ledger(url).add_batch("a", "a.csv", 1, NOW)
    assert read_ledger(f"sqlite:///{tmp_path}/deep/none.db").schema() is None
    assert not (tmp_path / "deep").exists()


def test_the_pages_import_nothing_heavy() -> None:
    """Airflow's API server shows the pages, and must not load libraries for models, figures or data frames."""
    from support.basics import in_fresh_interpreter

    heavy = ["mlflow", "pandas", "scipy", "sklearn", "matplotlib", "great_expectations", "duckdb", "pyarrow", "docker"]
    names = [
        path.stem for path in (ROOT / "include/churn/review").glob("*.py") if path.stem not in ("__init__", "report")
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module('churn.review.' + name)\n"
    assert in_fresh_interpreter(f"{code}print([name for name in {heavy!r} if name in sys.modules])") == "[]"


def test_data_without_batches_shows_the_next_step() -> None:
    """The page has neither drift nor batches, and says what to do."""
    view: Data = make_data([], {}, 0, 0)
    text = Page(render_data(view, SITE)).text
    assert "No file has arrived yet." in text
    assert "trigger a run" in text


def test_a_report_works_without_airflow(ledger: Ledger, tmp_path: Path) -> None:
    """Every link between its pages leads to a file of the folder. There are no scripts and actions; each page has its JSON."""
    files = write_report(tmp_path / "out", ledger, SETTINGS, NOW, 12)
    assert len(files) == 6 + 12 + 12
    for file in files:
        page = Page(file.read_text())
        assert page.all("script") == []
        assert page.all("form") == []
        within = [
            str(link.get("href")) for link in page.all("a") if not str(link.get("href")).startswith(("https://", "#"))
        ]
        assert [name for name in within if not (tmp_path / "out" / name).is_file()] == [], file.name
        assert isinstance(json.loads(file.with_suffix(".json").read_text()), dict)
        assert "Trigger a run" not in page.text
    assert (tmp_path / "out/style.css").is_file()


# --- The length of the pages


def another_kind(view: Night, shared: int, only_challenger: int, only_champion: int) -> Night:
    """A run whose versions are of different kinds, as scikit-learn lists their parameters: all of them."""
    changes = [
        *(Change("parameter", f"both__{number}", "1", "2") for number in range(shared)),
        *(Change("parameter", f"new__{number}", "none", "2") for number in range(only_challenger)),
        *(Change("parameter", f"old__{number}", "1", "none") for number in range(only_champion)),
        Change("parameter", "kind", "smooth", "boosted"),
        Change("features", "features", "none", "Tenure"),
        Change("data", "snapshot", "aaa", "bbb"),
        Change("code", "version and commit", "1", "2"),
    ]
    return replace(view, changes=changes)


def test_changes_are_grouped_by_what_a_reviewer_asks_first(ledger: Ledger) -> None:
    """Data, features, kind of model, code and shared parameters are shown; parameters of one version only are folded."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    view = another_kind(view, 2, 180, 170)
    groups = group_changes(view.changes)
    names = [change.name for change in groups.shared]
    assert names == ["snapshot", "features", "kind", "version and commit", "both__0", "both__1"]
    assert (len(groups.only_challenger), len(groups.only_champion)) == (180, 170)
    html = render_night(view, SITE)
    visible = Page(re.sub(r"<details\b.*?</details>", "", html, flags=re.DOTALL)).text
    assert "both__1" in visible
    assert "new__" not in visible
    assert "old__" not in visible
    text = Page(html).text
    assert "Only in the challenger (180)" in text
    assert "Only in the champion (170)" in text
    assert [change.name for change in view.changes if change.name not in text] == []


def test_the_json_of_a_run_lists_all_changes_in_one_list(ledger: Ledger) -> None:
    """Grouping and folding concern the page only."""
    view = load_night(ledger, SETTINGS, night_name(ledger))
    assert view is not None
    written = asdict(another_kind(view, 30, 180, 170))["changes"]
    assert len(written) == 30 + 180 + 170 + 4
    assert {tuple(change) for change in written} == {("kind", "name", "champion", "challenger")}


def long_pages(ledger: Ledger) -> dict[str, tuple[str, int]]:
    """Each page with a list or more of 45 rows, and how many of these lists it has."""
    run, batch = load_night(ledger, SETTINGS, night_name(ledger)), load_batch(ledger, SETTINGS, batch_hash(39))
    assert run is not None
    assert batch is not None
    batches = [replace(run.batches[0], batch=batch_hash(number)) for number in range(45)]
    rules = [replace(run.rules[0], name=f"rule_{number}", passed=False) for number in range(45)]
    slices = [replace(run.slices[0], name=f"slice {number}") for number in range(45)]
    run = replace(another_kind(run, 41, 3, 3), batches=batches, rules=rules, slices=slices)
    undecided = Undecided("n", "h", "s", [Failure(f"Task {number}", "Why.", NOW) for number in range(45)], batches, [])
    reasons = [replace(batch.line.reasons[0], rule=f"rule_{number}") for number in range(45)]
    line = replace(batch.line, reasons=reasons, warnings=["A warning."] * 45)
    batch = replace(batch, line=line, drift=[replace(batch.drift[0], column=f"c{number}") for number in range(45)])
    nights, images = load_nights(ledger, SETTINGS, limit=40), load_images(ledger, SETTINGS)
    nights = replace(nights, lines=[*nights.lines, *(replace(nights.lines[-1], night=f"n{at}") for at in range(5))])
    images = replace(images, lines=[replace(images.lines[0], version=number) for number in range(45)])
    data = load_data(ledger, limit=40)
    assert data.heat is not None
    heat = replace(data.heat, columns=[f"c{number}" for number in range(45)])
    heat = replace(heat, **{name: [getattr(heat, name)[0]] * 45 for name in ("values", "bounds", "drifted")})
    data = replace(data, lines=[*data.lines, *data.lines[:5]], heat=heat)
    overview = load_overview(ledger, SETTINGS, NOW)
    pending = [Pending(f"n{number}", 1, "Why.", NOW, "https://x.example") for number in range(45)]
    return {
        "overview": (render_overview(replace(overview, pending=pending), SITE), 1),
        "nights": (render_nights(nights, SITE), 1),
        "run": (render_night(run, SITE), 5),
        "undecided": (render_undecided(undecided, SITE), 3),
        "data": (render_data(data, SITE), 2),
        "batch": (render_batch(batch, SITE), 3),
        "images": (render_images(images, SITE), 1),
    }


def test_no_list_shows_more_than_twenty_rows(ledger: Ledger) -> None:
    """Longer lists show 20 rows and fold the others, so that nothing is missing on paper and in searches."""
    for name, (html, lists) in long_pages(ledger).items():
        page = Page(html)
        assert not page.open, name
        assert max(page.lists) == MOST_ROWS, name
        assert page.lists.count(MOST_ROWS) >= lists, name
        assert page.text.count("Show 25 more") == lists, name
        assert page.folded >= 25 * lists, name
        ids = [element["id"] for _, element in page.elements if "id" in element]
        assert len(ids) == len(set(ids)), name


def test_short_lists_are_not_folded(ledger: Ledger) -> None:
    """A page of the review within Airflow has at most 20 rows of each list, and pages on."""
    for name, html in every_page(ledger).items():
        page = Page(html)
        assert max(page.lists) <= MOST_ROWS, name
        assert not re.search(r"Show \d+ more", page.text), name
    assert len(load_nights(ledger, SETTINGS).lines) == len(load_data(ledger).lines) == MOST_ROWS


def test_only_one_run_is_preselected_on_each_side(ledger: Ledger) -> None:
    """Also if some of the runs are folded."""
    html = render_nights(load_nights(ledger, SETTINGS, limit=40), SITE)
    chosen = [radio.get("name") for radio in Page(html).all("input") if "checked" in radio]
    assert sorted(map(str, chosen)) == ["left", "right"]


def test_pages_call_one_execution_of_the_dag_a_run(ledger: Ledger) -> None:
    """In titles and in the navigation; addresses and JSON keep the names that they have."""
    pages = every_page(ledger)
    name = night_name(ledger)
    assert "<title>Nightly runs " in pages["nights"]
    assert f"<title>Run {name[:20]}" in pages["night"].replace("&#43;", "+")
    for html in pages.values():
        assert ">Nightly runs</a>" in html
        assert 'href="/churn-review/nights"' in html
    assert "/churn-review/night?name=" in pages["nights"]
    assert {"lines", "older", "total", "first", "left"} == set(asdict(load_nights(ledger, SETTINGS)))


def test_print_opens_tables_and_leaves_one_sided_parameters_folded() -> None:
    """Parameters of one version alone would fill ten printed pages."""
    style = (ROOT / "include/churn/review/templates/style.css").read_text()
    assert "details:not(.one-sided)::details-content" in style
    macros = (ROOT / "include/churn/review/templates/macros.html").read_text()
    assert '<details class="one-sided">' in macros
