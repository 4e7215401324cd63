"""Lateness counted at ingest, against NumPy over the same arrivals; exactly once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, select

from armlift import dead_letters as letters
from armlift.days import DAY_MS, Calendar
from armlift.events import KINDS, LATEST, Codec, Event, Feedback, feedback_identity, request_identity
from armlift.ingest import Ingested, Ingester
from armlift.lateness import Arrived, arrived
from armlift.runs import Subjects
from armlift.store.tables import arrivals, dead_letters, feedback
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.stream import Record

CALENDAR = Calendar("Asia/Shanghai")
START = CALENDAR.parse("2022-04-15")
HOUR = 3_600_000


class Stamped(EmbeddedStream):
    """A stream that knows when records came, as a broker does: their keys say it."""

    def poll(self, max_records: int, timeout: float) -> list[Record]:
        found = super().poll(max_records, timeout)
        return [record._replace(timestamp=int(record.key)) for record in found]


def event(ts: int, number: int, run: str = "r1") -> Event:
    request = request_identity(ts, f"{run}{number}")
    identity = feedback_identity(request, "v", "click", 0)
    return Feedback(identity, run, ts, request, f"u{number % 7}", "v", "click", 1.0)


@contextmanager
def ingester(engine: Engine, folder: Path, kind: type[EmbeddedStream], **chosen: Any) -> Iterator[Ingester]:
    with kind(folder) as stream:
        yield Ingester(engine, stream, Codec(KINDS), CALENDAR, Subjects(), **chosen)


def publish(folder: Path, sent: list[tuple[int, list[Event]]], partitions: int = 3) -> None:
    with EmbeddedStream(folder, partitions) as stream:
        for came, events in sent:
            stream.publish(str(came), Codec(KINDS).encode(events))


@pytest.mark.parametrize("lateness", [2 * DAY_MS, 6 * HOUR])
def test_counts_equal_numpy(engine: Engine, tmp_path: Path, lateness: int) -> None:
    rng = np.random.default_rng(1)
    happened = START + rng.integers(0, 5 * DAY_MS, 400)
    came = happened + np.where(
        rng.random(400) < 0.3, rng.integers(0, 4 * DAY_MS, 400), rng.integers(-HOUR, HOUR, 400)
    )
    happened[:2], came[:2] = START, [START + lateness, START + lateness + 1]  # the edge
    order = np.argsort(came)
    runs = np.array(["r1", "r2"])[rng.integers(0, 2, 400)]
    sent = [(int(came[n]), [event(int(happened[n]), int(n), str(runs[n]))]) for n in order]
    publish(tmp_path / "stream", sent)
    for batch in (31, 400):  # the second one finds nothing more
        with ingester(engine, tmp_path / "stream", Stamped, batch=batch, lateness=lateness) as one:
            one.drain(wait=5)
    days = np.array([CALENDAR.day(int(ts)) for ts in happened])
    late = came - happened > lateness
    assert 0 < late.sum() < 200
    with engine.connect() as connection:
        assert len(connection.scalars(select(feedback.c.event_id)).all()) == 400
        for run in ("r1", "r2"):
            for until in sorted({*days.tolist()}):
                asked = (runs == run) & (days <= until)
                assert arrived(connection, run, until) == Arrived(
                    asked.sum(), (asked & late).sum(), came[runs == run].max() - lateness
                )
        assert arrived(connection, "r3", 99_999) is None


def test_a_batch_that_fails_counts_nothing(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "stream", [(START, [event(START, n)]) for n in range(5)])
    with ingester(engine, tmp_path / "stream", Stamped) as one:
        with monkeypatch.context() as patch:
            patch.setattr("armlift.batch.append", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                one.step()
        one.drain(wait=5)
    with engine.connect() as connection:
        assert [row.events for row in connection.execute(select(arrivals))] == [5]


def test_what_happened_a_day_after_it_arrived_is_a_dead_letter(engine: Engine, tmp_path: Path) -> None:
    ahead = [event(START + DAY_MS + off, 1) for off in (0, 1)]
    publish(tmp_path / "stream", [(1, [event(START, 0), *ahead])])
    with ingester(engine, tmp_path / "stream", EmbeddedStream, clock=lambda: START) as one:
        assert one.drain(wait=5) == Ingested(1, 2, 1)
    with engine.connect() as connection:
        (dead,) = connection.execute(select(dead_letters)).all()
    assert dead._mapping["index"] == 2
    assert dead.reason == (
        f"ts {START + DAY_MS + 1} is in the future, must be at most {START + DAY_MS}, a day after it arrived"
    )
    assert Codec(KINDS).decode(b'{"schema":1,"events":[' + dead.bytes + b"]}") == ([ahead[1]], [])


def test_a_replay_of_dead_letters_counts_no_arrival_and_leaves_the_future(
    engine: Engine, tmp_path: Path
) -> None:
    past, future = event(START + 2 * DAY_MS, 0), event(LATEST, 1)
    publish(tmp_path / "stream", [(1, [past]), (1, [future])])
    with ingester(engine, tmp_path / "stream", EmbeddedStream, clock=lambda: START) as one:
        assert one.drain(wait=5) == Ingested(2, 0, 2)
    replayed = letters.replay(engine, Codec(KINDS), CALENDAR, Subjects())
    assert replayed == letters.Replayed(2, 1, 1, 1)
    with engine.connect() as connection:
        assert connection.scalars(select(feedback.c.ts)).all() == [START + 2 * DAY_MS]
        assert connection.execute(select(arrivals)).all() == []
        assert "in the future" in connection.scalars(select(dead_letters.c.reason)).one()
