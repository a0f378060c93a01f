"""`make bench WHAT=learning`: what the learner finds, compared with well-known models at their defaults. Asserts nothing.

    make bench WHAT=learning                                 everything: about an hour on two cores
    make bench WHAT=learning ARGS="--only files"             the public files, 5x5 cross-validated
    make bench WHAT=learning ARGS="--only drawn"             drawn sets of 5,000 to 50,000 rows
    make bench WHAT=learning ARGS="--only sizes"             10,000, 1 and 3 million rows: AUC, seconds, memory, repetition
    make bench WHAT=learning ARGS="--file mine.csv --contract contracts/mine.yaml"

All models get the same splits: `RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0)` of scikit-learn over the accepted
rows in the order of the file. The product's search sees only the four fifths that the other models are fitted on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import psutil
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from rich.table import Table
from scipy.special import logit
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from churn.contract import Contract
from churn.contracts.bank import BANK_CHURN
from churn.contracts.loading import load_contract
from churn.learning.candidate_module import STANDARD
from churn.learning.fitting_process import Limits
from churn.learning.search import plan_search
from churn.learning.selection import SearchSpec, select_model
from customer_sets import DRAWN, Customers, Labels, draw_bank, read_customers
from reporting import Figure, console, say
from support.basics import ROOT

PUBLIC = (
    ("bank", "Churn_Modelling.csv", "churn.contracts.bank:BANK_CHURN"),
    ("Telco", "Telco-Customer-Churn.csv", "telco.yaml"),
)
"""Name, file and contract of the public files."""
FOLDS, REPEATS = 5, 5
OURS, BOOSTED = "this product", "HistGradientBoosting"
SIZES = ((10_000, None), (1_000_000, 0.0004), (3_000_000, 0.0003))
"""Rows, and how far below the Bayes AUC a model may end."""
SECONDS = {10_000: 10, 1_000_000: 150, 3_000_000: 400}
UNSEEN = 1_000_000
MODEL = "model.joblib"
MOST_ROWS = 3_000_000
LIMITS = Limits(4_000_000_000, 3600)

Scores = NDArray[np.float64]
Fit = Callable[[pd.DataFrame, Labels], Callable[[pd.DataFrame], Scores]]


@dataclass
class Result:
    """What a model scored of a set: the mean loss of each row over the repeats, the AUC of each fold, all scores, and the seconds of a fit."""

    losses: Scores
    aucs: list[float] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def slope(self) -> float:
        """The calibration slope: that of a logistic regression of the labels on the logits (Cox, 1958)."""
        scores = np.clip(np.concatenate(self.scores), 1e-9, 1 - 1e-9)
        model = LogisticRegression(C=np.inf).fit(logit(scores).reshape(-1, 1), np.concatenate(self.labels))
        return float(model.coef_[0, 0])


def main() -> None:
    """Measure and print; with `--train` be the process that is measured."""
    options = _options()
    if options.train:
        train_here(Path(options.train), options.cores)
        return
    parts: dict[str, Callable[[], Iterable[Table]]] = {
        "files": lambda: compare_files(options),
        "drawn": lambda: [compare_models(name, make(), 1) for name, make in DRAWN.items()],
        "sizes": lambda: [measure_sizes(options.rows)],
    }
    for name in [options.only] if options.only else ["files"] if options.file else parts:
        for table in parts[name]():
            console.print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["files", "drawn", "sizes"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="folder of the public files")
    parser.add_argument("--file", type=Path, help="a file of your own")
    parser.add_argument("--contract", help="the contract of that file")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of the five folds of the files")
    parser.add_argument("--rows", type=int, nargs="*", help="only these numbers of rows of the sizes")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--cores", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if bool(options.file) != bool(options.contract):
        parser.error("--file and --contract go together.")
    return options


# Files and drawn sets -----------------------------------------------------------------------------


def compare_files(options: argparse.Namespace) -> Iterable[Table]:
    """The user's own file, or the public ones that are there."""
    if options.file:
        customers = read_customers(options.file, load_contract(options.contract, ROOT))
        yield compare_models(options.file.name, customers, options.repeats)
        return
    for name, file, contract in PUBLIC:
        path = options.data / file
        if path.exists():
            yield compare_models(name, read_customers(path, load_contract(contract, ROOT)), options.repeats)
        else:
            say(f"{name} is left out, because {path} does not exist. Give its folder with --data.")


def compare_models(name: str, customers: Customers, repeats: int) -> Table:
    """Cross-validate the product and the other models on the same splits."""
    contract, features, labels = customers
    fits: dict[str, Fit] = {OURS: lambda rows, target: _fit_ours(contract, rows, target)} | {
        other: _fit_of(model, prepare) for other, (model, prepare) in others(features).items()
    }
    results = {model: Result(np.zeros(len(labels))) for model in fits}
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=0)
    for number, (train, test) in enumerate(folds.split(features, labels), start=1):
        say(f"{name}, fold {number} of {FOLDS * repeats}")
        for model, fit in fits.items():
            began = time.monotonic()
            score = fit(features.iloc[train].reset_index(drop=True), labels[train])
            _record(results[model], score(features.iloc[test]), labels[test], test, repeats, time.monotonic() - began)
    return _table(f"{name}: {len(labels):,} customers, {labels.mean():.1%} events, {FOLDS}x{repeats} folds", results)


def _record(result: Result, scores: Scores, labels: Labels, rows: Any, repeats: int, seconds: float) -> None:
    likelihood = np.clip(np.where(labels == 1, scores, 1 - scores), 1e-15, 1)
    result.losses[rows] += -np.log(likelihood) / repeats
    result.aucs.append(float(roc_auc_score(labels, scores)))
    result.scores.append(scores)
    result.labels.append(labels)
    result.seconds.append(seconds)


def _table(title: str, results: dict[str, Result]) -> Table:
    """The models with their difference from the best in paired standard errors, and in relation to boosting."""
    table = Table("model", "ROC AUC", "log loss", "from the best", f"/ {BOOSTED}", "slope", "seconds", title=title)
    best = min(results.values(), key=lambda result: result.losses.mean())
    boosted = results[BOOSTED].losses.mean()
    for model, result in results.items():
        worse = result.losses - best.losses
        error = worse.std(ddof=1) / np.sqrt(len(worse))
        table.add_row(
            model,
            f"{np.mean(result.aucs):.4f}",
            f"{result.losses.mean():.4f}",
            "best" if result is best else f"{worse.mean():+.4f} ({worse.mean() / error:.1f} s.e.)",
            f"{result.losses.mean() / boosted:.3f}",
            f"{result.slope:.2f}",
            f"{np.median(result.seconds):.1f}",
        )
    return table


def others(features: pd.DataFrame) -> dict[str, tuple[Any, Callable[[pd.DataFrame], pd.DataFrame]]]:
    """Well-known models at their defaults, each with what it needs to be given texts as categories."""
    texts = list(features.select_dtypes(exclude="number"))
    levels = {name: sorted(features[name].dropna().unique()) for name in texts}

    def filled(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{name: rows[name].fillna("missing") for name in texts})

    def categories(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{name: pd.Categorical(rows[name], levels[name]) for name in texts})

    splines = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
            remainder=SplineTransformer(handle_missing="zeros"),
        ),
        LogisticRegression(max_iter=5000),
    )
    return {
        "logistic regression with splines": (splines, filled),
        BOOSTED: (HistGradientBoostingClassifier(random_state=0), categories),
        "LightGBM": (LGBMClassifier(random_state=0, verbose=-1), categories),
        "CatBoost": (
            CatBoostClassifier(random_seed=0, verbose=False, allow_writing_files=False, cat_features=texts),
            filled,
        ),
    }


def _fit_of(model: Any, prepare: Callable[[pd.DataFrame], pd.DataFrame]) -> Fit:
    def fit(rows: pd.DataFrame, target: Labels) -> Callable[[pd.DataFrame], Scores]:
        fitted = model.fit(prepare(rows), target)
        return lambda unseen: np.asarray(fitted.predict_proba(prepare(unseen))[:, 1])

    return fit


def _fit_ours(contract: Contract, rows: pd.DataFrame, target: Labels) -> Callable[[pd.DataFrame], Scores]:
    order = np.random.default_rng(0).permutation(len(rows))  # as the draw of a snapshot puts them
    with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
        file = write_rows(Path(folder), contract, rows.iloc[order], target[order])
        model = search(file, contract, target[order], None)
    return lambda unseen: np.asarray(model.predict_proba(unseen)[:, 1])


def write_rows(folder: Path, contract: Contract, rows: pd.DataFrame, target: Labels) -> Path:
    """The file of drawn rows, as a training gets it."""
    file = folder / "rows.parquet"
    labelled = rows.assign(**{contract.target.name: target.astype("int8")})
    labelled.to_parquet(file, row_group_size=20_480, index=False)
    return file


def search(file: Path, contract: Contract, target: Labels, cores: int | None) -> Any:
    """Search, select, fit and try a model as the training of a run does."""
    plan = plan_search(len(target), MOST_ROWS)
    spec = SearchSpec(STANDARD, FOLDS, 0, MOST_ROWS, LIMITS, cores=cores)
    return select_model(file, target[: plan.end], plan, contract, spec).model


# Sizes --------------------------------------------------------------------------------------------


def measure_sizes(rows: list[int] | None) -> Table:
    """A training of each size in a process of its own: AUC below that of the true probabilities, seconds, memory."""
    table = Table("what", "goal", "figure", title="synthetic customers of the bank contract")
    _, features, labels, probability = draw_bank(UNSEEN, seed=77)
    bayes = roc_auc_score(labels, probability)
    for size, below in SIZES:
        if rows and size not in rows:
            continue
        say(f"training on {size:,} rows")
        with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
            _draw_into(Path(folder), size)
            seconds, peak = train_apart(Path(folder), None)
            model = joblib.load(Path(folder) / MODEL)
        auc = roc_auc_score(labels, model.predict_proba(features)[:, 1])
        table.add_row(
            f"{size:,} rows: AUC on {UNSEEN:,} unseen rows below the Bayes AUC of {bayes:.5f}",
            "" if below is None else f"<= {below}",
            f"{bayes - auc:.5f}",
        )
        table.add_row(f"{size:,} rows: all candidates", f"<= {SECONDS[size]} s", f"{seconds:.0f} s")
        table.add_row(
            f"{size:,} rows: peak memory of all processes", "<= 1.8 GB" if size == MOST_ROWS else "", f"{peak:.2f} GB"
        )
    for figure in measure_repetition():
        table.add_row(figure.what, figure.goal, figure.figure)
    return table


def measure_repetition() -> Iterable[Figure]:
    """The same 10,000 rows twice, with one thread and with all."""
    rows = SIZES[0][0]
    for cores, goal in ((1, "0"), (None, "<= 1e-9")):
        scores, texts = [], []
        for number in (1, 2):
            say(f"training twice on the same rows, {cores or 'all'} cores, {number} of 2")
            with tempfile.TemporaryDirectory(prefix="churn-bench-") as folder:
                _draw_into(Path(folder), rows)
                train_apart(Path(folder), cores)
                texts.append((Path(folder) / MODEL).read_bytes())
                model = joblib.load(Path(folder) / MODEL)
            scores.append(model.predict_proba(draw_bank(rows, seed=78)[1])[:, 1])
        threads = "one thread" if cores else "all cores"
        same = "the same bytes" if texts[0] == texts[1] else "other bytes"
        yield Figure(
            f"the same {rows:,} rows twice, {threads}: largest difference of a score",
            goal,
            f"{np.abs(scores[0] - scores[1]).max():.1e}, {same}",
        )


def _draw_into(folder: Path, rows: int) -> None:
    contract, features, labels, _ = draw_bank(rows, seed=5)
    write_rows(folder, contract, features, labels)
    np.save(folder / "labels.npy", labels)


def train_apart(folder: Path, cores: int | None) -> tuple[float, float]:
    """Train in another process. Returns seconds, and the peak of the memory of that process and all that it starts, in GB.

    Memory that several processes share counts once (proportional set size).
    """
    command = [sys.executable, __file__, "--train", str(folder), *(["--cores", str(cores)] if cores else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _memory(watched))
            time.sleep(0.2)
        if process.returncode:
            sys.exit("bench: the training failed.")
        assert process.stdout is not None
        return json.loads(process.stdout.read())["seconds"], peak / 1e9


def train_here(folder: Path, cores: int | None) -> None:
    """Train in this process, save the model, and print the seconds."""
    began = time.monotonic()
    model = search(folder / "rows.parquet", BANK_CHURN, np.load(folder / "labels.npy"), cores)
    seconds = time.monotonic() - began
    joblib.dump(model, folder / MODEL)
    print(json.dumps({"seconds": seconds}))  # noqa: T201 -- read by the process that started this one


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return total


if __name__ == "__main__":
    main()
