"""The outbox: what it accepted is in the stream at last, whatever stream, disk and process go through."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from brokers import Broker

from armlift.errors import ArmliftError, InputError, StreamError
from armlift.serving import publisher, spill
from armlift.serving.outbox import Outbox
from armlift.serving.waiting import OutboxFullError
from armlift.settings import KafkaSettings
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.kafka import KafkaStream
from armlift.streams.stream import EventStream

PATIENCE = 40.0
MOST = 1 << 28

Make = Callable[..., Outbox]


class Switched(EmbeddedStream):
    """An embedded stream that fails while a file `away` lies beside it, and hangs while `stuck` does."""

    def __init__(self, folder: Path) -> None:
        self._switches = folder.parent
        self._obey()
        super().__init__(folder / "stream", 1)

    def flush(self) -> None:
        """Flush unless switched off."""
        self._obey()
        super().flush()

    def _obey(self) -> None:
        while (self._switches / "stuck").exists():
            time.sleep(0.005)
        if (self._switches / "away").exists():
            raise StreamError("switched off")


class Place:
    """Where a stream, its switches and a spill lie."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spill = folder, folder / "spill"

    def open(self) -> EventStream:
        return Switched(self.folder / "in")

    def switch(self, name: str, on: bool) -> None:
        if on:
            (self.folder / name).touch()
        else:
            (self.folder / name).unlink(missing_ok=True)

    def stored(self) -> list[str]:
        with EmbeddedStream(self.folder / "in" / "stream") as stream:
            return stored(stream)


def stored(stream: EventStream) -> list[str]:
    """Read all values of a stream."""
    found: list[str] = []
    stream.subscribe(f"test-{uuid4().hex}", lambda _: None, lambda _: None)
    count = sum(end - stream.beginning_offsets()[part] for part, end in stream.end_offsets().items())
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline
        found += [record.value.split()[0].decode() for record in stream.poll(10_000, 0.1)]
    return found


def named(*names: object) -> list[tuple[str, bytes]]:
    return [(f"unit-{name}", f"{name} ".encode() + bytes(100)) for name in names]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def settled(outbox: Outbox) -> bool:
    figures = outbox.figures
    return figures.stream_up and not figures.spill_messages and not figures.waiting


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def make(place: Place) -> Iterator[Make]:
    """Give a function that starts an outbox, which is closed at the end."""
    with ExitStack() as opened:

        def start(open_stream: Callable[[], EventStream] = place.open, **options: object) -> Outbox:
            settings = {"most_bytes": MOST, "retry_seconds": 0.02, **options}
            outbox = Outbox(open_stream, place.spill, **settings)  # type: ignore[arg-type]
            outbox.start()
            opened.callback(outbox.close, 0.5)
            return outbox

        yield start


def test_what_is_sent_is_in_the_stream_once_its_future_is_done(place: Place, make: Make) -> None:
    outbox = make()

    def send(sender: int) -> None:
        for number in range(20):
            names = [f"{sender}-{number}-{part}" for part in range(10)]
            outbox.send(named(*names)).result(PATIENCE)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    found = place.stored()
    assert len(found) == len(set(found)) == 1600
    figures = outbox.figures
    assert figures == (1600, 0, 0, 0, 0, 0, 0, True, None)
    assert outbox.send([]).result(0) is None
    assert not outbox.send(named("last")).cancel()


def test_while_the_stream_is_away_events_are_kept_and_come_into_it_in_order(
    place: Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "GENERATION_BYTES", 5_000)
    monkeypatch.setattr(publisher, "STEP_BYTES", 1_000)
    place.switch("away", True)
    outbox = make()
    for number in range(0, 500, 5):
        outbox.send(named(*range(number, number + 5))).result(PATIENCE)
    figures = outbox.figures
    assert (figures.spilled, figures.spill_messages, figures.published) == (500, 500, 0)
    assert not figures.stream_up
    assert figures.last_error == "switched off"
    assert figures.spill_bytes > 500 * 100
    assert len(list(place.spill.glob("*/[0-9]*"))) > 5
    place.switch("away", False)
    until(lambda: settled(outbox))
    assert outbox.figures.drained == 500
    assert list(place.spill.glob("*/[0-9]*")) == []
    assert place.stored() == [str(number) for number in range(500)]


def test_a_stream_that_fails_and_comes_back_under_load_loses_nothing(place: Place, make: Make) -> None:
    outbox, accepted, ended = make(), set[str](), threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not ended.is_set():
            names = [f"{sender}-{number}-{part}" for part in range(7)]
            outbox.send(named(*names)).result(PATIENCE)
            accepted.update(names)
            number += 1

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for sender in senders:
        sender.start()
    for turn in range(6):
        time.sleep(0.1)
        place.switch("away", turn % 2 == 0)
    time.sleep(0.1)
    ended.set()
    for sender in senders:
        sender.join()
    until(lambda: settled(outbox))
    assert set(place.stored()) == accepted
    assert min(outbox.figures[:3]) > 0


def test_nobody_waits_for_a_stream_that_hangs(place: Place, make: Make) -> None:
    outbox = make(patience=0.2)
    outbox.send(named("before")).result(PATIENCE)
    place.switch("stuck", True)
    started = time.monotonic()
    outbox.send(named("first")).result(PATIENCE)
    assert 0.2 <= time.monotonic() - started < 1.5
    started = time.monotonic()
    for number in range(20):
        outbox.send(named(number)).result(PATIENCE)
    assert time.monotonic() - started < 0.2 * 20 / 2
    place.switch("stuck", False)
    until(lambda: settled(outbox))
    assert set(place.stored()) == {"before", "first", *map(str, range(20))}


def test_a_full_spill_refuses_until_the_stream_is_back(place: Place, make: Make) -> None:
    place.switch("away", True)
    outbox = make(most_bytes=20_000)
    accepted, refused = set(), 0
    for number in range(300):
        error = outbox.send(named(number)).exception(PATIENCE)
        if error is None:
            accepted.add(str(number))
        else:
            refused += 1
            assert isinstance(error, OutboxFullError)
            assert "the stream is away, and the spill holds" in str(error)
    assert 100 < len(accepted) < 200
    figures = outbox.figures
    assert figures.refused == refused
    assert figures.spill_bytes <= 20_000
    place.switch("away", False)
    until(lambda: settled(outbox))
    outbox.send(named("after")).result(PATIENCE)
    assert set(place.stored()) == accepted | {"after"}


def test_too_much_that_waits_is_refused_at_once(place: Place) -> None:
    outbox = Outbox(place.open, place.spill, most_bytes=MOST, waiting=1_000)
    sent = [outbox.send(named(number)) for number in range(20)]
    refused = [one for one in sent if one.done()]
    assert 0 < len(refused) < 20
    for one in refused:
        with pytest.raises(OutboxFullError, match="bytes of events wait already"):
            one.result(0)
    outbox.start()
    for one in sent:
        if one not in refused:
            one.result(PATIENCE)
    outbox.close(5)
    assert outbox.figures.refused == len(refused)
    assert len(place.stored()) == 20 - len(refused)


def test_close_flushes_and_takes_no_more(place: Place, make: Make) -> None:
    outbox = make()
    sent = [outbox.send(named(number)) for number in range(2_000)]
    outbox.close(PATIENCE)
    assert all(one.done() and one.exception() is None for one in sent)
    assert sorted(place.stored(), key=int) == [str(number) for number in range(2_000)]
    with pytest.raises(OutboxFullError, match="closed"):
        outbox.send(named("late")).result(0)
    assert not outbox.figures.stream_up
    assert [path.name for path in place.spill.iterdir()] == ["lock"]
    outbox.close(0)


def test_close_keeps_what_a_stream_that_hangs_does_not_take(place: Place, make: Make) -> None:
    outbox = make(patience=PATIENCE)
    outbox.send(named("before")).result(PATIENCE)
    place.switch("stuck", True)
    sent = [outbox.send(named(number)) for number in range(100)]
    timer = threading.Timer(1.0, place.switch, ("stuck", False))
    timer.start()
    outbox.close(0.2)
    assert all(one.done() and one.exception() is None for one in sent)
    timer.join()
    assert outbox.figures.spilled == 100
    again = make()
    until(lambda: settled(again))
    assert set(place.stored()) == {"before", *map(str, range(100))}


def test_a_message_no_stream_takes_is_refused_alone(place: Place, make: Make) -> None:
    outbox = make()
    with pytest.raises(InputError, match="lone surrogates"):
        outbox.send([("\ud800", b"1")]).result(0)
    with pytest.raises(InputError, match="must be at most"):
        outbox.send([("unit", bytes(17 << 20))]).result(0)
    outbox.send(named("good")).result(PATIENCE)
    assert place.stored() == ["good"]
    assert outbox.figures.refused == 2


def test_a_damaged_part_of_the_spill_is_set_aside_and_the_rest_published(place: Place, make: Make) -> None:
    place.switch("away", True)
    first = make()
    for number in range(10):
        first.send(named(number)).result(PATIENCE)
    first.close(0)
    (log,) = place.spill.glob("*/[0-9]*/0/*.log")
    # Beyond the chunk that is read with it no record is lost with a damaged one; here it is the last.
    content = bytearray(log.read_bytes())
    content[-1] ^= 1
    log.write_bytes(content)
    place.switch("away", False)
    second = make()
    until(lambda: settled(second))
    second.send(named("new")).result(PATIENCE)
    assert set(place.stored()) == {*map(str, range(9)), "new"}
    (kept,) = (place.spill / "set-aside").iterdir()
    assert (kept / "0" / log.name).read_bytes() == content


def test_a_living_process_takes_over_what_another_left(
    place: Place, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TAKE_OVER_SECONDS", 0.05)
    place.switch("away", True)
    one, other = make(), make()
    one.send(named("one")).result(PATIENCE)
    other.send(named("other")).result(PATIENCE)
    one.close(0)
    assert other.figures.spill_messages == 1
    place.switch("away", False)
    until(lambda: other.figures.drained == 2)
    assert set(place.stored()) == {"one", "other"}


@pytest.mark.parametrize("under_a_file", [True, False])
def test_a_folder_that_cannot_be_written_is_one_clear_line(place: Place, under_a_file: bool) -> None:
    if under_a_file:
        (place.folder / "blocked").touch()
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        (place.folder / "blocked").mkdir(mode=0o500)
    outbox = Outbox(place.open, place.folder / "blocked" / "spill", most_bytes=MOST)
    with pytest.raises(InputError, match=r"blocked/spill: cannot be written \(.*\), must be a folder"):
        outbox.start()
    outbox.close(0)


def child(place: Place, mode: str, told: Path) -> "subprocess.Popen[bytes]":
    """Run this file as a process of its own, see the end; it tells in a file what was confirmed."""
    command = [sys.executable, __file__, str(place.folder), mode]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with told.open("wb") as file:
        return subprocess.Popen(command, stdout=file, env=environment)


def test_processes_killed_at_any_moment_lose_nothing_they_confirmed(
    place: Place, make: Make, tmp_path: Path
) -> None:
    rng, confirmed = random.Random(5), list[str]()
    for turn in range(4):
        # Two on one folder, which take over what those before them left; the last ones die with a spill.
        place.switch("away", turn == 3)
        mode = "toggling" if turn < 3 else "steady"
        told = [tmp_path / f"told-{turn}-{number}" for number in range(2)]
        pair = [child(place, mode, path) for path in told]
        until(lambda told=told: all(path.stat().st_size for path in told))  # type: ignore[misc]
        for one in pair:
            time.sleep(rng.uniform(0.05, 0.4))
            one.send_signal(signal.SIGKILL)
            one.wait(PATIENCE)
        for path in told:
            text = path.read_text()
            confirmed += text[: text.rfind("\n")].split()
    place.switch("away", False)
    outbox = make()
    until(lambda: settled(outbox))
    assert outbox.figures.drained > 0
    assert len(confirmed) > 500
    assert set(confirmed) - set(place.stored()) == set()
    assert len(list(place.spill.iterdir())) == 2


def test_a_full_disk_refuses_and_loses_nothing_it_took(place: Place, make: Make, tmp_path: Path) -> None:
    place.switch("away", True)
    assert child(place, "full", tmp_path / "told").wait(PATIENCE) == 0
    *accepted, why, after = (tmp_path / "told").read_text().splitlines()
    assert why.startswith("the stream is away, and the spill cannot be written: ")
    assert why.endswith("File too large")
    assert len(accepted) > 20
    assert after == "after"
    place.switch("away", False)
    outbox = make()
    until(lambda: settled(outbox))
    assert {*accepted, after} <= set(place.stored())


def kafka_opener(url: str) -> Callable[[], EventStream]:
    settings = KafkaSettings(partitions=2)
    return lambda: KafkaStream(url, settings, connect_seconds=5.0, wait_seconds=1.0)


def test_a_broker_killed_and_started_under_load_loses_nothing(durable: Broker, make: Make) -> None:
    url = durable.url(f"outbox-{uuid4().hex}")
    outbox, ended = make(kafka_opener(url)), threading.Event()
    until(lambda: outbox.figures.stream_up)
    accepted: set[str] = set()
    times: list[tuple[float, float]] = []

    def send(sender: int) -> None:
        number = 0
        while not ended.is_set():
            names = [f"{sender}-{number}-{part}" for part in range(10)]
            began = time.monotonic()
            outbox.send(named(*names)).result(PATIENCE)
            times.append((began, time.monotonic() - began))
            accepted.update(names)
            number += 1
            time.sleep(0.005)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
    for sender in senders:
        sender.start()
    time.sleep(0.3)
    killed = time.monotonic()
    durable.kill()
    until(lambda: outbox.figures.spilled > 0)
    spilling = time.monotonic()
    time.sleep(1.0)
    assert not outbox.figures.stream_up
    durable.start()
    until(lambda: outbox.figures.stream_up)
    time.sleep(0.3)
    ended.set()
    for sender in senders:
        sender.join()
    until(lambda: settled(outbox))
    figures = outbox.figures
    outbox.close(PATIENCE)
    with KafkaStream(url, KafkaSettings()) as stream:
        assert set(stored(stream)) == accepted
    assert figures.published > 0
    assert figures.drained == figures.spilled > 0
    assert max(seconds for _, seconds in times) < 2.5
    away = sorted(seconds for began, seconds in times if spilling < began < spilling + 1.0)
    assert killed < spilling
    assert away[len(away) // 2] < 0.1


def toggle(place: Place) -> None:
    rng = random.Random()
    while True:
        time.sleep(rng.uniform(0.01, 0.08))
        place.switch("away", rng.random() < 0.5)


def confirm(sending: "Future[None]", names: list[str]) -> bool:
    try:
        sending.result(PATIENCE)
    except ArmliftError as error:
        print(error, flush=True)
        return False
    os.write(1, ("\n".join(names) + "\n").encode())
    return True


def send_for_ever(outbox: Outbox, sender: str) -> None:
    for number in range(10**9):
        names = [f"{sender}-{number}-{part}" for part in range(5)]
        confirm(outbox.send(named(*names)), names)


def run_child(place: Place, mode: str) -> None:
    """Send until killed, or on a disk that is full for a while, and tell what was confirmed."""
    spill.GENERATION_BYTES, publisher.STEP_BYTES, publisher.TAKE_OVER_SECONDS = 4_000, 1_000, 0.1
    outbox = Outbox(place.open, place.spill, most_bytes=MOST, retry_seconds=0.01)
    outbox.start()
    if mode == "full":
        spill.GENERATION_BYTES = MOST
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, most))
        sent = (confirm(outbox.send(named(number)), [str(number)]) for number in range(1_000))
        with suppress(StopIteration):
            while next(sent):
                pass
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert confirm(outbox.send(named("after")), ["after"])
        outbox.close(0)
        return
    if mode == "toggling":
        threading.Thread(target=toggle, args=(place,), daemon=True).start()
    senders = [
        threading.Thread(target=send_for_ever, args=(outbox, f"{os.getpid()}-{sender}"))
        for sender in range(3)
    ]
    for sender in senders:
        sender.start()


if __name__ == "__main__":
    run_child(Place(Path(sys.argv[1])), sys.argv[2])
