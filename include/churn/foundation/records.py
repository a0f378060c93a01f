"""The rows of the ledger as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Batch:
    """A file that arrived. `batch` is the sha256 of its bytes; states: arrived, accepted, rejected, withdrawn.

    `rules` contains, for each rule that rows broke, its name, the number of rows and the first lines. `origin`
    is the batch whose quarantined rows this one repairs. `kind` is rows (or None), labels or leavers; of leavers, every event from
    `complete_from` (None: of all time) through `complete_through` (None: it is not said) is known, or would be if it were accepted.
    """

    batch: str
    arrival: int
    name: str
    size: int
    arrived_at: datetime
    state: str
    night: str | None
    arrived_rows: int | None
    accepted_rows: int | None
    quarantined_rows: int | None
    reason: str | None
    judged_at: datetime | None
    unlabelled_rows: int | None
    events: int | None
    rules: list[Any] | None
    warnings: list[str] | None
    origin: str | None
    accepted_sha256: str | None
    quarantined_sha256: str | None = None
    kind: str | None = None
    complete_from: str | None = None
    complete_through: str | None = None


@dataclass(frozen=True)
class BatchVerdict:
    """The verdict on a batch: the columns of the ledger's row, without `batch` and `night`.

    The database checks that arrived = accepted + quarantined.
    """

    state: str
    arrived_rows: int
    accepted_rows: int
    quarantined_rows: int
    unlabelled_rows: int = 0
    events: int = 0
    rules: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reason: str | None = None
    accepted_sha256: str | None = None
    quarantined_sha256: str | None = None
    kind: str | None = None
    complete_from: str | None = None
    complete_through: str | None = None


@dataclass(frozen=True)
class Sighting:
    """A file that was seen in landing."""

    batch: str
    name: str
    arrived_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class Withdrawal:
    """A batch was removed from all future snapshots (`withdrawn`) or returned to them (`restored`)."""

    batch: str
    sequence: int
    kind: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Drift:
    """How far a column of a batch is from the accepted history.

    `psi` is the population stability index. `value` is the value of `measure`: `kolmogorov_smirnov` for numbers,
    `cramers_v` for categories.
    """

    column: str
    psi: float
    bound: float
    measure: str
    value: float
    drifted: bool
    new_categories: list[str]
    reference_rows: int


@dataclass(frozen=True)
class VersionFlag:
    """A version was trained on a batch that has been withdrawn since."""

    model: str
    version: int
    batch: str
    reason: str
    flagged_at: datetime


@dataclass(frozen=True)
class Snapshot:
    """The exact set of accepted rows that a training used; `snapshot` is the hash of its rows.

    `format` says how the rows are kept and how the name is made: None or 1 is one file, 2 is a folder of parts, 3 is a folder of
    parts of a panel. Under a contract with a horizon, rows count whose horizon has passed by `cutoff`; `complete` are the as-of dates
    of which every label is final, and `waiting` the rows that do not count, by as-of date.
    """

    snapshot: str
    rows: int
    training_rows: int
    holdout_rows: int
    batches: list[str]
    salt_fingerprint: str
    contract_fingerprint: str
    made_at: datetime
    format: int | None = None
    cutoff: str | None = None
    complete: list[str] | None = None
    waiting: dict[str, int] | None = None


@dataclass(frozen=True)
class VersionRecord:
    """A registered version: its training data and parameters, and the hash of its files at registration.

    `parameters` is None for a version from before they were recorded. `trusted_types` lists the types in its files that are loaded
    because its candidates declared or defined them; None is none. `contacted_rows` counts the training rows of customers whom a list had
    contacted, and `contacted_trained` says whether it was trained on them; both are None for a version from before they were counted.
    """

    model: str
    version: int
    night: str
    run_id: str
    snapshot: str
    artifacts: str
    registered_at: datetime
    parameters: dict[str, str] | None = None
    trusted_types: list[str] | None = None
    contacted_rows: int | None = None
    contacted_trained: bool | None = None


@dataclass(frozen=True)
class Look:
    """One test of a challenger against the champion on one body of evidence; `look` is the hash of that evidence.

    `epoch` is the promotion that made the champion. `position` counts the looks of a calendar night and epoch from 0.
    """

    model: str
    look: str
    epoch: int
    calendar_night: str
    position: int
    night: str
    taken_at: datetime


@dataclass(frozen=True)
class DecisionRecord:
    """The decision of one run, with its evidence and policy.

    - `digests`: hashes of what a replay reads, by name
    - `watch`: the test of the champion itself
    - `approval`: whether a person must approve the promotion
    - `requested_by`: the person who started the run; None for a scheduled run
    - `curves`: the points of the ROC and calibration charts, see `decision.curves`
    - `rules_version`: the version of the rules that decided; None before versions were stored
    """

    night: str
    model: str
    challenger: int
    champion: int | None
    snapshot: str
    verdict: str
    code: str
    sentence: str
    rules: list[dict[str, Any]]
    comparison: dict[str, Any]
    policy: str
    dry_run: bool
    note: str | None
    run_id: str
    decided_at: datetime
    watch: list[dict[str, Any]] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    code_version: str = ""
    approval: bool = False
    requested_by: str | None = None
    curves: dict[str, Any] | None = None
    rules_version: int | None = None


@dataclass(frozen=True)
class DecisionOutline:
    """What a decision was about and came to; the fields are those of `DecisionRecord`. All of them fit into memory after ten years of nights."""

    night: str
    model: str
    challenger: int
    champion: int | None
    snapshot: str
    verdict: str
    code: str
    dry_run: bool
    decided_at: datetime
    digests: dict[str, str]


@dataclass(frozen=True)
class NightRow:
    """A decision as lists show it: without rules, evidence and policy.

    `asked` is whether a person must approve, `answer` is their answer, and `rows` is the number of unseen customers.
    The metrics are estimates by name, as plain JSON; they are empty if nothing was measured.
    """

    night: str
    challenger: int
    champion: int | None
    verdict: str
    code: str
    sentence: str
    dry_run: bool
    decided_at: datetime
    requested_by: str | None
    asked: bool
    answer: str | None
    rows: int | None
    challenger_metrics: dict[str, Any] | None
    champion_metrics: dict[str, Any] | None


@dataclass(frozen=True)
class Approval:
    """A person's answer to a decision: approved, rejected, or expired if nobody answered in time."""

    night: str
    answer: str
    by: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Promotion:
    """A change of production: `version` from `promoted_at` (None: no version), shown in the MLflow registry from `mirrored_at`.

    `kind` is promotion, forced, rollback, take_back or adopted. `actor` is the person or process behind it, and `code`
    the reason. `anchor` is the baseline version at that time: the first champion, or the last version promoted as superior since.
    """

    model: str
    sequence: int
    version: int | None
    previous: int | None
    kind: str
    night: str
    reason: str
    promoted_at: datetime
    mirrored_at: datetime | None = None
    anchor: int | None = None
    actor: str = ""
    code: str = ""


@dataclass(frozen=True)
class Thaw:
    """Automatic promotion was allowed again after the promotion with this sequence number froze it."""

    model: str
    sequence: int
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Confirmation:
    """A person confirmed that a ROC AUC above `sanity.max_model_auc` is plausible for a registered model."""

    model: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Owner:
    """The data contract and the registered model that a ledger belongs to. `part` is always 1: there is one owner."""

    part: int
    contract: str
    model: str
    since: datetime


@dataclass(frozen=True)
class ImageRecord:
    """The state of a version's serving image.

    - published
    - not_built: there is no container engine; the answers were verified without an image
    - mismatch: its answers differ from the model's
    - faulty: its answers are right, but it breaks an image rule
    - failed: the last attempt ended without a verdict
    - pruned: it was published, and has since been removed from this machine
    """

    model: str
    version: int
    state: str
    tag: str | None
    image_id: str | None
    probes: int
    max_difference: float | None
    detail: str
    recorded_at: datetime
    digest: str | None = None
    size: int | None = None
    build_seconds: float | None = None


@dataclass(frozen=True)
class Alert:
    """One event that alerts are sent for, once: `key` names the event, `text` ends with the next step.

    `sent_to` lists the channels that have received it. `sent_at` is when every subscribed channel had received it.
    """

    key: str
    kind: str
    subject: str
    text: str
    link: str
    noticed_at: datetime
    sent_at: datetime | None = None
    sent_to: list[str] = field(default_factory=list)
    claimed_at: datetime | None = None


@dataclass(frozen=True)
class Population:
    """A file of current customers. `population` is the sha256 of its bytes; states: arrived, judged, rejected."""

    population: str
    arrival: int
    name: str
    size: int
    arrived_at: datetime
    state: str
    night: str | None = None
    arrived_rows: int | None = None
    accepted_rows: int | None = None
    quarantined_rows: int | None = None
    rules: list[Any] | None = None
    reason: str | None = None
    judged_at: datetime | None = None


@dataclass(frozen=True)
class PopulationVerdict:
    """What became of the rows of a population; the database checks that none is lost."""

    state: str
    arrived_rows: int
    accepted_rows: int
    quarantined_rows: int
    rules: list[Any] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True)
class ScoreList:
    """A published list of scores; `list_id` is the hash of what it was made from.

    - `source`: `file` with its name, or `accepted` with the name of the snapshot
    - `excludes`: lists of other campaigns whose customers are left out
    - `continues`: earlier lists of the campaign whose customers keep their treatment
    - `summary`: counts and sums that pages show, see `scoring.summary`
    """

    list_id: str
    model: str
    sequence: int
    version: int
    campaign: str
    population: str
    source: str
    source_name: str
    policy: str
    excludes: list[str]
    continues: list[str]
    arrived_rows: int
    rows: int
    quarantined_rows: int
    contact: int
    control: int
    summary: dict[str, Any]
    manifest: str
    night: str
    requested_by: str | None
    published_at: datetime


@dataclass(frozen=True)
class Delivery:
    """The delivery of a list to a target, `database` or `drop`; states: delivered, failed, due.

    - `rows`: the customers that were delivered, if it ever succeeded; `at` is then the time of the first success, else of the last attempt
    - `place`: the address without a password
    - `detail`: why the last attempt failed
    """

    list_id: str
    target: str
    state: str
    attempts: int
    rows: int | None
    place: str
    detail: str
    at: datetime


@dataclass(frozen=True)
class ArrivalScores:
    """A batch whose rows versions have scored on arrival, before any training could use them.

    `versions` has, for the number of each version as a text, its `role`, its `state` (scored or unscorable) and a `detail`.
    """

    batch: str
    model: str
    versions: dict[str, dict[str, str]]
    rows: int
    manifest: str
    night: str
    scored_at: datetime


@dataclass(frozen=True)
class OutcomeLook:
    """What the later rows so far say of a promotion, see `outcomes.confirmation`.

    `sequence` is that of the promotion. `evidence` is the hash of the rows that confirmed or refuted it; None before.
    """

    model: str
    sequence: int
    night: str
    state: str
    rows: int
    events: int
    figures: dict[str, Any]
    evidence: str | None
    looked_at: datetime


@dataclass(frozen=True)
class ListResult:
    """What became of the customers of a list, as far as it is known; later labels make a new revision."""

    list_id: str
    revision: int
    rows: int
    events: int
    figures: dict[str, Any]
    night: str
    measured_at: datetime
