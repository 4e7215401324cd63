"""Messages of a run on their way: published and ingested, each once however often a run begins anew."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, select

from armlift.days import Calendar
from armlift.events import Codec, Event, Exposure, Feedback, Impression, request_day
from armlift.ingest import Ingester
from armlift.runs import Subjects
from armlift.store.tables import exposures, feedback, impressions
from armlift.streams.stream import EventStream

Message = tuple[str, list[Event]]
"""A unit and the events of one of its requests."""
_TABLES = {Exposure: exposures, Impression: impressions, Feedback: feedback}


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Look for reference cycles less often: a run makes millions of small objects, and no cycle."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Publisher:
    """Publishes and ingests, batch by batch; what an earlier attempt left in the stream is ingested first."""

    def __init__(
        self, engine: Engine, stream: EventStream, kinds: Iterable[str], calendar: Calendar, run: str
    ) -> None:
        """Take up the stream for a run."""
        names = tuple(kinds)
        self._engine, self._stream = engine, stream
        self._codec = Codec(names)
        self._ingester = Ingester(engine, stream, Codec(names), calendar, Subjects())
        self._ingester.drain()
        with engine.connect() as connection:
            there = [select(table.c.run).where(table.c.run == run).limit(1) for table in _TABLES.values()]
            self._again = any(connection.scalar(one) is not None for one in there)

    def publish(self, messages: Iterable[Message]) -> None:
        """Publish a batch of messages and ingest what has arrived; those that carry nothing are left out."""
        full = [message for message in messages if message[1]]
        for unit, events in _unsent(self._engine, full) if self._again else full:
            self._stream.publish(unit, self._codec.encode(events))
        self._stream.flush()
        self._ingester.step(timeout=0.0)

    def drain(self) -> None:
        """Ingest all that is left."""
        self._ingester.drain()


def _unsent(engine: Engine, messages: list[Message]) -> list[Message]:
    """Leave out messages the tables hold already.

    A message is stored whole or not at all, so its first event tells.
    """
    stored: set[str] = set()
    with engine.connect() as connection:
        for kind, table in _TABLES.items():
            ids = [message[1][0].event_id for message in messages if type(message[1][0]) is kind]
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                stored.update(
                    connection.scalars(
                        select(table.c.event_id).where(
                            table.c.request_day.in_({request_day(identity) for identity in some}),
                            table.c.event_id.in_(some),
                        )
                    )
                )
    return [message for message in messages if message[1][0].event_id not in stored]
