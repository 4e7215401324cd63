"""Aliases: ids that are one unit."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = sa.String(200)


def upgrade() -> None:
    op.create_table(
        "aliases",
        sa.Column("run", NAME, nullable=False),
        sa.Column("anonymous_id", NAME, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("unit_id", NAME, nullable=False, comment="whom the id was merged into"),
        sa.PrimaryKeyConstraint("run", "anonymous_id", "ts", "unit_id", name="pk_aliases"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_aliases_unit", "aliases", ["run", "unit_id"])
