"""Marks of the rollup, what retention deleted, and partitions of impressions and feedback in PostgreSQL."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAME = sa.String(200)
PARTITIONED = ("impressions", "feedback")


def upgrade() -> None:
    op.create_table(
        "touched_cells",
        sa.Column(
            "mark",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("run", NAME, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column(
            "day", sa.Integer, nullable=True, comment="of the new events; null for exposures and merges"
        ),
        sa.Column("arm", NAME, nullable=True, comment="of an exposure"),
        sa.Column("ts", sa.BigInteger, nullable=True, comment="of an exposure"),
        sa.PrimaryKeyConstraint("mark", name="pk_touched_cells"),
    )
    op.create_table(
        "expired",
        sa.Column("table", NAME, nullable=False),
        sa.Column("before", sa.Integer, nullable=False, comment="events of earlier request days are gone"),
        sa.PrimaryKeyConstraint("table", name="pk_expired"),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in PARTITIONED:
            _partition(table)


def _partition(table: str) -> None:
    """Move a table's rows into a table of partitions, one a request day, and one for days that have none."""
    index = f"ix_{table}_unit"
    op.execute(f"ALTER TABLE {table} RENAME TO whole_{table}")
    op.execute(f"ALTER TABLE whole_{table} RENAME CONSTRAINT pk_{table} TO pk_whole_{table}")
    op.execute(f"ALTER INDEX {index} RENAME TO ix_whole_{table}")
    op.execute(f"CREATE TABLE {table} (LIKE whole_{table}) PARTITION BY RANGE (request_day)")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY (request_day, event_id)")
    op.execute(f"CREATE INDEX {index} ON {table} (run, unit_id, day)")
    op.execute(f"CREATE TABLE {table}_other PARTITION OF {table} DEFAULT")
    op.execute(f"INSERT INTO {table} SELECT * FROM whole_{table}")
    op.execute(f"DROP TABLE whole_{table}")
