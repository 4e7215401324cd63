"""Snapshots of reports, the decisions that rest on them, and the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAME = sa.String(200)
IDENTITY = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "snapshots",
        sa.Column("id", IDENTITY, nullable=False, comment="the hash of what the report rests on"),
        sa.Column("run", NAME, nullable=False),
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("version", NAME, nullable=False, comment="of armlift"),
        sa.Column("definition_hash", IDENTITY, nullable=False),
        sa.Column("sql", sa.Text, nullable=False, comment="what asked for the units' totals"),
        sa.Column(
            "aggregates", sa.JSON, nullable=False, comment="the run, the time zone, the database's answers"
        ),
        sa.Column("report", sa.JSON, nullable=False, comment="as it was first given"),
        sa.PrimaryKeyConstraint("id", name="pk_snapshots"),
    )
    op.create_index("ix_snapshots_run", "snapshots", ["run"])
    op.create_table(
        "decisions",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("experiment", NAME, nullable=False),
        sa.Column("run", NAME, nullable=False),
        sa.Column("arm", NAME, nullable=True, comment="that ships; null where the experiment is stopped"),
        sa.Column("action", NAME, nullable=False, comment="ship or stop"),
        sa.Column("snapshot", IDENTITY, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("verdict_status", NAME, nullable=False, comment="the snapshot's"),
        sa.Column("overridden", sa.Boolean, nullable=False, comment="the verdict was not to ship this arm"),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_experiment", "decisions", ["experiment", "at"])
    op.create_table(
        "audit_log",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False, comment="what was acted on, such as experiment/NAME"),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_log"),
    )
