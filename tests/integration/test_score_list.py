"""The champion scores the current customers, and the list is published at once or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from typer.testing import CliRunner

from churn.cli import main
from churn.decision.policy_file import PolicyInvalid
from churn.decision.scoring import open_scorer
from churn.errors import ChurnError
from churn.foundation.ledger import Ledger
from churn.foundation.parts import part_names, read_manifest
from churn.foundation.paths import list_rows
from churn.foundation.records import ScoreList
from churn.pipeline.audit import audit_data
from churn.pipeline.maintenance import clean, plan_maintenance
from churn.pipeline.scoring_runs import find_list
from churn.pipeline.workspace import Workspace
from churn.sample.generator import Night, make_night
from churn.scoring import score_list, second_scoring
from churn.scoring.population import add_file, collect_populations
from churn.scoring.published import compare_lists, first_rows, read_rows
from churn.scoring.score_list import ListRequest, MadeList, NoChampion, make_list
from churn.scoring.scored_rows import ValueUnusable
from churn.scoring.second_scoring import SecondScoringDiffers
from support.basics import ROOT, clone_workspace, export, run_script
from support.score_lists import in_this_process

SHIPPED = yaml.safe_load((ROOT / "include/churn/scoring_policy.yaml").read_text())


@pytest.fixture(autouse=True, scope="module")
def quick_second_scoring() -> Iterator[None]:
    """Score the sample in this process: to start another one takes longer than all the rest. One test starts it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(second_scoring, "open_scorer", in_this_process)
        yield


@pytest.fixture(scope="module")
def bench(second_champion: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return clone_workspace(second_champion, tmp_path_factory.mktemp("scored"))


@pytest.fixture(scope="module")
def customers(bench: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 3,000 current customers, with labels that nobody looks at, and three faulty rows."""
    file = tmp_path_factory.mktemp("customers") / "customers.csv"
    file.write_text(make_night(bench.contract, Night(3000, first_customer=900_001, seed=9, faults=3)))
    return file


@pytest.fixture(scope="module")
def published(bench: Workspace, customers: Path) -> ScoreList:
    return score(bench, customers).row


def score(workspace: Workspace, file: Path | None, **request: object) -> MadeList:
    population = add_file(workspace, file) if file else None
    return make_list(workspace, ListRequest("run", population, **request))  # type: ignore[arg-type]


def with_policy(workspace: Workspace, folder: Path, **sections: object) -> Workspace:
    file = folder / "scoring_policy.yaml"
    file.write_text(yaml.safe_dump({**SHIPPED, **sections}))
    settings = workspace.settings.model_copy(update={"scoring_policy_file": file})
    return Workspace(settings, workspace.storage, workspace.ledger)


def rows_of(workspace: Workspace, row: ScoreList) -> pd.DataFrame:
    names = part_names(workspace.storage, list_rows(row.list_id))
    frame: pd.DataFrame = pa.concat_tables(workspace.storage.read_table(name) for name in names).to_pandas()
    return frame


def test_every_customer_is_scored_or_quarantined(bench: Workspace, published: ScoreList) -> None:
    """The ledger, the manifest and the rows say the same, and the audit agrees."""
    assert published.arrived_rows == published.rows + published.quarantined_rows
    assert published.quarantined_rows >= 3
    frame = rows_of(bench, published)
    assert len(frame) == published.rows
    assert frame["CustomerId"].is_unique
    assert frame["trained_on"].isna().all()  # a file is not compared with the training rows
    assert frame["group"].value_counts().to_dict() == {
        "contact": published.contact,
        "control": published.control,
        "rest": published.rows - published.contact - published.control,
    }
    manifest = read_manifest(bench.storage, list_rows(published.list_id))
    assert manifest is not None
    assert manifest.digest == published.manifest
    about = manifest.about or {}
    assert (about["list"], about["version"], about["population"]) == (published.list_id, 2, published.population)
    assert about["counts"]["scored"] == published.rows
    assert audit_data(bench, hashes=True) == []


def test_customers_to_contact_have_reasons_in_words(bench: Workspace, published: ScoreList) -> None:
    """Up to three, the first one first; nobody else has any, and none is from a protected column. Rates are above the average."""
    frame = rows_of(bench, published)
    reasons = frame[["reason_1", "reason_2", "reason_3"]]
    contacted = frame["group"] == "contact"
    assert reasons[~contacted].isna().all(axis=None)
    assert reasons.loc[contacted, "reason_1"].notna().mean() > 0.9
    assert (reasons["reason_2"].notna() <= reasons["reason_1"].notna()).all()
    told = " ".join(reasons[contacted].stack().dropna())
    assert re.search(r"(Age|Gender) is", told) is None
    rates = [float(rate) for rate in re.findall(r"such customers left ([\d.]+) times as often as the average", told)]
    assert rates
    assert min(rates) > 1
    summary = published.summary["reasons"]
    assert summary["error"] <= 1e-6
    assert sum(count for _, count in summary["first"]) <= published.contact + published.control
    assert {column for column, _ in summary["first"]} <= set(bench.contract.feature_names) - {"Age", "Gender"}


def test_the_scores_are_those_of_the_champion(bench: Workspace, published: ScoreList, customers: Path) -> None:
    """And so are ranks and expected values; the second scoring found no difference."""
    frame = rows_of(bench, published).set_index("CustomerId")
    source = pd.read_csv(customers, on_bad_lines="skip", encoding_errors="replace")
    source = source[pd.to_numeric(source["CustomerId"], errors="coerce").isin(frame.index)].drop_duplicates(
        "CustomerId"
    )
    source = source.astype({"CustomerId": int}).set_index("CustomerId").loc[frame.index]
    with open_scorer(2, bench.ledger, bench.tracking, bench.environments) as scorer:
        assert np.abs(scorer(source) - frame["probability"]).max() < 1e-12
    assert np.allclose(frame["expected_value"], frame["probability"] * 0.2 * 1000 - 10)
    ranked = frame.sort_values("rank")
    assert ranked["rank"].tolist() == list(range(1, len(frame) + 1))
    assert (ranked["expected_value"].diff().dropna() <= 0).all()
    assert set(ranked["group"].iloc[: published.contact + published.control]) == {"contact", "control"}
    assert published.contact + published.control == int(0.1 * published.rows)
    assert published.summary["largest_difference"] <= 1e-12
    assert published.summary["checked"] >= 500


def test_the_same_again_is_the_same_list(bench: Workspace, published: ScoreList, customers: Path) -> None:
    """Under any name of the file, and after other lists of other customers not any more."""
    again = score(bench, customers)
    assert (again.new, again.row) == (False, published)
    assert len(bench.ledger.score_lists()) == 1


def test_a_dry_run_publishes_nothing(bench: Workspace, published: ScoreList, customers: Path) -> None:
    made = score(bench, customers, dry_run=True, capacity=7)
    assert made.row.contact + made.row.control == 7
    assert bench.ledger.score_lists() == [published]
    assert {name.split("/")[1] for name in bench.storage.names("scores")} == {published.list_id}


def test_a_later_list_keeps_treatments_and_another_campaign_leaves_them_out(
    second_champion: Workspace, customers: Path, tmp_path: Path
) -> None:
    """The control group of the first list is in no other list's contact group, and so are those who were contacted."""
    bench = clone_workspace(second_champion, tmp_path)
    first = score(bench, customers).row
    groups = rows_of(bench, first).set_index("CustomerId")["group"]
    wider = score(bench, customers, capacity=600).row
    later = rows_of(bench, wider).set_index("CustomerId")["group"]
    assert wider.continues == [first.list_id]
    assert (later[groups == "control"] == "control").all()
    assert (later[groups == "contact"] == "contact").all()
    spring = score(bench, customers, campaign="spring", capacity=600).row
    other = rows_of(bench, spring).set_index("CustomerId")["group"]
    assert set(spring.excludes) == {first.list_id, wider.list_id}
    assert (other[later != "rest"] == "rest").all()
    assert spring.contact + spring.control == 600
    assert score(bench, customers, campaign="spring", capacity=600).new is False
    found = compare_lists(bench.storage, first, wider, "CustomerId")
    assert found.stayed == first.contact
    assert len(found.entered) == wider.contact - first.contact
    assert found.because == "the scoring policy was changed"
    assert find_list(bench, None) == wider
    assert first_rows(bench.storage, wider, 3)["rank"].to_pylist() == [1, 2, 3]


def test_all_accepted_customers_are_scored_without_a_file(bench: Workspace) -> None:
    """Those who have left are not, and those whom the version was trained on are marked: their scores are optimistic."""
    made = score(bench, None, campaign="everyone").row
    frame = rows_of(bench, made)
    snapshot = bench.ledger.snapshot(made.population)
    assert snapshot is not None
    assert (made.source, made.arrived_rows) == ("accepted", len(frame))
    rows = pd.concat(
        bench.storage.read_table(name).to_pandas()
        for name in part_names(bench.storage, f"snapshots/{snapshot.snapshot}")
    )
    current = rows[rows["Exited"] == 0].set_index("CustomerId")
    assert sorted(frame["CustomerId"]) == sorted(current.index)
    trained = current.loc[frame["CustomerId"], "_bucket"] >= 25
    assert frame["trained_on"].tolist() == trained.tolist()
    assert 0.6 < frame["trained_on"].mean() < 0.9
    assert score(bench, None, campaign="everyone").new is False


@pytest.mark.parametrize("value", [{"column": "Balance", "rate": 0.1}, {"column": "EstimatedSalary"}])
def test_a_column_can_say_what_a_customer_is_worth(
    bench: Workspace, customers: Path, tmp_path: Path, value: dict[str, Any]
) -> None:
    """By the value of each customer: what a contact is expected to bring, and so who is contacted first."""
    worth = with_policy(
        bench,
        tmp_path,
        value=value,
        campaign={"name": value["column"].lower(), "horizon_days": 1},
        exclusion={"days": 0},
    )
    made = score(worth, customers).row
    frame = rows_of(bench, made).set_index("CustomerId")
    source = pd.read_csv(customers, on_bad_lines="skip", encoding_errors="replace").drop_duplicates("CustomerId")
    source = source[pd.to_numeric(source["CustomerId"], errors="coerce").isin(frame.index)]
    values = source.astype({"CustomerId": int}).set_index("CustomerId").loc[frame.index, value["column"]].astype(float)
    expected = frame["probability"] * 0.2 * values * value.get("rate", 1.0) - 10
    assert np.allclose(frame["expected_value"], expected)
    assert (frame.sort_values("rank")["expected_value"].diff().dropna() <= 1e-9).all()
    chosen = frame.loc[frame["group"] != "rest", "rank"]
    assert len(chosen) <= chosen.max() <= len(chosen) + made.summary["excluded"]


def test_a_customer_without_a_value_stops_the_list(bench: Workspace, tmp_path: Path) -> None:
    """A negative one, too: the error has the number of customers and the next step, and nothing is published."""
    before = bench.ledger.score_lists()
    contract = bench.contract
    columns = tuple(
        replace(column, minimum=-1e9) if column.name == "Balance" else column for column in contract.columns
    )
    settings = bench.settings.model_copy(update={"contract": replace(contract, columns=columns)})
    lines = make_night(contract, Night(50, first_customer=950_001, seed=9)).splitlines()
    place = lines[0].split(",").index("Balance")
    cells = lines[1].split(",")
    cells[place] = "-5"
    file = tmp_path / "negative.csv"
    file.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    other = with_policy(Workspace(settings, bench.storage, bench.ledger), tmp_path, value={"column": "Balance"})
    with pytest.raises(ValueUnusable, match="1 of 50 customers have no Balance, or one that is negative"):
        score(other, file)
    assert bench.ledger.score_lists() == before


@pytest.mark.parametrize("capacity", [0, 10**9])
def test_a_capacity_of_nobody_or_of_more_than_all(
    bench: Workspace, published: ScoreList, customers: Path, tmp_path: Path, capacity: int
) -> None:
    """Nobody is contacted; or all are who are worth more than they cost."""
    alone = with_policy(bench, tmp_path, campaign={"name": "edge", "horizon_days": 1}, exclusion={"days": 0})
    frame = rows_of(bench, published).set_index("CustomerId")
    worth = set(frame.index[frame["expected_value"] > 0])
    others = [rows_of(bench, row) for row in bench.ledger.score_lists()]
    left_alone = {key for rows in others for key in rows.loc[rows["group"] == "control", "CustomerId"]}
    assert 0 < len(worth - left_alone) < published.rows
    row = score(alone, customers, dry_run=True, capacity=capacity).row
    assert row.contact + row.control == (len(worth - left_alone) if capacity else 0)


def test_without_a_champion_nobody_is_scored(workspace: Workspace, customers: Path) -> None:
    with pytest.raises(NoChampion, match="is in production, so there is nothing to score with"):
        score(workspace, customers)


def test_an_unknown_version_is_named(bench: Workspace, customers: Path) -> None:
    with pytest.raises(NoChampion, match="has no version 77"):
        score(bench, customers, version=77)


def test_an_earlier_version_can_score(bench: Workspace, customers: Path) -> None:
    row = score(bench, customers, version=1, dry_run=True).row
    assert row.version == 1


def test_a_policy_that_cannot_be_used_stops_the_list(bench: Workspace, customers: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="No list is published until it is fixed"):
        score(with_policy(bench, tmp_path, control={"share": 2}), customers)


def test_another_process_scores_a_sample(bench: Workspace, customers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the files of the model only; the answers are equal to the last digit."""
    monkeypatch.setattr(second_scoring, "open_scorer", open_scorer)
    row = score(bench, customers, campaign="apart", dry_run=True).row
    assert row.summary["largest_difference"] <= 1e-12


def test_a_list_that_differs_from_the_model_is_not_published(
    bench: Workspace, customers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process scores a sample by the registered model; one score that is off by 1e-9 is enough."""
    before = bench.ledger.score_lists()
    check = second_scoring.require_equal

    def off(sample: second_scoring.Sample, version: int, other: second_scoring.Other) -> float:
        scores = sample.scores.copy()
        scores[0] += 1e-9
        return check(replace(sample, scores=scores), version, other)

    monkeypatch.setattr(second_scoring, "require_equal", off)
    with pytest.raises(SecondScoringDiffers, match="differ by up to 1e-09"):
        score(bench, customers, campaign="wrong")
    assert bench.ledger.score_lists() == before


@pytest.mark.parametrize("killed", ["parts", "ledger"])
def test_a_list_that_was_interrupted_is_completed_once(
    second_champion: Workspace, customers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Before its parts, or before its row of the ledger: the same list, readers never see half of it, and the file is not forgotten."""
    bench = clone_workspace(second_champion, tmp_path)

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(score_list, "store_parts", die) if killed == "parts" else patch.setattr(
            Ledger, "publish_list", die
        )
        with pytest.raises(Killed):
            score(bench, customers)
    assert bench.ledger.score_lists() == []
    (waiting,) = collect_populations(bench.storage, bench.ledger, 0, bench.settings.part_size)
    row = score(bench, customers).row
    assert collect_populations(bench.storage, bench.ledger, 0, bench.settings.part_size) == []
    assert waiting.population == row.population
    assert [made.list_id for made in bench.ledger.score_lists()] == [row.list_id]
    assert audit_data(bench, hashes=True) == []


def test_the_policy_in_force_is_kept_with_the_list(published: ScoreList) -> None:
    assert json.loads(published.policy)["campaign"] == SHIPPED["campaign"]


def test_the_commands_score_list_show_compare_and_export(
    second_champion: Workspace, customers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an export, and a comparison that asks for it, has keys; a landed file is scored without being named."""
    bench = clone_workspace(second_champion, tmp_path)
    export(bench.settings, monkeypatch)

    def churn(*arguments: str, fails: bool = False) -> str:
        ran = CliRunner().invoke(main.app, list(arguments))
        assert (ran.exit_code != 0) == fails, ran.output
        return ran.output

    def as_json(*arguments: str) -> Any:
        return json.loads(CliRunner().invoke(main.app, [*arguments, "--json"]).stdout)  # the log is on standard error

    assert "No list has been published yet" in churn("scores", "list")
    assert "No list" in churn("scores", "show", fails=True)
    assert "No file of current customers has landed" in churn("score")
    assert "either a file or --from-accepted" in churn("score", str(customers), "--from-accepted", fails=True)
    assert "nothing was published" in churn("score", str(customers), "--dry-run")
    (first,) = as_json("score", str(customers))
    assert first["new"]
    shown = churn("scores", "show")
    assert f"{first['contact']:,}" in shown
    assert "First rows: churn scores export" in shown
    assert "90000" not in shown  # no key
    assert "populations/landing/" in churn("land", "--population", str(customers)).replace("\n", "")
    assert "has been published already" in churn("score")
    (second,) = as_json("score", str(customers), "--capacity", "20")
    assert [row["list_id"] for row in as_json("scores", "list")] == [second["list_id"], first["list_id"]]
    assert as_json("scores", "show", first["list_id"][:10])["contact"] == first["contact"]
    counts = as_json("scores", "diff", first["list_id"][:10])
    assert (counts["entered"], counts["left"]) == (0, first["contact"] - second["contact"])
    assert "entered_keys" not in counts
    assert len(as_json("scores", "diff", first["list_id"][:10], "--keys")["left_keys"]) == counts["left"]
    assert "the scoring policy was changed" in churn("scores", "diff", first["list_id"][:10])
    file = tmp_path / "contacts.csv"
    churn("scores", "export", first["list_id"][:10], "--group", "contact", "--to", str(file))
    exported = pd.read_csv(file)
    assert set(exported["group"]) == {"contact"}
    assert len(exported) == first["contact"]
    head = pd.read_csv(StringIO(churn("scores", "export", first["list_id"][:10], "--first", "3")))
    assert [*head.columns[:3]] == ["CustomerId", "probability", "rank"]
    assert head["rank"].tolist() == [1, 2, 3]
    assert "No list has an id that begins with zz" in churn("scores", "show", "zz", fails=True)


def test_a_file_waits_for_its_list_whatever_happens_to_others(
    second_champion: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be used does not stop the others. One that was only tried does not wait, and what landed goes on waiting."""
    bench = clone_workspace(second_champion, tmp_path)
    export(bench.settings, monkeypatch)

    def churn(*arguments: str) -> tuple[int, str]:
        ran = CliRunner().invoke(main.app, list(arguments))
        return ran.exit_code, " ".join(ran.output.split())

    def waiting() -> list[str]:
        return [row.name for row in bench.ledger.populations(state="arrived")]

    texts = [make_night(bench.contract, Night(300, first_customer=910_001 + 1000 * seed, seed=seed)) for seed in (1, 2)]
    first, second, bad = (tmp_path / name for name in ("first.csv", "second.csv", "bad.csv"))
    first.write_text(texts[0])
    second.write_text(texts[1])
    bad.write_text(texts[0].replace("France", "Atlantis").replace("Spain", "Atlantis").replace("Germany", "Atlantis"))
    assert churn("score", str(bad))[0] == 1
    assert churn("score", str(first), "--dry-run")[0] == 0
    assert waiting() == []
    for file in (bad, first, second):
        churn("land", "--population", str(file))
    code, said = churn("score", "--dry-run")
    assert (code, "bad.csv was rejected" in said, said.count("nothing was published")) == (1, True, 2)
    assert waiting() == ["first.csv", "second.csv"]
    churn("land", "--population", str(bad))
    code, said = churn("score")
    assert (code, "bad.csv was rejected" in said) == (1, True)
    assert [row.source_name for row in bench.ledger.score_lists()] == ["second.csv", "first.csv"]
    assert waiting() == []
    assert audit_data(bench, hashes=True) == []


def test_maintenance_deletes_old_lists(
    second_champion: Workspace, customers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows, and the files of their customers; the ledger keeps its rows, and the audit finds no fault."""
    bench = with_policy(
        clone_workspace(second_champion, tmp_path),
        tmp_path,
        campaign={"name": "short", "horizon_days": 1e-6},
        exclusion={"days": 0},
    )
    kept = Workspace(
        bench.settings.model_copy(update={"keep_lists": 1, "keep_populations": 1}), bench.storage, bench.ledger
    )
    old = score(kept, customers, capacity=5).row
    new = score(kept, None, capacity=5).row
    monkeypatch.setattr("churn.pipeline.maintenance.delete_versions", lambda *_: [])
    plan = plan_maintenance(kept)
    assert list_rows(old.list_id) in plan.files
    assert list_rows(new.list_id) not in plan.files
    clean(plan, kept)
    assert {name.split("/")[1] for name in kept.storage.names("scores")} == {new.list_id}
    assert [row.list_id for row in kept.ledger.score_lists()] == [new.list_id, old.list_id]
    assert audit_data(kept, hashes=True) == []
    with pytest.raises(ChurnError, match="CHURN_KEEP_LISTS says how many lists are kept"):
        next(read_rows(kept.storage, old))


def test_killed_after_any_write_the_next_run_comes_to_the_same(
    second_champion: Workspace, customers: Path, tmp_path: Path
) -> None:
    """SIGKILL after each write to data root, ledger and folder: the same list, once, delivered once, and nothing lost."""
    source = tmp_path / "scored-source"
    source.mkdir()
    workspace = clone_workspace(second_champion, source)
    folder = tmp_path / "runs"
    folder.mkdir()
    url = workspace.settings.mlflow_tracking_uri
    outcome = run_script("crash_scoring.py", folder, url, source, customers)
    calm = outcome["calm"]
    assert (calm["population"], calm["waiting"], calm["faults"]) == (["judged"], 0, [])
    assert (calm["current"], calm["marker"], calm["delivered"]) == (True, True, [["delivered", calm["list"][0]]])
    effects = " ".join(outcome["effects"])
    for part in (
        "originals",
        "scores/ID/part-0001",
        "scores/ID/manifest",
        "publish_list",
        "_SUCCESS",
        "record_delivery",
    ):
        assert part in effects, outcome["effects"]
    assert len(outcome["killed"]) >= 10
    for run in outcome["killed"]:
        assert (run["killed"], run["again"]) == (-9, 0), run["after"]
        assert run["state"] == calm, run["after"]
