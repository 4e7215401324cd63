"""First tables: runs, events, the rollup, the stream's offsets, dead letters, models."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(200)
IDENTITY = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("run", NAME, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, comment="1 for the first run of this database"),
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("mode", NAME, nullable=False),
        sa.Column("paired", sa.Boolean, nullable=False),
        sa.Column("k", sa.Integer, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("state", NAME, nullable=False, comment="running or finished"),
        sa.Column("synthetic", sa.Boolean, nullable=False),
        sa.Column(
            "definition", sa.JSON, nullable=False, comment="the experiment and its metrics as they were"
        ),
        sa.Column("arms", sa.JSON, nullable=False, comment="arm to version"),
        sa.Column("log", sa.JSON, nullable=False, comment="files, sha256, rows, times, kinds, the cut"),
        sa.Column("resolution", sa.JSON, nullable=False, comment="requests compared and differing, by arm"),
        sa.Column("dropped", sa.JSON, nullable=False, comment="what was left out, and how often"),
        sa.PrimaryKeyConstraint("run", name="pk_runs"),
        sa.UniqueConstraint("number", name="uq_runs"),
    )
    _create_events()
    op.create_table(
        "unit_days",
        sa.Column("run", NAME, nullable=False),
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("metric", NAME, nullable=False),
        sa.Column("side", sa.String(4), nullable=False, comment="pre or post the unit's first exposure"),
        sa.Column("arm", NAME, nullable=False, comment="the arm of the unit's exposure"),
        sa.Column("num", sa.Float, nullable=False),
        sa.Column("den", sa.Float, nullable=False),
        sa.Column("num_sq", sa.Float, nullable=False, comment="sum of squares of the numerator's events"),
        sa.PrimaryKeyConstraint(
            "run", "experiment", "unit_id", "arm", "metric", "day", "side", name="pk_unit_days"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "stream_offsets",
        sa.Column("stream_id", NAME, nullable=False),
        sa.Column("partition", sa.Integer, autoincrement=False, nullable=False),
        sa.Column(
            "next",
            sa.BigInteger,
            nullable=False,
            comment="offset of the first record not yet in these tables",
        ),
        sa.PrimaryKeyConstraint("stream_id", "partition", name="pk_stream_offsets"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("stream_id", NAME, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column(
            "index",
            sa.Integer,
            nullable=False,
            comment="of the event in its message; -1: the message itself",
        ),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("bytes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "partition", "offset", "index", name="pk_dead_letters"),
    )
    op.create_table(
        "models",
        sa.Column("arm", NAME, nullable=False),
        sa.Column("scope", NAME, nullable=False, comment="an experiment's name, or * for every one"),
        sa.Column("version", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False, comment="candidate, promoted, retired or refused"),
        sa.Column("data_hash", NAME, nullable=False),
        sa.Column("data_until", sa.BigInteger, nullable=False),
        sa.Column("definition_hash", NAME, nullable=False),
        sa.Column("parent", NAME, nullable=True),
        sa.PrimaryKeyConstraint("arm", "scope", "version", name="pk_models"),
    )


def _create_events() -> None:
    op.create_table(
        "exposures",
        *_event_columns(),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("phase", sa.Integer, nullable=False),
        sa.Column("arm", NAME, nullable=False),
        sa.Column("arm_version", NAME, nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("request_day", "event_id", name="pk_exposures"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_exposures_unit", "exposures", ["run", "experiment", "unit_id", "ts"])
    op.create_table(
        "impressions",
        *_event_columns(),
        sa.Column("request_id", IDENTITY, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("arm", NAME, nullable=False),
        sa.Column("arm_version", NAME, nullable=False),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("score", sa.Float, nullable=True),
        sa.Column("propensity", sa.Float, nullable=True),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("request_day", "event_id", name="pk_impressions"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_impressions_unit", "impressions", ["run", "unit_id", "day"])
    op.create_table(
        "feedback",
        *_event_columns(),
        sa.Column("request_id", IDENTITY, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("request_day", "event_id", name="pk_feedback"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_feedback_unit", "feedback", ["run", "unit_id", "day"])


def _event_columns() -> list["sa.Column[object]"]:
    return [
        sa.Column("request_day", sa.Integer, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("event_id", IDENTITY, nullable=False),
        sa.Column("run", NAME, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
    ]
