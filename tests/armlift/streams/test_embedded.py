"""The embedded stream under several processes, kills, and a full disk."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from threading import Timer

import pytest

from armlift.errors import InputError, StreamError
from armlift.streams.embedded import MAX_MESSAGE_BYTES, EmbeddedStream
from armlift.streams.stream import Partition, Record, partition_of

OPEN = """
import sys, time, resource
from pathlib import Path
from armlift.errors import StreamError
from armlift.streams.embedded import EmbeddedStream
stream = EmbeddedStream(Path(sys.argv[1]), 2, segment_bytes=1_000_000, claim_seconds=0.02)
"""
WRITE = """
import random
name, rng, number = sys.argv[2], random.Random(sys.argv[2]), 0
while True:
    for _ in range(rng.randint(1, 3000)):
        stream.publish(f"unit-{number % 50}", f"{name} {number} ".encode() + bytes(rng.randint(0, 900)))
        number += 1
    stream.flush()
    print(number, flush=True)
"""
READ = """
stream.subscribe("ingest", lambda partitions: print("owner", *partitions, flush=True), print)
while True:
    stream.poll(10, 1)
"""
FILL = """
published, sizes = 0, (2000, 700, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
failures = []
while len(failures) < 3:
    try:
        stream.publish(f"unit-{published}", f"{published} ".encode() + bytes(sizes[len(failures)]))
        published += 1
        if published % 7 == 0:
            stream.flush()
    except StreamError as error:
        failures.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
confirmed = sum(stream.end_offsets().values())
stream.flush()
import json
print(json.dumps([published, confirmed, failures]))
"""


def start(script: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN + script, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kill -9, and give the lines it has printed."""
    os.kill(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    return output.splitlines()


def ignore(_: list[Partition]) -> None:
    pass


def read_all(folder: Path) -> list[Record]:
    """Read everything, checking offsets and keys."""
    records: list[Record] = []
    with EmbeddedStream(folder) as stream:
        stream.subscribe("check", ignore, ignore)
        while part := stream.poll(10_000, 0):
            records += part
        ends = stream.end_offsets()
    for partition, end in ends.items():
        assert [r.offset for r in records if r.partition == partition] == list(range(end))
    assert all(record.partition == partition_of(record.key, len(ends)) for record in records)
    return records


def numbers(records: list[Record], name: str) -> list[int]:
    """List the numbers a writer of that name has published, each partition in order."""
    parts: list[list[int]] = [[], []]
    for record in records:
        writer, number, _ = record.value.split(b" ", 2)
        if writer.decode() == name:
            parts[record.partition].append(int(number))
    assert all(part == sorted(part) for part in parts)
    return sorted(parts[0] + parts[1])


def test_a_killed_writer_leaves_all_it_confirmed_once_and_nothing_torn(tmp_path: Path) -> None:
    rng = random.Random(7)
    confirmed: dict[str, int] = {}
    for turn in range(8):
        process = start(WRITE, tmp_path / "log", f"w{turn}")
        assert process.stdout
        first = process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        confirmed[f"w{turn}"] = int([first, *kill(process)][-1])
    records = read_all(tmp_path / "log")
    for name, count in confirmed.items():
        found = numbers(records, name)
        assert len(found) == len(set(found))
        assert set(found) >= set(range(count))


def test_two_writers_interleave_and_each_keeps_its_order(tmp_path: Path) -> None:
    writers = {name: start(WRITE, tmp_path / "log", name) for name in ("a", "b")}
    for writer in writers.values():
        assert writer.stdout
        for _ in range(5):
            writer.stdout.readline()
    confirmed = {name: kill(writer) for name, writer in writers.items()}
    records = read_all(tmp_path / "log")
    order = [record.value[:1] for record in records if record.partition == 0]
    assert sum(one != two for one, two in pairwise(order)) > 2
    for name, lines in confirmed.items():
        found = numbers(records, name)
        assert len(found) == len(set(found))
        assert set(found) >= set(range(int(lines[-1]) if lines else 5))


def test_a_killed_owner_loses_its_partitions_to_another(tmp_path: Path) -> None:
    with EmbeddedStream(tmp_path, 2, claim_seconds=0.02) as stream:
        owner = start(READ, tmp_path)
        assert owner.stdout
        assert owner.stdout.readline() == "owner 0 1\n"
        assigned: list[Partition] = []
        stream.subscribe("ingest", assigned.extend, ignore)
        assert stream.poll(1, 0.1) == []
        assert assigned == []
        kill(owner)
        stream.publish("unit", b"after")
        stream.flush()
        assert [record.value for record in stream.poll(1, 5)] == [b"after"]
        assert assigned == [0, 1]


def test_processes_that_start_together_make_one_stream(tmp_path: Path) -> None:
    processes = [start("print(stream.stream_id)", tmp_path / "log") for _ in range(4)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert all(process.returncode == 0 for process in processes)


def test_a_full_disk_is_an_error_and_the_same_records_go_in_later(tmp_path: Path) -> None:
    process = start(FILL, tmp_path / "log")
    output, _ = process.communicate()
    published, confirmed, failures = json.loads(output)
    assert 200 < confirmed < published
    for failure in failures:
        assert str(tmp_path / "log") in failure
        assert failure.endswith("bytes: File too large")
    records = read_all(tmp_path / "log")
    assert sorted(int(record.value.split(b" ")[0]) for record in records) == list(range(published))


def test_the_buffer_is_bounded_and_a_message_refused_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with EmbeddedStream(tmp_path, buffer_bytes=10_000) as stream:
        for number in range(95):
            stream.publish("unit", b"%03d" % number + bytes(997))
        assert stream.end_offsets()[0] >= 81
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            taken = 95
            with pytest.raises(StreamError, match="No space left on device"):  # noqa: PT012
                while True:
                    stream.publish("unit", b"%03d" % taken + bytes(997))
                    taken += 1
            with pytest.raises(StreamError, match="No space left on device"):
                stream.publish("unit", bytes(1000))
            assert taken < 105
    assert [int(record.value[:3]) for record in read_all(tmp_path)] == list(range(taken))


def test_a_poll_that_waits_returns_when_records_come(tmp_path: Path) -> None:
    with EmbeddedStream(tmp_path) as reader, EmbeddedStream(tmp_path) as writer:
        reader.subscribe("ingest", ignore, ignore)
        assert reader.poll(1, 0) == []
        flushed: list[float] = []

        def write() -> None:
            writer.publish("unit", b"now")
            writer.flush()
            flushed.append(time.perf_counter())

        timer = Timer(0.05, write)
        timer.start()
        records = reader.poll(10, 10)
        returned = time.perf_counter()
        timer.join()
        assert len(records) == 1
        assert returned - flushed[0] < 0.5


def test_a_damaged_partition_does_not_swallow_what_was_read_before_it(tmp_path: Path) -> None:
    with EmbeddedStream(tmp_path, 2) as stream:
        for number in range(100):
            stream.publish(f"unit-{number}", b"x")
    path = tmp_path / "0" / f"{0:020d}.log"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with EmbeddedStream(tmp_path) as stream:
        stream.subscribe("ingest", ignore, ignore)
        assert [record.partition for record in stream.poll(1000, 0)] == [1] * stream.end_offsets()[1]
        with pytest.raises(StreamError, match=rf"{path}: damaged at byte 0"):
            stream.poll(1000, 0)


def test_wrong_numbers_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="partitions: 0, must be at least 1"):
        EmbeddedStream(tmp_path / "log", 0)
    EmbeddedStream(tmp_path / "log", 2).close()
    with pytest.raises(StreamError, match="partitions: 3, must be the stream's 2"):
        EmbeddedStream(tmp_path / "log", 3)
    with EmbeddedStream(tmp_path / "log") as stream:
        assert sorted(stream.end_offsets()) == [0, 1]
        with pytest.raises(InputError, match="key 'unit': 16777220 bytes in all, must be at most 16777216"):
            stream.publish("unit", bytes(MAX_MESSAGE_BYTES))
    (tmp_path / "log" / "stream.json").write_text('{"format": 2}')
    with pytest.raises(StreamError, match=r"stream\.json: does not describe a stream of format 1"):
        EmbeddedStream(tmp_path / "log")
    (tmp_path / "file").touch()
    with pytest.raises(StreamError, match="file: cannot open the stream"):
        EmbeddedStream(tmp_path / "file")
