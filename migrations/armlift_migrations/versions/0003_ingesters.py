"""The ingesters that run, and the schema of each dead letter."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAME = sa.String(200)


def upgrade() -> None:
    op.create_table(
        "ingesters",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("stream_id", NAME, nullable=False),
        sa.Column("host", NAME, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False, comment="by the database's clock"),
        sa.Column(
            "seen", sa.BigInteger, nullable=False, comment="the last sign of life, by the database's clock"
        ),
        sa.Column("figures", sa.JSON, nullable=False, comment="what it did since its start"),
        sa.Column(
            "recent", sa.JSON, nullable=False, comment="what it did between its last two signs of life"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_ingesters"),
    )
    op.add_column(
        "dead_letters",
        sa.Column(
            "schema", sa.Integer, nullable=True, comment="of the event's message; null: 1, or no event"
        ),
    )
