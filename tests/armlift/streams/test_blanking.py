"""Blanked records keep their offsets; others are read as they were, by whoever reads and writes meanwhile."""

import json
from pathlib import Path

import pytest

from armlift.errors import StreamError
from armlift.streams.blanking import Pieces, blank_stream
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.stream import Record


def blank(key: bytes, value: bytes) -> Pieces | None:
    return (b"-" * len(key), b"{}".ljust(len(value))) if key.startswith(b"gone") else None


def stream(folder: Path) -> EmbeddedStream:
    return EmbeddedStream(folder, 2, segment_bytes=400, claim_seconds=0.02)


def publish(writer: EmbeddedStream, start: int, count: int = 20) -> None:
    for number in range(start, start + count):
        key = f"gone{number % 3}" if number % 4 == 0 else f"kept{number % 5}"
        writer.publish(key, json.dumps({"number": number, "key": key}).encode())
        writer.flush()


def read(reader: EmbeddedStream, count: int) -> list[Record]:
    records: list[Record] = []
    while len(records) < count:
        found = reader.poll(7, 5)
        assert found
        records += found
    return records


def test_records_are_blanked_in_their_place(tmp_path: Path) -> None:
    with stream(tmp_path) as writer, stream(tmp_path) as reader, stream(tmp_path) as late:
        publish(writer, 0)
        reader.subscribe("one", lambda new: None, lambda _: None)
        first = read(reader, 6)
        sizes = {path: path.stat().st_size for path in tmp_path.rglob("*.log")}
        assert blank_stream(tmp_path, blank, dry=True) == 5
        assert any(b"gone" in path.read_bytes() for path in sizes)
        assert blank_stream(tmp_path, blank) == 5
        assert {path: path.stat().st_size for path in sizes} == sizes
        assert not any(b"gone" in path.read_bytes() for path in tmp_path.rglob("*.log"))
        assert blank_stream(tmp_path, blank) == 0
        publish(writer, 20)
        publish(late, 40)
        found = {(one.partition, one.offset): one for one in [*first, *read(reader, 60 - len(first))]}
        assert len(found) == 60
        kept = [json.loads(one.value)["number"] for one in found.values() if one.key.startswith("kept")]
        assert sorted(kept) == [number for number in range(60) if number % 4]
        ends = writer.end_offsets()
    with stream(tmp_path) as again:
        assert again.end_offsets() == ends
        again.subscribe("two", lambda new: None, lambda _: None)
        records = read(again, 60)
        assert sum(one.value.strip() == b"{}" for one in records) == 5
        again.seek(0, 3)


def test_a_killed_one_leaves_the_stream_as_it_was(tmp_path: Path) -> None:
    with stream(tmp_path) as writer:
        publish(writer, 0)

        def failing(key: bytes, value: bytes) -> Pieces | None:
            seen.append(key)
            if len(seen) > 25:
                raise KeyboardInterrupt
            return blank(key, value)

        seen: list[bytes] = []
        with pytest.raises(KeyboardInterrupt):
            blank_stream(tmp_path, failing)
        publish(writer, 20)
        assert blank_stream(tmp_path, blank) > 5
        assert list(tmp_path.rglob("*.blanked")) == []
    with stream(tmp_path) as reader:
        reader.subscribe("one", lambda new: None, lambda _: None)
        assert len(read(reader, 40)) == 40


def test_damage_is_told(tmp_path: Path) -> None:
    with stream(tmp_path) as writer:
        publish(writer, 0)
    path = sorted(tmp_path.rglob("*.log"))[0]
    raw = bytearray(path.read_bytes())
    raw[20] ^= 1
    path.write_bytes(raw)
    with pytest.raises(StreamError, match="damaged at byte 0"):
        blank_stream(tmp_path, blank)
    assert blank_stream(tmp_path / "nowhere", blank) == 0
