"""An API over real parts, for the tests of this folder."""

from collections.abc import Iterator

import pytest
from serving_lab import Api, command, ready, serving, size_of

from armlift.client import Client
from armlift.store.database import open_database


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Serve a lab whose experiment runs, with an ingester beside; tests take units of their own."""
    lab = ready(tmp_path_factory.mktemp("served") / "lab", size_of(200, 2), serve={"budget_ms": 20_000})
    engine = open_database(lab)
    with command(lab, "ingest"), serving(lab) as answering, Client(answering.url) as client:
        yield Api(lab, engine, answering, client)
    engine.dispose()
