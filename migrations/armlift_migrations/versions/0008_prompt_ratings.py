"""Ratings of prompts by people."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NAME = sa.String(200)


def upgrade() -> None:
    op.create_table(
        "prompt_ratings",
        sa.Column("arm", NAME, nullable=False),
        sa.Column("version", NAME, nullable=False),
        sa.Column("run", NAME, nullable=False, comment="whose unit it is: its history there was shown"),
        sa.Column("unit_id", NAME, nullable=False),
        sa.Column("rater", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False, comment="of the list: model, popular, random or shuffled"),
        sa.Column("rating", sa.Integer, nullable=False, comment="1 to 5"),
        sa.Column("position", sa.Integer, nullable=False, comment="where the list stood, from 0"),
        sa.Column("items", sa.JSON, nullable=False, comment="of the list, in their order"),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "arm", "version", "run", "unit_id", "rater", "source", name="pk_prompt_ratings"
        ),
    )
