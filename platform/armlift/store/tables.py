"""The tables, defined once; Alembic makes them (`armlift db upgrade`), nothing else does.

Events are keyed by (request_day, event_id): the UTC day of their request, and an id that begins with the
request's time, so that new rows land together. PostgreSQL keeps impressions and feedback in a partition a
request day (see `partitions`); exposures are few, wanted for ever, and stay in one table. `day` is the day of
the event in the lab's time zone, counted from 1970-01-01. Times are UTC milliseconds.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    Unicode,
    text,
)

SCHEMA_REVISION = "0010"
"""The newest Alembic revision; a test holds it against the migrations."""

metadata = MetaData(
    naming_convention={"ix": "ix_%(column_0_label)s", "pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s"}
)

NAME = String(200)
IDENTITY = String(32)

runs = Table(
    "runs",
    metadata,
    Column("run", NAME, nullable=False),
    Column("number", Integer, nullable=False, unique=True, comment="1 for the first run of this database"),
    Column("experiment", NAME, nullable=False),
    Column("mode", NAME, nullable=False),
    Column("paired", Boolean, nullable=False),
    Column("k", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("state", NAME, nullable=False, comment="running or finished"),
    Column("synthetic", Boolean, nullable=False),
    Column("definition", JSON, nullable=False, comment="the experiment and its metrics as they were"),
    Column("arms", JSON, nullable=False, comment="arm to version"),
    Column("log", JSON, nullable=False, comment="files, sha256, rows, times, kinds, the cut"),
    Column("resolution", JSON, nullable=False, comment="requests compared and differing, by arm"),
    Column("dropped", JSON, nullable=False, comment="what was left out, and how often"),
    # Experiments that are live at the same time share the events of one run.
    PrimaryKeyConstraint("run", "experiment"),
)


def _event_columns() -> list[Column[object]]:
    """Begin a table of events: two days, then the fields of the event in their order (see `events`)."""
    return [
        Column("request_day", Integer, nullable=False),
        Column("day", Integer, nullable=False),
        Column("event_id", IDENTITY, nullable=False),
        Column("run", NAME, nullable=False),
        Column("ts", BigInteger, nullable=False),
    ]


exposures = Table(
    "exposures",
    metadata,
    *_event_columns(),
    Column("unit_id", NAME, nullable=False),
    Column("experiment", NAME, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("arm", NAME, nullable=False),
    Column("arm_version", NAME, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("fallback", Boolean, nullable=False),
    PrimaryKeyConstraint("request_day", "event_id"),
    Index("ix_exposures_unit", "run", "experiment", "unit_id", "ts"),
    sqlite_with_rowid=False,
)

impressions = Table(
    "impressions",
    metadata,
    *_event_columns(),
    Column("request_id", IDENTITY, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("arm", NAME, nullable=False),
    Column("arm_version", NAME, nullable=False),
    Column("item_id", NAME, nullable=False),
    Column("position", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("score", Float),
    Column("propensity", Float),
    Column("fallback", Boolean, nullable=False),
    PrimaryKeyConstraint("request_day", "event_id"),
    Index("ix_impressions_unit", "run", "unit_id", "day"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (request_day)",
)

feedback = Table(
    "feedback",
    metadata,
    *_event_columns(),
    Column("request_id", IDENTITY, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("item_id", NAME, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("value", Float, nullable=False),
    Column("ordinal", Integer, nullable=False),
    PrimaryKeyConstraint("request_day", "event_id"),
    Index("ix_feedback_unit", "run", "unit_id", "day"),
    sqlite_with_rowid=False,
    postgresql_partition_by="RANGE (request_day)",
)

PARTITIONED = (impressions, feedback)


def is_partition(name: str) -> bool:
    """Tell whether a table is a partition of PostgreSQL's: impressions_20220415, or impressions_other."""
    table, _, rest = name.rpartition("_")
    return table in {one.name for one in PARTITIONED} and (rest == "other" or rest.isdigit())


aliases = Table(
    "aliases",
    metadata,
    Column("run", NAME, nullable=False),
    Column("anonymous_id", NAME, nullable=False),
    Column("ts", BigInteger, nullable=False),
    Column("unit_id", NAME, nullable=False, comment="whom the id was merged into"),
    # By it an id's first merge comes first.
    PrimaryKeyConstraint("run", "anonymous_id", "ts", "unit_id"),
    Index("ix_aliases_unit", "run", "unit_id"),
    sqlite_with_rowid=False,
)

unit_attributes = Table(
    "unit_attributes",
    metadata,
    Column("run", NAME, nullable=False),
    Column("attribute", NAME, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("ts", BigInteger, nullable=False, comment="when it was told"),
    Column("value", NAME, nullable=False),
    PrimaryKeyConstraint("run", "attribute", "unit_id"),
    sqlite_with_rowid=False,
)

unit_days = Table(
    "unit_days",
    metadata,
    Column("run", NAME, nullable=False),
    Column("experiment", NAME, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("day", Integer, nullable=False),
    Column("metric", NAME, nullable=False),
    Column("side", String(4), nullable=False, comment="pre or post the unit's first exposure"),
    Column("arm", NAME, nullable=False, comment="the arm of the unit's exposure"),
    Column("num", Float, nullable=False),
    Column("den", Float, nullable=False),
    Column("num_sq", Float, nullable=False, comment="sum of squares of the numerator's events"),
    # A unit's rows of a metric lie together, day by day, so that one pass in key order gives its totals.
    PrimaryKeyConstraint("run", "experiment", "unit_id", "arm", "metric", "day", "side"),
    sqlite_with_rowid=False,
)

touched_cells = Table(
    "touched_cells",
    metadata,
    Column("mark", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("run", NAME, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("day", Integer, comment="of the new events; null for exposures and merges"),
    Column("arm", NAME, comment="of an exposure"),
    Column("ts", BigInteger, comment="of an exposure"),
)
"""What the rollup has yet to compute: marks, written with the events and deleted with what they led to."""

expired = Table(
    "expired",
    metadata,
    Column("table", NAME, primary_key=True),
    Column("before", Integer, nullable=False, comment="events of earlier request days are gone"),
)

arrivals = Table(
    "arrivals",
    metadata,
    Column("stream_id", NAME, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("run", NAME, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False, comment="of the events"),
    Column("events", BigInteger, nullable=False, comment="as they arrived, repeats included"),
    Column("late", BigInteger, nullable=False, comment="of them, older than the watermark at their arrival"),
    Column("watermark", BigInteger, nullable=False, comment="the newest arrival less the lateness allowed"),
)

stream_offsets = Table(
    "stream_offsets",
    metadata,
    Column("stream_id", NAME, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next", BigInteger, nullable=False, comment="offset of the first record not yet in these tables"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("stream_id", NAME, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("index", Integer, nullable=False, comment="of the event in its message; -1: the message itself"),
    Column("reason", Text, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    Column("schema", Integer, comment="of the event's message; null: 1, or no event"),
    PrimaryKeyConstraint("stream_id", "partition", "offset", "index"),
)

ingesters = Table(
    "ingesters",
    metadata,
    Column("id", IDENTITY, primary_key=True),
    Column("stream_id", NAME, nullable=False),
    Column("host", NAME, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started", BigInteger, nullable=False, comment="by the database's clock"),
    Column("seen", BigInteger, nullable=False, comment="the last sign of life, by the database's clock"),
    Column("figures", JSON, nullable=False, comment="what it did since its start"),
    Column("recent", JSON, nullable=False, comment="what it did between its last two signs of life"),
)

models = Table(
    "models",
    metadata,
    Column("arm", NAME, primary_key=True),
    Column("scope", NAME, primary_key=True, comment="an experiment's name, or * for every one"),
    Column("version", NAME, primary_key=True),
    Column("state", NAME, nullable=False, comment="candidate, promoted, retired or refused"),
    Column("data_hash", NAME, nullable=False),
    Column("data_until", BigInteger, nullable=False),
    Column("definition_hash", NAME, nullable=False),
    Column("parent", NAME),
    Column("promoted", BigInteger, comment="when it last began to serve, UTC milliseconds; null: never"),
    Column("reasons", JSON, comment="why it was refused"),
    # One version of an arm serves in a scope, whoever promotes at the same time.
    Index(
        "uq_models_promoted",
        "arm",
        "scope",
        unique=True,
        sqlite_where=text("state = 'promoted'"),
        postgresql_where=text("state = 'promoted'"),
    ),
)

prompts = Table(
    "prompts",
    metadata,
    Column("arm", NAME, nullable=False),
    Column("version", NAME, nullable=False),
    Column("unit_id", NAME, nullable=False),
    Column("position", Integer, nullable=False, comment="of the behaviour answered, in the history it had"),
    Column("step", Integer, nullable=False, comment="which of the prompts to this behaviour, from 0"),
    Column("item_id", NAME, nullable=False),
    Column("score", Float, nullable=False),
    Column("answered", NAME, nullable=False, comment="the item of the behaviour answered"),
    Column("ts", BigInteger, nullable=False, comment="when that was"),
    Column("history_hash", IDENTITY, nullable=False, comment="of the history the model was told"),
    Column("written", BigInteger, nullable=False),
    PrimaryKeyConstraint("arm", "version", "unit_id", "position", "step"),
    # Whoever serves asks every few seconds whether prompts were written.
    Index("ix_prompts_written", "arm", "version", "written"),
    sqlite_with_rowid=False,
)
"""What models said to units at night, for the next day's requests."""

prompt_ratings = Table(
    "prompt_ratings",
    metadata,
    Column("arm", NAME, nullable=False),
    Column("version", NAME, nullable=False),
    Column("run", NAME, nullable=False, comment="whose unit it is: its history there was shown"),
    Column("unit_id", NAME, nullable=False),
    Column("rater", NAME, nullable=False),
    Column("source", NAME, nullable=False, comment="of the list: model, popular, random or shuffled"),
    Column("rating", Integer, nullable=False, comment="1 to 5"),
    Column("position", Integer, nullable=False, comment="where the list stood, from 0"),
    Column("items", JSON, nullable=False, comment="of the list, in their order"),
    Column("at", BigInteger, nullable=False),
    # Whoever rates the same again takes the earlier rating back.
    PrimaryKeyConstraint("arm", "version", "run", "unit_id", "rater", "source"),
)
"""What people think of a model's prompts beside other lists, told nothing of where each came from."""

experiments = Table(
    "experiments",
    metadata,
    Column("experiment", NAME, nullable=False),
    Column("version", Integer, nullable=False, comment="1 as it was started; each edit is another"),
    Column("definition", JSON, nullable=False, comment="the experiment and its metrics, as in its file"),
    Column("hash", IDENTITY, nullable=False),
    Column("run", NAME, nullable=False, comment="that its events bear"),
    Column("state", NAME, nullable=False, comment="running, paused or stopped; of the newest version"),
    Column("by", NAME, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("experiment", "version"),
)
"""Experiments that were started: serving reads these, never the YAML."""

phases = Table(
    "phases",
    metadata,
    Column("experiment", NAME, nullable=False),
    Column("number", Integer, nullable=False, comment="from 0"),
    Column("start", BigInteger, nullable=False),
    Column("traffic", Float, nullable=False),
    Column("weights", JSON, comment="new weights of the arms; null: as before"),
    Column("reason", Text, nullable=False),
    Column("by", NAME, nullable=False),
    PrimaryKeyConstraint("experiment", "number"),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", IDENTITY, primary_key=True),
    Column("job", NAME, nullable=False, comment="such as nightly or monitor"),
    Column("subject", NAME, nullable=False, comment="what it is done for: a run and a day, or a time"),
    Column("step", NAME, nullable=False, comment="empty: the whole job"),
    Column("arm", NAME, nullable=False, comment="empty: of no one arm"),
    Column("scope", NAME, nullable=False, comment="of the arm; empty: of no one arm"),
    Column("attempt", Integer, nullable=False, comment="from 1"),
    Column("status", NAME, nullable=False, comment="running, succeeded, failed or skipped"),
    Column("started", BigInteger, nullable=False),
    Column("ended", BigInteger),
    Column(
        "owner", NAME, nullable=False, comment="the process that does it: host, process id, and its start"
    ),
    Column("seen", BigInteger, nullable=False, comment="its last sign of life, by the database's clock"),
    Column("inputs_hash", IDENTITY, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("versions", JSON, nullable=False, comment="of armlift, Python and the libraries that count"),
    Column("log", Text, comment="the file that holds what it wrote"),
    Column("error", Text),
    Index("ix_job_runs_subject", "job", "subject"),
    # The lock: a job is done by one process at a time.
    Index(
        "uq_job_runs_running",
        "job",
        "subject",
        "step",
        "arm",
        "scope",
        unique=True,
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
)
"""What jobs did, attempt by attempt: of what, with what, what came of it, and how long it took."""

scheduled_jobs = Table(
    "scheduled_jobs",
    metadata,
    Column("id", Unicode(191), primary_key=True),
    Column("next_run_time", Float(25), index=True),
    Column("job_state", LargeBinary, nullable=False),
)
"""APScheduler's own: when each job is due next."""

alerts = Table(
    "alerts",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", NAME, nullable=False),
    Column("subject", NAME, nullable=False),
    Column("text", Text, nullable=False),
    Column("details", JSON, nullable=False),
    Column("deliveries", JSON, nullable=False, comment="what became of it, by channel"),
    Index("ix_alerts_subject", "kind", "subject", "at"),
)
"""What somebody should know of, and whether they were told."""

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", IDENTITY, primary_key=True, comment="the hash of what the report rests on"),
    Column("run", NAME, nullable=False),
    Column("experiment", NAME, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("version", NAME, nullable=False, comment="of armlift"),
    Column("definition_hash", IDENTITY, nullable=False),
    Column("sql", Text, nullable=False, comment="what asked for the units' totals"),
    Column("aggregates", JSON, nullable=False, comment="the run, the time zone, the database's answers"),
    Column("report", JSON, nullable=False, comment="as it was first given"),
    Index("ix_snapshots_run", "run"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", IDENTITY, primary_key=True),
    Column("experiment", NAME, nullable=False),
    Column("run", NAME, nullable=False),
    Column("arm", NAME, comment="that ships; null where the experiment is stopped"),
    Column("action", NAME, nullable=False, comment="ship or stop"),
    Column("snapshot", IDENTITY, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", NAME, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("verdict_status", NAME, nullable=False, comment="the snapshot's"),
    Column("overridden", Boolean, nullable=False, comment="the verdict was not to ship this arm"),
    Index("ix_decisions_experiment", "experiment", "at"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("by", NAME, nullable=False),
    Column("action", NAME, nullable=False),
    Column("subject", NAME, nullable=False, comment="what was acted on, such as experiment/NAME"),
    Column("details", JSON, nullable=False),
)
"""What people did that counts, in its order; rows are only ever added."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", IDENTITY, primary_key=True, comment="12 hexadecimal digits, a part of the key"),
    Column("name", NAME, nullable=False),
    Column("hash", String(64), nullable=False, comment="sha256 of the secret, which is kept nowhere"),
    Column("scopes", JSON, nullable=False, comment="what it opens"),
    Column("created", BigInteger, nullable=False),
    Column("by", NAME, nullable=False),
    Column("expires", BigInteger, comment="null: never"),
    Column("revoked", BigInteger, comment="when it ends, or ended, before that; null: it does not"),
    # One key of a name is the current one, whoever makes and rotates at the same time.
    Index(
        "uq_api_keys_name",
        "name",
        unique=True,
        sqlite_where=text("revoked IS NULL"),
        postgresql_where=text("revoked IS NULL"),
    ),
)
"""Who may ask `armlift serve`, and for what."""

items = Table(
    "items",
    metadata,
    Column("item_id", NAME, primary_key=True),
    Column("available", Boolean, nullable=False, comment="whether it may be shown"),
    Column("attributes", JSON, nullable=False, comment="name to text, number or bool"),
    Column("updated", BigInteger, nullable=False),
    # Whoever serves asks every few seconds what changed.
    Index("ix_items_updated", "updated"),
)
"""What is known of the catalogue."""

forgotten = Table(
    "forgotten",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("secret", String(64), nullable=False, comment="of the lab, by which ids are hashed"),
    Column("unit", String(64), nullable=False, comment="the id's HMAC-SHA256; the id is kept nowhere"),
    Column("at", BigInteger, nullable=False, comment="what happened up to then is not taken in again"),
    Column("by", NAME, nullable=False),
    Column("erased", BigInteger, comment="when its rows were gone; null: that was broken off"),
    Column("counts", JSON, nullable=False, comment="what was erased, by where it was"),
    Column("dropped", BigInteger, nullable=False, comment="events that came later and were not taken in"),
    Index("uq_forgotten_unit", "secret", "unit", "at", unique=True),
)
"""Ids of units that were erased; a person who comes back is a new unit, and can be forgotten again."""
