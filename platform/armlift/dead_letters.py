"""Dead letters: events that could not be stored, why, and how they come in once they can.

A dead letter is one bad event, or (index -1) a whole message that could not be read. A replay reads the
stored bytes again: what is good by now takes the way of every other event, in the transaction that deletes
its dead letter, so that killing a replay anywhere loses nothing and doubles nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    LargeBinary,
    delete,
    func,
    select,
    true,
    tuple_,
)

from armlift.batch import Batch
from armlift.days import Calendar, utc_now
from armlift.events import BadEvent, Codec, Event
from armlift.ingest import write
from armlift.lateness import MOST_AHEAD
from armlift.rollup import Subjects, roll_up_all
from armlift.store.database import writing
from armlift.store.partitions import Partitions, oldest
from armlift.store.tables import dead_letters as letters

PAGE = 200
"""Dead letters a transaction reads again: a message of megabytes may be in each."""
EXCERPT = 240
"""Characters of a letter's bytes that are shown."""
KEY = (letters.c.stream_id, letters.c.partition, letters.c.offset, letters.c.index)
BACKWARD = [column.desc() for column in KEY]
MESSAGE = -1
"""The index of a letter that is a whole message."""
FIRST_SCHEMA = 1
"""The schema of letters that do not say one: they were kept when there was one only."""


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter as it is shown; `size` is in bytes, the excerpt holds printable characters only."""

    stream_id: str
    partition: int
    offset: int
    index: int
    reason: str
    size: int
    excerpt: str


class Listing(NamedTuple):
    """The dead letters of a database: how many in all, by reason (the most frequent first), and some."""

    total: int
    reasons: dict[str, int]
    letters: list[DeadLetter]

    def document(self) -> dict[str, object]:
        """Give it as plain data."""
        reasons = [{"reason": reason, "dead_letters": count} for reason, count in self.reasons.items()]
        return {
            "dead_letters": self.total,
            "reasons": reasons,
            "letters": [asdict(letter) for letter in self.letters],
        }


class Replayed(NamedTuple):
    """What a replay did: letters read again, letters settled, events they brought, events that are bad."""

    letters: int
    settled: int
    events: int
    bad: int


def listing(connection: Connection, *, reason: str = "", limit: int = 20) -> Listing:
    """Read at most `limit` reasons and letters; of all letters, or those whose reason contains a text."""
    asked = _asked(reason)
    count = func.count().label("count")
    reasons = connection.execute(
        select(letters.c.reason, count)
        .where(asked)
        .group_by(letters.c.reason)
        .order_by(count.desc(), letters.c.reason)
        .limit(limit)
    )
    # A character takes at most four bytes, and one more may be cut.
    head = func.substr(letters.c.bytes, 1, 4 * EXCERPT + 4, type_=LargeBinary)
    columns = (*KEY, letters.c.reason, func.length(letters.c.bytes), head)
    some: Sequence[Sequence[Any]] = connection.execute(
        select(*columns).where(asked).order_by(*KEY).limit(limit)
    ).all()
    return Listing(
        connection.execute(select(func.count()).select_from(letters).where(asked)).scalar_one(),
        {row[0]: row[1] for row in reasons},
        [
            DeadLetter(stream, partition, offset, index, why, size, excerpt(bytes(raw), size))
            for stream, partition, offset, index, why, size, raw in some
        ],
    )


def excerpt(raw: bytes, size: int) -> str:
    """Show the beginning of some bytes on one line that no terminal obeys; `size` is that of all of them."""
    shown = printable(raw.decode(errors="backslashreplace"))
    return shown if len(raw) == size and len(shown) <= EXCERPT else shown[: EXCERPT - 1] + "…"


def printable(text: str) -> str:
    """Escape what is no printable character."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def render(found: Listing) -> str:
    """Write a listing for people: what is wrong, then where."""
    lines = [f"{found.total:,} dead letters"]
    lines += [f"  {count:,} × {printable(reason)}" for reason, count in found.reasons.items()]
    if rest := found.total - sum(found.reasons.values()):
        lines.append(f"  {rest:,} with other reasons; --limit shows more")
    for one in found.letters:
        what = "the message" if one.index == MESSAGE else f"event {one.index}"
        place = f"stream {one.stream_id}, partition {one.partition}, offset {one.offset}"
        lines += [
            "",
            f"{place}, {what}, {one.size:,} bytes",
            f"  {printable(one.reason)}",
            f"  {one.excerpt}",
        ]
    if rest := found.total - len(found.letters):
        lines += ["", f"{rest:,} more; --limit shows them"]
    return "\n".join(lines)


def replay(
    engine: Engine,
    codec: Codec,
    calendar: Calendar,
    subjects: Subjects,
    *,
    reason: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """Read dead letters again, all or those whose reason contains a text, and bring in what is good now.

    What is bad still stays, with the reason of today; so does an event over a day in the future. Nothing is
    counted as an arrival: when it came is not known. `progress` is told the letters read, and how many there
    were. May run beside ingesters and other replays.
    """
    asked, done, partitions = _asked(reason), Counter[str](), Partitions(engine)
    with engine.connect() as connection:
        codec.oldest_day = oldest(connection)
        total = connection.execute(select(func.count()).select_from(letters).where(asked)).scalar_one()
    # From the last to the first: letters that a message leaves lie behind its own, and are not read twice.
    before: ColumnElement[bool] = true()
    while page := _page(engine, asked, before):
        batch = Batch(calendar)
        gone, counts = _read_page(page, codec, batch)
        partitions.ensure(batch.request_days)
        if gone and not _store(engine, gone, batch):
            continue
        done.update(counts)
        before = tuple_(*KEY) < tuple_(*page[-1][: len(KEY)])
        if progress:
            progress(done["letters"], total)
    roll_up_all(engine, subjects)
    return Replayed(*(done[name] for name in Replayed._fields))


def _page(engine: Engine, asked: ColumnElement[bool], before: ColumnElement[bool]) -> Sequence[Sequence[Any]]:
    columns = (*KEY, letters.c.reason, letters.c.bytes, letters.c.schema)
    with engine.connect() as connection:
        return connection.execute(select(*columns).where(asked, before).order_by(*BACKWARD).limit(PAGE)).all()


def _read_page(
    page: Sequence[Sequence[Any]], codec: Codec, batch: Batch
) -> tuple[list[tuple[object, ...]], dict[str, int]]:
    """Read letters again, into a batch; gives the keys of those that change, and what is counted."""
    bad_events, settled = 0, 0
    gone: list[tuple[object, ...]] = []
    for stream, partition, offset, index, reason, raw, schema in page:
        good, bad = _read(codec, index, raw, schema)
        bad_events += len(bad)
        settled += not bad
        if [(one.place, one.reason) for one in bad] == [(index, reason)]:
            continue
        gone.append((stream, partition, offset, index))
        batch.add(good)
        for one in bad:
            batch.reject(stream, partition, offset, one)
    counts = {"letters": len(page), "settled": settled, "events": batch.events, "bad": bad_events}
    return gone, counts


def _store(engine: Engine, gone: list[tuple[object, ...]], batch: Batch) -> bool:
    """Store what letters brought in the transaction that deletes them; not if another replay was there first.

    It would bring back letters that the other has settled. All lock them in the same order.
    """
    these = tuple_(*KEY).in_(gone)
    with writing(engine) as connection:
        found = connection.execute(select(*KEY).where(these).order_by(*BACKWARD).with_for_update()).all()
        if len(found) < len(gone):
            return False
        connection.execute(delete(letters).where(these))
        write(connection, batch)
    return True


def _read(codec: Codec, index: int, raw: bytes, schema: int | None) -> tuple[list[Event], list[BadEvent]]:
    # PostgreSQL gives memoryview or bytes, as the driver likes.
    raw, latest = bytes(raw), utc_now() + MOST_AHEAD
    if index == MESSAGE:
        return codec.decode(raw, latest)
    return codec.decode_event(raw, FIRST_SCHEMA if schema is None else schema, index, latest)


def _asked(reason: str) -> ColumnElement[bool]:
    """Say which letters are meant: those whose reason contains a text, in either case of its letters."""
    return letters.c.reason.icontains(reason, autoescape=True) if reason else true()
