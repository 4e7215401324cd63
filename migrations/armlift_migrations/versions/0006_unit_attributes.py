"""Attributes of units, by which reports compare segments."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NAME = sa.String(200)


def upgrade() -> None:
    op.create_table(
        "unit_attributes",
        sa.Column("run", NAME, nullable=False),
        sa.Column("attribute", NAME, nullable=False),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False, comment="when it was told"),
        sa.Column("value", NAME, nullable=False),
        sa.PrimaryKeyConstraint("run", "attribute", "unit_id", name="pk_unit_attributes"),
        sqlite_with_rowid=False,
    )
