"""Forgotten units: what was erased, by ids that are hashed with a secret of the lab."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("secret", sa.String(64), nullable=False, comment="of the lab, by which ids are hashed"),
        sa.Column(
            "unit", sa.String(64), nullable=False, comment="the id's HMAC-SHA256; the id is kept nowhere"
        ),
        sa.Column(
            "at", sa.BigInteger, nullable=False, comment="what happened up to then is not taken in again"
        ),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("erased", sa.BigInteger, comment="when its rows were gone; null: that was broken off"),
        sa.Column("counts", sa.JSON, nullable=False, comment="what was erased, by where it was"),
        sa.Column(
            "dropped", sa.BigInteger, nullable=False, comment="events that came later and were not taken in"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_forgotten"),
    )
    op.create_index("uq_forgotten_unit", "forgotten", ["secret", "unit", "at"], unique=True)
