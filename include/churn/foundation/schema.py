"""The tables of the ledger. A change needs a new migration; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

HEAD = "0019"
"""The migration that creates these tables."""


class Moment(TypeDecorator[datetime]):
    """A time in UTC. SQLite stores no time zone, so it is added again on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002, D102
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002, D102
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

batches = Table(
    "batches",
    metadata,
    Column("batch", Text, primary_key=True, doc="sha256 of the file's bytes"),
    Column("arrival", Integer, nullable=False, unique=True, doc="order of arrival"),
    Column("name", Text, nullable=False, doc="name of the file in landing"),
    Column("size", BigInteger, nullable=False, doc="bytes"),
    Column("arrived_at", Moment, nullable=False, doc="when the file was written to landing"),
    Column("state", Text, nullable=False, index=True, doc="arrived, accepted, rejected or withdrawn"),
    Column("night", Text, index=True, doc="the run that judged it"),
    Column("arrived_rows", Integer, doc="rows in the file; null: not validated yet"),
    Column("accepted_rows", Integer, doc="rows that may be used"),
    Column("quarantined_rows", Integer, doc="rows that broke a rule or have no label"),
    Column("reason", Text, doc="why it was rejected"),
    Column("judged_at", Moment, index=True, doc="when it was accepted or rejected"),
    Column("unlabelled_rows", Integer, doc="quarantined rows that are only waiting for their label"),
    Column("events", Integer, doc="accepted rows with target 1"),
    Column("rules", JSON, doc="rules that rows broke: name, rows, first lines; the most frequent first"),
    Column("warnings", JSON, doc="warnings that did not reject the batch"),
    Column("origin", Text, doc="the batch whose quarantined rows this one repairs"),
    Column("accepted_sha256", Text, doc="of the file of accepted rows"),
    Column("quarantined_sha256", Text, doc="of the manifest of quarantined rows; null: there are none, or it is older"),
    Column("kind", Text, doc="rows (or null), labels, or leavers"),
    Column("complete_from", Text, doc="of leavers: the date from which every event is known; null: of all time"),
    Column("complete_through", Text, doc="of leavers: the date through which every event is known; null: not stated"),
    CheckConstraint("state IN ('arrived', 'accepted', 'rejected', 'withdrawn')", name="state"),
    CheckConstraint("arrived_rows = accepted_rows + quarantined_rows", name="no_row_lost"),
)

sightings = Table(
    "sightings",
    metadata,
    Column("batch", Text, ForeignKey("batches.batch"), primary_key=True, doc="sha256 of the file's bytes"),
    Column("name", Text, primary_key=True, doc="name of the file in landing"),
    Column("arrived_at", Moment, primary_key=True, doc="when the file was written to landing"),
    Column("seen_at", Moment, nullable=False, doc="when it was found there"),
)
"""Every file ever seen in landing; the first one of a batch is the one that was ingested."""

withdrawals = Table(
    "withdrawals",
    metadata,
    Column("batch", Text, ForeignKey("batches.batch"), primary_key=True, doc="the batch"),
    Column("sequence", Integer, primary_key=True, autoincrement=False, doc="1, 2, ... for each batch"),
    Column("kind", Text, nullable=False, doc="withdrawn from future snapshots, or restored to them"),
    Column("reason", Text, nullable=False, doc="the person's reason"),
    Column("at", Moment, nullable=False, doc="when"),
    CheckConstraint("kind IN ('withdrawn', 'restored')", name="kind"),
)

drifts = Table(
    "drifts",
    metadata,
    Column("batch", Text, ForeignKey("batches.batch"), primary_key=True, doc="the batch that was compared"),
    Column("column", Text, primary_key=True, doc="column of the contract"),
    Column("psi", Float, nullable=False, doc="population stability index against the accepted history"),
    Column("bound", Float, nullable=False, doc="the bound that psi was compared with"),
    Column("measure", Text, nullable=False, doc="kolmogorov_smirnov for numbers, cramers_v for categories"),
    Column("value", Float, nullable=False, doc="of the measure"),
    Column("drifted", Boolean, nullable=False, doc="whether psi is above the bound"),
    Column("new_categories", JSON, nullable=False, doc="categories that no earlier batch had"),
    Column("reference_rows", Integer, nullable=False, doc="accepted rows that the batch was compared with"),
    CheckConstraint("measure IN ('kolmogorov_smirnov', 'cramers_v')", name="measure"),
)

version_flags = Table(
    "version_flags",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("version", Integer, primary_key=True, autoincrement=False, doc="the version that was trained on the batch"),
    Column("batch", Text, ForeignKey("batches.batch"), primary_key=True, doc="trained on, and withdrawn since"),
    Column("reason", Text, nullable=False, doc="why the batch was withdrawn"),
    Column("flagged_at", Moment, nullable=False, doc="when the version was flagged"),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("snapshot", Text, primary_key=True, doc="hash of the rows"),
    Column("rows", Integer, nullable=False, doc="accepted rows in all"),
    Column("training_rows", Integer, nullable=False, doc="rows that may be trained on"),
    Column("holdout_rows", Integer, nullable=False, doc="rows that no version is trained on"),
    Column(
        "batches",
        JSON,
        nullable=False,
        doc="its batches: the first and the last arrival of each range; hashes where these do not tell",
    ),
    Column("salt_fingerprint", Text, nullable=False, doc="hash of the salt that assigns customers to the holdout"),
    Column("contract_fingerprint", Text, nullable=False, doc="hash of the data contract"),
    Column("made_at", Moment, nullable=False, index=True, doc="when it was taken"),
    Column("format", Integer, doc="how its rows are kept and its name is made; null: 1"),
    Column("cutoff", Text, doc="rows count whose horizon has passed by this date; null: the contract has no horizon"),
    Column("complete", JSON(none_as_null=True), doc="the as-of dates of which every label is final; null: no panel"),
    Column(
        "waiting", JSON(none_as_null=True), doc="the rows that wait for their label, by as-of date; null: no horizon"
    ),
)

cutoffs = Table(
    "cutoffs",
    metadata,
    Column("night", Text, primary_key=True, doc="the run"),
    Column("cutoff", Text, nullable=False, doc="the cut-off date of its snapshot, which a repeated step uses again"),
    Column("fixed_at", Moment, nullable=False, doc="when its first step fixed it"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("night", Text, primary_key=True, doc="the run that decided"),
    Column("model", Text, nullable=False, doc="name of the registered model"),
    Column("challenger", Integer, nullable=False, doc="version of the challenger"),
    Column("champion", Integer, doc="version in production at the time; null: none"),
    Column(
        "snapshot", Text, ForeignKey("snapshots.snapshot"), nullable=False, doc="what the challenger was trained on"
    ),
    Column("verdict", Text, nullable=False, doc="promote or hold"),
    Column("code", Text, nullable=False, doc="reason of the verdict"),
    Column("sentence", Text, nullable=False, doc="the verdict in words"),
    Column("rules", JSON, nullable=False, doc="every rule: name, code, passed, value, bound, sentence"),
    Column("comparison", JSON, nullable=False, doc="the evidence: case, metrics, differences, slices, calibration"),
    Column("policy", Text, nullable=False, doc="text of the policy file"),
    Column("dry_run", Boolean, nullable=False, doc="decided without changing anything"),
    Column("note", Text, doc="note of the person who started the run"),
    Column("run_id", Text, nullable=False, doc="MLflow run of the comparison"),
    Column("decided_at", Moment, nullable=False, index=True, doc="when"),
    Column("watch", JSON, nullable=False, doc="the test of the champion itself against floor and calibration"),
    Column("digests", JSON, nullable=False, doc="hashes of what a replay reads, by name"),
    Column("code_version", Text, nullable=False, doc="commit or version of the code that decided"),
    Column("approval", Boolean, nullable=False, doc="a person must approve the promotion"),
    Column("requested_by", Text, doc="the person who started the run, if one did"),
    Column(
        "curves",
        JSON(none_as_null=True),
        doc="points of the ROC and calibration charts; null: nothing was measured, or the decision is older",
    ),
    Column("rules_version", Integer, doc="version of the rules that decided; null: before versions were stored"),
    CheckConstraint("verdict IN ('promote', 'hold')", name="verdict"),
    Index(None, "model", "decided_at"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("version", Integer, primary_key=True, autoincrement=False, doc="number in the MLflow registry"),
    Column("night", Text, nullable=False, doc="the run that trained it"),
    Column("run_id", Text, nullable=False, doc="MLflow run of the training"),
    Column("snapshot", Text, ForeignKey("snapshots.snapshot"), nullable=False, doc="what it was trained on"),
    Column("artifacts", Text, nullable=False, doc="sha256 over its files when it was registered"),
    Column("registered_at", Moment, nullable=False, doc="when it was registered"),
    Column(
        "parameters",
        JSON(none_as_null=True),
        doc="training parameters by name; null: the version is older than this column",
    ),
    Column(
        "trusted_types",
        JSON(none_as_null=True),
        doc="types in its files that are loaded because its candidates declared or defined them; null: none",
    ),
    Column("contacted_rows", Integer, doc="training rows of customers whom a list had contacted; null: not counted"),
    Column("contacted_trained", Boolean, doc="whether it was trained on these rows; null: not counted"),
)

looks = Table(
    "looks",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("look", Text, primary_key=True, doc="sha256 of champion, rows and scores"),
    Column("epoch", Integer, nullable=False, doc="sequence of the promotion that made the champion"),
    Column("calendar_night", Text, nullable=False, doc="date of the night in the time zone of the settings"),
    Column("position", Integer, nullable=False, doc="0, 1, ... within the calendar night and epoch"),
    Column("night", Text, nullable=False, doc="the run that tested"),
    Column("taken_at", Moment, nullable=False, doc="when"),
    UniqueConstraint("model", "epoch", "calendar_night", "position"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("night", Text, ForeignKey("decisions.night"), primary_key=True, doc="the run that was waiting"),
    Column("answer", Text, nullable=False, doc="approved, rejected or expired"),
    Column("by", Text, nullable=False, doc="the person who answered; empty if nobody did"),
    Column("reason", Text, nullable=False, doc="the person's reason"),
    Column("at", Moment, nullable=False, doc="when"),
    CheckConstraint("answer IN ('approved', 'rejected', 'expired')", name="answer"),
)

promotions = Table(
    "promotions",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column(
        "sequence",
        Integer,
        primary_key=True,
        autoincrement=False,
        doc="1, 2, ...: the key makes promotion compare-and-set",
    ),
    Column("version", Integer, doc="in production from this change on; null after the only champion was rolled back"),
    Column("previous", Integer, doc="in production until this change"),
    Column(
        "kind", Text, nullable=False, doc="promotion, forced, rollback, take_back (an automatic rollback) or adopted"
    ),
    Column("night", Text, nullable=False, doc="the run or command that made the change"),
    Column("reason", Text, nullable=False, doc="why, in words"),
    Column("promoted_at", Moment, nullable=False, index=True, doc="when"),
    Column("mirrored_at", Moment, doc="when the MLflow registry showed it; null: not yet"),
    Column(
        "anchor",
        Integer,
        doc="the baseline at that time: the first champion, or the last version promoted as superior since",
    ),
    Column("actor", Text, nullable=False, doc="the person or process behind it"),
    Column("code", Text, nullable=False, doc="the rule that decided"),
    CheckConstraint("kind IN ('promotion', 'forced', 'rollback', 'take_back', 'adopted')", name="kind"),
    UniqueConstraint("model", "night", "kind"),
)

thaws = Table(
    "thaws",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column(
        "sequence",
        Integer,
        primary_key=True,
        autoincrement=False,
        doc="the promotion that turned automatic promotion off",
    ),
    Column("reason", Text, nullable=False, doc="the person's reason"),
    Column("by", Text, nullable=False, doc="the person who turned automatic promotion on again"),
    Column("at", Moment, nullable=False, doc="when"),
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("reason", Text, nullable=False, doc="why a ROC AUC above sanity.max_model_auc is plausible"),
    Column("by", Text, nullable=False, doc="the person who confirmed"),
    Column("at", Moment, nullable=False, doc="when"),
)

owner = Table(
    "owner",
    metadata,
    Column("part", Integer, primary_key=True, autoincrement=False, doc="always 1: a ledger has one owner"),
    Column("contract", Text, nullable=False, doc="name of the data contract"),
    Column("model", Text, nullable=False, doc="name of the registered model"),
    Column("since", Moment, nullable=False, doc="when the ledger got its owner"),
    CheckConstraint("part = 1", name="part"),
)

images = Table(
    "images",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("version", Integer, primary_key=True, autoincrement=False, doc="the version that it serves"),
    Column("state", Text, nullable=False, doc="published, not_built, mismatch, faulty, failed or pruned"),
    Column("tag", Text, doc="its tag; null: not built"),
    Column("image_id", Text, doc="id in the container engine; null: not built"),
    Column("probes", Integer, nullable=False, doc="answers that were compared with the model's"),
    Column("max_difference", Float, doc="largest difference of an answer; null where there was none to compare"),
    Column("detail", Text, nullable=False, doc="the result in words"),
    Column("recorded_at", Moment, nullable=False, doc="when the state was recorded"),
    Column("digest", Text, doc="digest in the image registry, read back from it; null: never pushed"),
    Column("size", BigInteger, doc="bytes, the base included"),
    Column("build_seconds", Float, doc="duration of the build; null: not built"),
    CheckConstraint("state IN ('published', 'not_built', 'mismatch', 'faulty', 'failed', 'pruned')", name="state"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("key", Text, primary_key=True, doc="names the event: alerts are sent once per event"),
    Column("kind", Text, nullable=False, doc="kind of event, which channels subscribe to"),
    Column("subject", Text, nullable=False, doc="first line"),
    Column("text", Text, nullable=False, doc="the message, which ends with the next step"),
    Column("link", Text, nullable=False, doc="page to open"),
    Column("noticed_at", Moment, nullable=False, index=True, doc="when the event was noticed"),
    Column("sent_at", Moment, doc="when every subscribed channel had it; null: still waiting"),
    Column("sent_to", JSON, nullable=False, doc="the channels that have received it"),
    Column("claimed_at", Moment, doc="when a process claimed it for sending"),
    Index(None, "kind", "noticed_at"),
)

populations = Table(
    "populations",
    metadata,
    Column("population", Text, primary_key=True, doc="sha256 of the bytes of the file"),
    Column("arrival", Integer, nullable=False, unique=True, doc="order of arrival"),
    Column("name", Text, nullable=False, doc="name of the file"),
    Column("size", BigInteger, nullable=False, doc="bytes"),
    Column("arrived_at", Moment, nullable=False, doc="when the file was written to landing"),
    Column("state", Text, nullable=False, index=True, doc="arrived, judged or rejected"),
    Column("night", Text, doc="the run that judged it"),
    Column("arrived_rows", Integer, doc="rows in the file; null: not judged yet"),
    Column("accepted_rows", Integer, doc="rows that can be scored"),
    Column("quarantined_rows", Integer, doc="rows that broke a rule"),
    Column("rules", JSON, doc="rules that rows broke: name, rows, first lines; the most frequent first"),
    Column("reason", Text, doc="why it was rejected"),
    Column("judged_at", Moment, doc="when it was judged"),
    CheckConstraint("state IN ('arrived', 'judged', 'rejected')", name="state"),
    CheckConstraint("arrived_rows = accepted_rows + quarantined_rows", name="no_row_lost"),
)
"""Files of current customers, who are scored and not trained on."""

score_lists = Table(
    "score_lists",
    metadata,
    Column("list_id", Text, primary_key=True, doc="hash of what the list was made from"),
    Column("model", Text, nullable=False, doc="name of the registered model"),
    Column("sequence", Integer, nullable=False, doc="1, 2, ... for each model"),
    Column("version", Integer, nullable=False, doc="the version that scored"),
    Column("campaign", Text, nullable=False, doc="name of the campaign; its newest list is the current one"),
    Column("population", Text, nullable=False, doc="hash of the customers: of a file, or of a snapshot"),
    Column("source", Text, nullable=False, doc="where the customers come from: file or accepted"),
    Column("source_name", Text, nullable=False, doc="name of the file, or of the snapshot"),
    Column("policy", Text, nullable=False, doc="the scoring policy in force, as JSON"),
    Column("excludes", JSON, nullable=False, doc="lists of other campaigns whose customers are left out"),
    Column("continues", JSON, nullable=False, doc="earlier lists of the campaign whose customers keep their treatment"),
    Column("arrived_rows", Integer, nullable=False, doc="customers that arrived"),
    Column("rows", Integer, nullable=False, doc="customers that were scored"),
    Column("quarantined_rows", Integer, nullable=False, doc="customers that broke a rule"),
    Column("contact", Integer, nullable=False, doc="customers to contact"),
    Column("control", Integer, nullable=False, doc="customers who would be contacted and are left alone"),
    Column("summary", JSON, nullable=False, doc="counts and sums that pages show, without any customer"),
    Column("manifest", Text, nullable=False, doc="sha256 of the manifest of its parts"),
    Column("night", Text, nullable=False, doc="the run or command that made it"),
    Column("requested_by", Text, doc="the person who asked for it, if one did"),
    Column("published_at", Moment, nullable=False, index=True, doc="when it was published"),
    CheckConstraint("source IN ('file', 'accepted')", name="source"),
    CheckConstraint("arrived_rows = rows + quarantined_rows", name="no_row_lost"),
    UniqueConstraint("model", "sequence"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("list_id", Text, ForeignKey("score_lists.list_id"), primary_key=True, doc="the list"),
    Column("target", Text, primary_key=True, doc="where it was delivered to: database or drop"),
    Column(
        "state",
        Text,
        nullable=False,
        doc="delivered; failed: the last attempt did not succeed; due: the list became the current one again; removed: by maintenance",
    ),
    Column("attempts", Integer, nullable=False, doc="number of attempts so far"),
    Column("rows", Integer, doc="customers that were delivered; null: never yet"),
    Column("place", Text, nullable=False, doc="the address, without a password"),
    Column("detail", Text, nullable=False, doc="why the last attempt failed; empty if it succeeded"),
    Column("at", Moment, nullable=False, doc="when it was first delivered; before that, when the last attempt ended"),
    CheckConstraint("target IN ('database', 'drop')", name="target"),
    CheckConstraint("state IN ('delivered', 'failed', 'due', 'removed')", name="state"),
)

arrival_scores = Table(
    "arrival_scores",
    metadata,
    Column("batch", Text, ForeignKey("batches.batch"), primary_key=True, doc="the batch"),
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column(
        "versions", JSON, nullable=False, doc="the versions that scored it on arrival: role, state and detail of each"
    ),
    Column("rows", Integer, nullable=False, doc="rows that were scored"),
    Column("manifest", Text, nullable=False, doc="sha256 of the manifest of the scores"),
    Column("night", Text, nullable=False, doc="the run that scored it"),
    Column("scored_at", Moment, nullable=False, doc="when"),
)

outcome_looks = Table(
    "outcome_looks",
    metadata,
    Column("model", Text, primary_key=True, doc="name of the registered model"),
    Column("sequence", Integer, primary_key=True, autoincrement=False, doc="the promotion"),
    Column("night", Text, primary_key=True, doc="the run that looked"),
    Column("state", Text, nullable=False, doc="unconfirmed, confirmed, refuted, undecided or not_comparable"),
    Column("rows", Integer, nullable=False, doc="later rows that compare it with the version before"),
    Column("events", Integer, nullable=False, doc="those of them with the event"),
    Column("figures", JSON, nullable=False, doc="measures, health, shadows, and rows that do not count"),
    Column("evidence", Text, doc="hash of the rows that confirmed or refuted it; null: not decided in this look"),
    Column("looked_at", Moment, nullable=False, doc="when"),
    CheckConstraint("state IN ('unconfirmed', 'confirmed', 'refuted', 'undecided', 'not_comparable')", name="state"),
    Index(None, "model", "sequence", "looked_at"),
)

list_results = Table(
    "list_results",
    metadata,
    Column("list_id", Text, ForeignKey("score_lists.list_id"), primary_key=True, doc="the list"),
    Column("revision", Integer, primary_key=True, autoincrement=False, doc="1, 2, ...: later labels make a new one"),
    Column("rows", Integer, nullable=False, doc="customers of the list whose label is known"),
    Column("events", Integer, nullable=False, doc="those of them with the event"),
    Column("figures", JSON, nullable=False, doc="by decile, at the capacity, and contact group against control group"),
    Column("night", Text, nullable=False, doc="the run that measured"),
    Column("measured_at", Moment, nullable=False, doc="when"),
)
