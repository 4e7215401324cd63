"""API keys, and the catalogue's items."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

NAME = sa.String(200)
IDENTITY = sa.String(32)
CURRENT = sa.text("revoked IS NULL")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", IDENTITY, nullable=False, comment="12 hexadecimal digits, a part of the key"),
        sa.Column("name", NAME, nullable=False),
        sa.Column(
            "hash", sa.String(64), nullable=False, comment="sha256 of the secret, which is kept nowhere"
        ),
        sa.Column("scopes", sa.JSON, nullable=False, comment="what it opens"),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.Column("expires", sa.BigInteger, comment="null: never"),
        sa.Column("revoked", sa.BigInteger, comment="when it ends, or ended, before that; null: it does not"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index(
        "uq_api_keys_name", "api_keys", ["name"], unique=True, sqlite_where=CURRENT, postgresql_where=CURRENT
    )
    op.create_table(
        "items",
        sa.Column("item_id", NAME, nullable=False),
        sa.Column("available", sa.Boolean, nullable=False, comment="whether it may be shown"),
        sa.Column("attributes", sa.JSON, nullable=False, comment="name to text, number or bool"),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("item_id", name="pk_items"),
    )
    op.create_index("ix_items_updated", "items", ["updated"])
