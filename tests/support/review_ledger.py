"""A ledger with a history for the tests of the review: runs, batches, drift, promotions of every kind, images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from churn.decision.comparison import Case, Evidence, EvidenceWindow, History, compare
from churn.decision.curves import curves_of
from churn.decision.policy import decide
from churn.decision.slices import Slicing
from churn.foundation import schema
from churn.foundation.digests import text_digest
from churn.foundation.ledger import Ledger, open_ledger, read_ledger
from churn.review.pages import AppLinks, Site
from churn.review.tiles import OverviewFacts
from churn.settings import Settings
from support.evidence_cases import POLICY, TEXT
from support.score_lists import published

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
SETTINGS = Settings(airflow_ui_url="https://airflow.example", mlflow_ui_url="https://mlflow.example")
NIGHTLY = SETTINGS.model_copy(update={"schedule": "0 2 * * *", "timezone": "UTC"})
NOTHING = OverviewFacts((), (), None, (), (), 0, (), None, None, (), ())
SITE = Site(AppLinks("/churn-review/"), NOW, "?format=json", "/churn-review/", live=True, may_act=True)
HOSTILE = (
    "<script>alert(1)</script>\" onload='x' <b> \x00 \u202egnp.exe 🧨👩‍👩‍👧 مرحبا https://evil.example/ javascript:alert(2) "
    + "A" * 10_000
)
SLICINGS = (
    Slicing("Geography", ("France", "Germany", "Spain")),
    Slicing("Gender", ("Female", "Male"), parity=True),
    Slicing("Age", ("under 30", "30 to under 45", "45 to under 60", "60 and over"), parity=True),
)
COLUMNS = (
    "Age",
    "Balance",
    "CreditScore",
    "EstimatedSalary",
    "Exited",
    "Gender",
    "Geography",
    "HasCrCard",
    "IsActiveMember",
)
RULES = ("Age.range", "Balance.type", "Geography.category", "record.duplicate", "unlabelled")
KINDS = ("promotion", "promotion", "rollback", "forced", "promotion", "take_back", "adopted")


@dataclass(frozen=True)
class Measured:
    """The result of a real comparison, with its decision and its curves, as the ledger keeps them."""

    comparison: dict[str, Any]
    rules: list[dict[str, Any]]
    watch: list[dict[str, Any]]
    verdict: str
    code: str
    sentence: str
    curves: dict[str, Any] | None


@cache
def measured(better: bool, champion: bool = True) -> Measured:
    """Compare a challenger that beats its champion, or does not, or that has no champion."""
    rng = np.random.default_rng(7)
    rows = 3000
    signal = 1.6 * rng.normal(size=rows) - 1.5

    def scores(noise: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(signal + noise * rng.normal(size=rows))))

    fine, coarse = scores(0.1), scores(0.6)
    challenger_scores, champion_scores = (fine, coarse) if better else (coarse, fine)
    everyone = np.ones(rows, dtype=bool)
    evidence = Evidence(
        customers=np.arange(rows, dtype=np.uint64),
        labels=(rng.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64),
        batches=np.ones(rows, np.int64),
        codes={
            "Geography": rng.choice(3, rows, p=[0.5, 0.25, 0.25]).astype(np.int8),
            "Gender": rng.choice(2, rows).astype(np.int8),
            "Age": rng.choice(4, rows, p=[0.3, 0.4, 0.29, 0.01]).astype(np.int8),
        },
        used=everyone,
        current=everyone,
        undisputed=everyone,
        challenger=challenger_scores,
        champion=champion_scores if champion else None,
        anchor=champion_scores if champion else None,
    )
    window = EvidenceWindow(NOW - timedelta(days=180), NOW, 180, widened=False)
    versions = (11, 9) if champion else (None, None)
    case = Case(12, *versions, "5e" * 32, History(NOW, 40.0 if champion else None), window)
    comparison = compare(case, evidence, SLICINGS, 50)
    decision = decide(comparison, POLICY)
    return Measured(
        comparison.as_dict(),
        decision.rules_as_dicts(),
        decision.watch_as_dicts(),
        decision.verdict.value,
        decision.code,
        decision.sentence,
        curves_of(comparison, evidence, 0.1),
    )


def batch_hash(number: int) -> str:
    return f"{number:064x}"


def forty_nights(folder: Path) -> Ledger:
    """Make a read-only ledger of forty runs: promotions of every kind, rejected batches, drift, images of every state."""
    url = f"sqlite:///{folder}/ledger.db"
    fill_ledger(url, 40)
    return read_ledger(url)


def fill_ledger(url: str, nights: int, text: str = "", until: datetime = NOW) -> Ledger:
    """Fill a ledger with runs a day apart, the last one at 02:00 on the day of `until`; every fifth run promotes.

    Args:
        url: the address of an empty ledger.
        nights: the number of runs.
        text: appended to every name, reason and note.
        until: the time at which the tests read the ledger.
    """
    ledger = open_ledger(url)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in schema.metadata.tables}
    champion, begin = None, until.replace(hour=2, minute=0, second=0, microsecond=0) - timedelta(days=nights - 1)
    previous: int | None = None
    for number in range(1, nights + 1):
        at = begin + timedelta(days=number - 1)
        promotes = number % 5 == 1
        result = measured(promotes, champion=champion is not None)
        night = f"scheduled__{at.isoformat()}{text}"
        _add_intake(rows, number, night, at, text)
        _add_decision(rows, number, night, at, text, champion, promotes, result)
        if promotes:
            kind = KINDS[len(rows["promotions"]) % len(KINDS)] if champion else "promotion"
            version = previous if kind in ("rollback", "take_back") else number
            rows["promotions"].append(
                {
                    "model": "churn",
                    "sequence": len(rows["promotions"]) + 1,
                    "version": version,
                    "previous": champion,
                    "kind": kind,
                    "night": _name_of_change(kind, night, len(rows["promotions"])),
                    "reason": f"Because {text}",
                    "promoted_at": at + timedelta(minutes=5),
                    "mirrored_at": at,
                    "anchor": version,
                    "actor": f"vera {text}",
                    "code": result.code,
                }
            )
            previous, champion = champion, version
        if champion is not None:
            _add_list(rows, number, night, at, text, champion)
            _add_look(rows, night, at, champion, previous)
    with ledger._transaction() as connection:
        for table in schema.metadata.sorted_tables:
            for begin_at in range(0, len(rows[table.name]), 500):
                connection.execute(table.insert(), rows[table.name][begin_at : begin_at + 500])
    return ledger


def _add_list(
    rows: dict[str, list[dict[str, Any]]], number: int, night: str, at: datetime, text: str, version: int
) -> None:
    """Add the list of the day: of one of two campaigns, of a file or of all accepted customers, delivered or not."""
    name, of_file = f"{number:064x}", number % 2 == 0
    row = published(name, "retention" if number % 3 else "spring", 0, number, at)
    drift = {
        "column": "Age",
        "measure": "wasserstein",
        "value": 0.1,
        "psi": 0.31,
        "bound": 0.2,
        "drifted": True,
        "new_categories": [],
    }
    before = rows["score_lists"][-1]["list_id"] if rows["score_lists"] else None
    change = {"before": before, "entered": 12, "left": 9, "stayed": 388, "because": f"version {version} scored {text}"}
    summary = {
        "capacity": 400,
        "listed": 400,
        "excluded": 7,
        "expected_value": 61_000.5,
        "by_probability": 60_500.0,
        "mean_probability": 0.2,
        "deciles": [0.6, 0.4, 0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, None],
        "distribution": [900, 800, 700, 500, 400, 300, 150, 100, 60, 40, 20, 10, 8, 5, 3, 2, 1, 1, 0, 0],
        "estimated": {"roc_auc": 0.84, "brier": 0.11},
        "drift": {"columns": [drift], "scores": 0.02, "bound": 0.2, "drifted": ["Age"]},
        "checked": 560,
        "largest_difference": 0.0,
        "reasons": {"method": "trees", "error": 1e-9, "first": [["NumOfProducts", 260], [f"Balance{text}", 120]]},
        "change": change if before else None,
    }
    rows["score_lists"].append(
        asdict(row)
        | {
            "model": "churn",
            "version": version,
            "source": "file" if of_file else "accepted",
            "source_name": f"customers-{number}{text}.csv" if of_file else "5e" * 6,
            "arrived_rows": 4003,
            "rows": 4000,
            "quarantined_rows": 3,
            "contact": 380,
            "control": 20,
            "summary": summary,
            "night": night,
            "requested_by": f"vera {text}" if of_file else None,
        }
    )
    for target in ("database", "drop") if number % 4 else ():
        failed = target == "drop" and number % 5 == 0
        rows["deliveries"].append(
            {
                "list_id": name,
                "target": target,
                "state": "failed" if failed else "delivered",
                "attempts": 3 if failed else 1,
                "rows": None if failed else 4000,
                "place": f"postgresql+psycopg2://***@db/{target}",
                "detail": f"It does not answer. {text}" if failed else "",
                "at": at + timedelta(minutes=9),
            }
        )


def _add_look(
    rows: dict[str, list[dict[str, Any]]], night: str, at: datetime, version: int, before: int | None
) -> None:
    """Add what later rows said of the promotion in force, and the results of the newest list."""
    sequence = rows["promotions"][-1]["sequence"]
    interval = {"value": 0.81, "lower": 0.79, "upper": 0.83}
    measure = {"name": "brier", "gain": 0.004, "standard_error": 0.001, "lower": 0.001, "upper": 0.007, "margin": 0.0}
    health = {
        "rows": 4200, "events": 800, "missing": {"rows": 0, "events": 0}, "contacted": False, "excluded": {}, "roc_auc": interval,
        "brier": interval, "observed_expected": {"value": 1.02, "lower": 0.96, "upper": 1.08},
        "calibration": [{"rows": 420, "score": 0.2, "observed": 0.21}] * 10,
    }  # fmt: skip
    shadow = {"version": 7, "rows": 900, "missing": {"rows": 0}, "roc_auc": interval, "brier": interval, "better": True}
    figures = {
        "version": version, "before": before, "measures": [measure], "promised": {"brier": interval}, "health": health,
        "shadows": [shadow], "excluded": {"trained": 12, "contacted": 40}, "contacted": False, "waiting": {},
    }  # fmt: skip
    look = {"state": "confirmed", "rows": 4200, "events": 800, "figures": figures, "evidence": None}
    rows["outcome_looks"].append({"model": "churn", "sequence": sequence, "night": night, "looked_at": at} | look)
    group = {"decile": 1, "rows": 400, "predicted": 0.5, "realised": 0.48, "lower": 0.43, "upper": 0.53}
    effect = {
        "contact": {"customers": 380, "events": 90, "rate": 0.24}, "control": {"customers": 90, "events": 40, "rate": 0.44},
        "kept_share": 0.2, "lower": 0.1, "upper": 0.3, "tells": True, "value": {"kept_share": 9e4, "lower": 4e4, "upper": 12e4},
    }  # fmt: skip
    result = {
        "deciles": [group] * 10, "at_capacity": {"lift": 2.4, "precision": 0.5, "recall": 0.3}, "effect": effect, "contacted": False,
    }  # fmt: skip
    rows["list_results"].append(
        {
            "list_id": rows["score_lists"][-1]["list_id"],
            "revision": 1,
            "rows": 3900,
            "events": 700,
            "figures": result,
            "night": night,
            "measured_at": at,
        }
    )


def _name_of_change(kind: str, night: str, sequence: int) -> str:
    """Name the run of a change of production, as the ledger does: only promotions are made by a nightly run."""
    names = {
        "rollback": f"manual__{night}",
        "take_back": f"take_back__promotion-{sequence}",
        "adopted": f"adopted__{night}",
    }
    return names.get(kind, night)


def _add_intake(rows: dict[str, list[dict[str, Any]]], number: int, night: str, at: datetime, text: str) -> None:
    rejected = number % 9 == 4
    quarantined = 5000 if rejected else 12 + number % 7
    broken = RULES[: 2 + number % 3] + ((f"Surname.{text or 'range'}",) if number % 8 == 0 else ())
    rows["batches"].append(
        {
            "batch": batch_hash(number),
            "arrival": number,
            "name": f"night-{number}{text}.csv",
            "size": 400_000,
            "arrived_at": at,
            "state": "rejected" if rejected else "accepted",
            "night": night,
            "arrived_rows": 5000,
            "accepted_rows": 5000 - quarantined,
            "quarantined_rows": quarantined,
            "reason": f"Too many rows are faulty. {text}" if rejected else None,
            "judged_at": at + timedelta(minutes=1),
            "unlabelled_rows": 1,
            "events": 1000,
            "rules": [[rule, 1 + place + number % 4, [2, 3]] for place, rule in enumerate(broken)],
            "warnings": [f"Age has drifted. {text}"] if number % 6 == 0 else [],
            "origin": None,
            "accepted_sha256": "a" * 64,
        }
    )
    rows["sightings"].append(
        {"batch": batch_hash(number), "name": f"night-{number}{text}.csv", "arrived_at": at, "seen_at": at}
    )
    if number > 1:
        rows["drifts"] += [
            {
                "batch": batch_hash(number),
                "column": column,
                "psi": 0.01 * ((number * (place + 3)) % 25),
                "bound": 0.2,
                "measure": "cramers_v" if column in ("Gender", "Geography") else "kolmogorov_smirnov",
                "value": 0.05,
                "drifted": (number * (place + 3)) % 25 > 20,
                "new_categories": [],
                "reference_rows": min(50_000, 5000 * (number - 1)),
            }
            for place, column in enumerate(COLUMNS)
        ]


def _add_decision(
    rows: dict[str, list[dict[str, Any]]],
    number: int,
    night: str,
    at: datetime,
    text: str,
    champion: int | None,
    promotes: bool,
    result: Measured,
) -> None:
    snapshot = text_digest(f"snapshot {number}")
    comparison = {
        **result.comparison,
        "case": {**result.comparison["case"], "challenger": number, "champion": champion, "anchor": champion},
    }
    rows["snapshots"].append(
        {
            "snapshot": snapshot,
            "rows": 4000 * number,
            "training_rows": 3000 * number,
            "holdout_rows": 800 * number,
            "batches": [[1, number]],
            "salt_fingerprint": "salt",
            "contract_fingerprint": "contract",
            "made_at": at + timedelta(minutes=2),
        }
    )
    rows["versions"].append(
        {
            "model": "churn",
            "version": number,
            "night": night,
            "run_id": f"{number:032x}",
            "snapshot": snapshot,
            "artifacts": "a" * 64,
            "registered_at": at + timedelta(minutes=3),
            "parameters": {
                "kind": f"smooth {text}" if number % 2 else "boosted",
                "seed": "20",
                "features": "Age, Balance",
            },
        }
    )
    rows["decisions"].append(
        {
            "night": night,
            "model": "churn",
            "challenger": number,
            "champion": champion,
            "snapshot": snapshot,
            "verdict": result.verdict,
            "code": result.code,
            "sentence": f"{result.sentence} {text}",
            "rules": [{**rule, "sentence": f"{rule['sentence']} {text[:200]}"} for rule in result.rules],
            "comparison": comparison,
            "policy": TEXT,
            "dry_run": False,
            "note": text or None,
            "run_id": f"{number:032x}",
            "decided_at": at + timedelta(minutes=4),
            "watch": result.watch,
            "digests": {},
            "code_version": f"0.1.0+{number // 3:08x}",
            "approval": False,
            "requested_by": f"vera {text}" if number % 4 == 0 else None,
            "curves": result.curves,
        }
    )
    if champion is not None:
        rows["looks"].append(
            {
                "model": "churn",
                "look": f"{number:064x}",
                "epoch": len(rows["promotions"]),
                "calendar_night": at.date().isoformat(),
                "position": 0,
                "night": night,
                "taken_at": at + timedelta(minutes=4),
            }
        )
    if promotes:
        rows["images"].append(
            {
                "model": "churn",
                "version": number,
                "state": ("published", "not_built", "mismatch", "faulty", "failed", "pruned")[(number // 5) % 6],
                "tag": f"churn:{number}",
                "image_id": f"sha256:{number:064x}",
                "probes": 500,
                "max_difference": 0.0,
                "detail": f"A detail. {text}",
                "recorded_at": at + timedelta(minutes=6),
                "digest": f"sha256:{number:064x}",
                "size": 710_000_000,
                "build_seconds": 0.6,
            }
        )


def night_name(ledger: Ledger, back: int = 0) -> str:
    """Name the newest run, or the one `back` runs before it."""
    return ledger.night_rows("churn", back + 1)[back].night
