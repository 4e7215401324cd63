"""Alembic's environment: the tables of armlift on a given connection, or on ARMLIFT_DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from armlift.store.tables import is_partition, metadata


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
        include_name=lambda name, kind, _: not (kind == "table" and is_partition(name or "")),
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    url = os.environ.get("ARMLIFT_DATABASE_URL", "sqlite:///armlift.db")
    with create_engine(url).connect() as own:
        _run(own)
        own.commit()
