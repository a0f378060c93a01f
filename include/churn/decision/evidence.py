"""Scores unseen customers with challenger, champion and baseline version, or explains why they cannot be compared.

Which customers count is fixed before anything is scored.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churn.contract import Contract
from churn.decision.comparison import Contact, Evidence, EvidenceWindow, Flags, Leaks, Refusal, find_invalid_scores
from churn.decision.eligibility import ANCHOR, CHALLENGER, CHAMPION, ComparedVersions, find_refusal, missing
from churn.decision.evidence_draw import evidence_share
from churn.decision.evidence_parts import CannotScore, DrawnCustomers, read_facts, read_sample, score_customers
from churn.decision.inference import Labels, Scores
from churn.decision.leaks import find_leaks
from churn.decision.policy_file import Enough, Policy, Window
from churn.decision.reasons import Reason
from churn.decision.scoring import FilesGone, ModelUnloadable, Unscorable, open_scorer
from churn.decision.slices import Codes
from churn.errors import ChurnError
from churn.foundation.clients import Clients
from churn.foundation.spread import Spread
from churn.intake.judged_rows import batch_number
from churn.learning.maturity import cutoff_of
from churn.learning.snapshot import take_snapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gathered:
    """The result: evidence, or why there is none."""

    evidence: Evidence | None = None
    window: EvidenceWindow | None = None
    leaks: Leaks = field(default_factory=Leaks)
    refusal: Refusal | None = None
    anchor_refusal: Refusal | None = None
    contact: Contact = field(default_factory=Contact)


@dataclass(frozen=True)
class _Rows:
    """Unseen customers without their scores. Every array has shape (rows,). Times are in microseconds since 1970.

    `told` is the batch that said the label; without labels that come apart, it is the one of the row. `weights` say how many customers a
    row stands for: none if a list had contacted this one, and more than one in a control group.
    """

    customers: NDArray[np.uint64]
    labels: Labels
    batches: NDArray[np.int64]
    told: NDArray[np.int64]
    arrived: NDArray[np.int64]
    weights: Scores
    codes: dict[str, Codes]

    @property
    def uncontacted(self) -> Flags:
        """Which rows no list has contacted."""
        return self.weights > 0

    @classmethod
    def of(cls, facts: list[pd.DataFrame], contract: Contract) -> _Rows:
        """The customers of some parts, see `read_facts`."""
        rows = pd.concat(facts, ignore_index=True)
        return cls(
            rows["_customer"].to_numpy(np.uint64),
            rows["_label"].to_numpy(np.int64),
            rows["_batch"].to_numpy(np.int64),
            rows["_told"].to_numpy(np.int64),
            rows["_arrived"].to_numpy(np.int64),
            rows["_weight"].to_numpy(np.float64),
            {by.column: rows[by.column].to_numpy(np.int8) for by in contract.slices},
        )

    def suspect(self, suspects: list[str]) -> Flags:
        """Which rows belong to one of these batches."""
        numbers = [batch_number(batch) for batch in suspects]
        return np.asarray(np.isin(self.batches, numbers) | np.isin(self.told, numbers))

    def some(self, chosen: Flags) -> _Rows:
        """A subset of the rows."""
        codes = {name: codes[chosen] for name, codes in self.codes.items()}
        return _Rows(
            self.customers[chosen],
            self.labels[chosen],
            self.batches[chosen],
            self.told[chosen],
            self.arrived[chosen],
            self.weights[chosen],
            codes,
        )

    def and_then(self, more: _Rows) -> _Rows:
        """These rows followed by others."""
        codes = {name: np.concatenate([codes, more.codes[name]]) for name, codes in self.codes.items()}
        return _Rows(
            np.concatenate([self.customers, more.customers]),
            np.concatenate([self.labels, more.labels]),
            np.concatenate([self.batches, more.batches]),
            np.concatenate([self.told, more.told]),
            np.concatenate([self.arrived, more.arrived]),
            np.concatenate([self.weights, more.weights]),
            codes,
        )


def gather_evidence(
    compared: ComparedVersions, policy: Policy, clients: Clients, treated: pa.Table | None = None
) -> Gathered:
    """Score the unseen customers of a snapshot, or explain why versions cannot be compared.

    Args:
        compared: the versions.
        policy: how many customers are needed.
        clients: data root, ledger, MLflow and contract.
        treated: whom lists have contacted or left alone: `customer` (the keyed hash), `contacted`, `since`, `until`, and `weight`.

    Raises:
        FilesGone: the files of the challenger do not exist.
        ModelUnloadable: the files of a version cannot be downloaded, or the challenger does not load.
        TrackingUnreachable: MLflow is unavailable.
    """
    refusals = {role: find_refusal(role, compared, clients) for role in compared.versions}
    refusal = refusals[CHALLENGER] or refusals.get(CHAMPION)
    if refusal and not refusal.code.leaves_challenger:
        return Gathered(refusal=refusal)
    most = clients.settings.max_evidence_rows
    share = evidence_share(compared.snapshot.holdout_rows, most)
    if share < 1:
        log.info(
            "%d unseen customers are more than %d, so %.1f %% of them are drawn to be compared on.",
            compared.snapshot.holdout_rows,
            most,
            100 * share,
        )
    with clients.storage.scratch() as scratch:
        customers = DrawnCustomers.of(clients, compared.snapshot, share, scratch)
        return _gather(compared, policy, clients, treated, customers, refusals)


def _gather(
    compared: ComparedVersions,
    policy: Policy,
    clients: Clients,
    treated: pa.Table | None,
    customers: DrawnCustomers,
    refusals: dict[str, Refusal | None],
) -> Gathered:
    facts = read_facts(customers, treated, clients.spread)
    now = _Rows.of(facts, clients.contract)
    window, used = _choose_uncontacted(now, policy.enough(compared.champion is None), policy.evidence.window_days)
    retold = now.customers[now.suspect(compared.suspects)] if compared.champion else now.customers[:0]
    earlier, before = _earlier_rows(compared, now, retold, clients, treated, customers)
    undisputed = _undisputed(compared, now, earlier, policy)
    leaks = find_leaks(_sample(customers, facts, used, clients.spread), clients.contract)
    rows = now.and_then(earlier)
    sources = [(customers, None), *([(before, retold)] if before else [])]
    scores, failed = _score(compared, clients, refusals, sources, len(rows.labels))
    if CHALLENGER not in scores:
        return Gathered(window=window, refusal=failed[CHALLENGER])
    contact = Contact(int((~now.uncontacted).sum()), int((now.weights[used] > 1).sum()))
    not_now = np.zeros(len(earlier.labels), bool)
    anchor = CHAMPION if compared.anchor == compared.champion else ANCHOR
    evidence = Evidence(
        customers=rows.customers,
        labels=rows.labels,
        batches=rows.batches,
        codes=rows.codes,
        used=np.concatenate([used, not_now]),
        current=np.concatenate([now.uncontacted, not_now]),
        undisputed=undisputed,
        challenger=scores[CHALLENGER],
        champion=scores.get(CHAMPION),
        anchor=scores.get(anchor),
        weights=rows.weights if (rows.weights > 1).any() else None,
    )
    return Gathered(evidence, window, leaks, failed.get(CHAMPION), failed.get(anchor), contact)


def _choose_uncontacted(rows: _Rows, enough: Enough | Window, days: float) -> tuple[EvidenceWindow, Flags]:
    """As `choose_window`, among customers whom no list has contacted."""
    used = rows.uncontacted.copy()
    window, used[used] = choose_window(rows.arrived[used], rows.labels[used], enough, days)
    return window, used


def choose_window(
    arrived: NDArray[np.int64], labels: Labels, enough: Enough | Window, days: float
) -> tuple[EvidenceWindow, Flags]:
    """Choose the newest customers: those of the last days before the newest row, or of more days if these are not enough.

    Args:
        arrived: microseconds since 1970, shape (rows,).
        labels: 0 or 1, shape (rows,).
        enough: how many rows and rows of each class are needed.
        days: length of the window.

    Returns:
        The window, and which rows are in it.
    """
    if not len(arrived):
        moment = datetime.fromtimestamp(0, UTC)
        return EvidenceWindow(moment, moment, days, False), np.zeros(0, bool)
    until = int(arrived.max())
    usual = until - int(timedelta(days=days).total_seconds() * 1e6)
    newest_first = np.argsort(-arrived, kind="stable")
    events = np.cumsum(labels[newest_first])
    rows = np.arange(1, len(labels) + 1)
    fewest = np.minimum(events, rows - events)
    satisfied = np.flatnonzero((rows >= enough.min_rows) & (fewest >= enough.min_each_class))
    needed = int(arrived[newest_first[satisfied[0]]]) if len(satisfied) else int(arrived.min())
    since = min(usual, needed)
    used = arrived >= since
    window = EvidenceWindow(_moment(max(since, int(arrived.min()))), _moment(until), days, since < usual)
    return window, used


def _earlier_rows(
    compared: ComparedVersions,
    now: _Rows,
    retold: NDArray[np.uint64],
    clients: Clients,
    treated: pa.Table | None,
    customers: DrawnCustomers,
) -> tuple[_Rows, DrawnCustomers | None]:
    """The earlier rows of customers whom the suspect batches contain again, and the customers of the snapshot with these rows."""
    nothing = now.some(np.zeros(len(now.labels), bool))
    if not len(retold) or set(compared.snapshot.batches) <= set(compared.suspects):
        return nothing, None
    snapshot = take_snapshot(
        clients.storage,
        clients.ledger,
        clients.contract,
        clients.sampling,
        without=compared.suspects,
        cutoff=cutoff_of(compared.snapshot),
    )
    before = DrawnCustomers.of(clients, snapshot, customers.share, customers.scratch)
    rows = _Rows.of(read_facts(before, treated, clients.spread), clients.contract)
    return rows.some(np.isin(rows.customers, retold)), before


def _undisputed(compared: ComparedVersions, now: _Rows, earlier: _Rows, policy: Policy) -> Flags:
    """Which rows are the newest customers as they would be without the suspect batches."""
    kept = np.concatenate([~now.suspect(compared.suspects), np.ones(len(earlier.labels), bool)])
    rows = now.and_then(earlier).some(kept)
    _, used = _choose_uncontacted(rows, policy.evidence, policy.evidence.window_days)
    undisputed = kept.copy()
    undisputed[kept] = used
    return undisputed


def _sample(customers: DrawnCustomers, facts: list[pd.DataFrame], used: Flags, spread: Spread) -> pd.DataFrame:
    """An evenly spread sample of the used rows, large enough to detect a feature that leaks the target."""
    every = max(1, int(used.sum()) // 100_000)
    chosen = used & (np.cumsum(used) % every == 0)
    return read_sample(customers, [len(part) for part in facts], chosen, spread)


def _score(
    compared: ComparedVersions,
    clients: Clients,
    refusals: dict[str, Refusal | None],
    sources: list[tuple[DrawnCustomers, NDArray[np.uint64] | None]],
    rows: int,
) -> tuple[dict[str, Scores], dict[str, Refusal]]:
    """The scores of all rows by role, and why a role has none. The sources are customers and, if only some of them count, their hashes."""
    scores: dict[str, Scores] = {}
    failed = {role: refusal for role, refusal in refusals.items() if refusal}
    for role, version in compared.versions.items():
        if role in failed:
            continue
        try:
            parts = _score_with(version, clients, sources)
        except Unscorable as error:
            failed[role] = error.refusal
        except FilesGone as error:
            if role == CHALLENGER:
                raise
            failed[role] = missing(role, version, error.what)
        except CannotScore as error:
            log.exception("Version %s cannot score the unseen customers.", version)
            why = f"version {version} cannot score today's customers ({error.what}): it was made for another contract."
            failed[role] = Refusal(Reason.CHAMPION_UNSCORABLE, why)
        else:
            scores[role] = np.concatenate(parts)
            refusal = find_invalid_scores(version, scores[role], rows)
            if refusal:
                failed[role] = refusal
                del scores[role]
    refusal = failed.get(CHALLENGER)
    if refusal and refusal.code is Reason.CHAMPION_UNSCORABLE:
        raise ModelUnloadable(
            f"The challenger cannot be used: {refusal.sentence} Nothing was promoted. See its training run in MLflow."
        )
    return scores, failed


def _score_with(
    version: int, clients: Clients, sources: list[tuple[DrawnCustomers, NDArray[np.uint64] | None]]
) -> list[Scores]:
    """The scores of each source.

    Raises:
        CannotScore: the version cannot be opened, or raised an error. What goes wrong around it, such as a full disk, is raised as it is.
        Unscorable, FilesGone: as `open_scorer`.
    """
    with ExitStack() as opened:
        try:
            scorer = opened.enter_context(open_scorer(version, clients.ledger, clients.tracking, clients.environments))
        except ChurnError:
            raise
        except Exception as error:  # a version can fail in any way; the reason is recorded, and the policy holds
            raise CannotScore(type(error).__name__) from error
        step = f"Scoring unseen customers with version {version}"
        return [score_customers(customers, scorer, only, clients.spread, step) for customers, only in sources]


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)
