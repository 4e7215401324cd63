"""Reading from anywhere, and damage that is named, never skipped."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.errors import StreamError
from armlift.streams import segment
from armlift.streams.partition_reader import PartitionReader, beginning
from armlift.streams.partition_writer import PartitionWriter
from armlift.streams.segment import HEAD, CommitFile, encode, segment_bases, segment_path

COUNT = 120
SIZE = len(encode(b"key", b"0000"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("partition"))


def fill(folder: Path) -> Path:
    """Write 120 records of one size in segments of 50."""
    writer = PartitionWriter(CommitFile(folder), 50 * SIZE)
    for number in range(COUNT):
        writer.add(encode(b"key", b"%04d" % number))
        if number % 10 == 9:
            writer.flush()
    assert segment_bases(folder) == [0, 50, 100]
    return folder


def read_from(reader: PartitionReader, offset: int, count: int = COUNT) -> list[int]:
    reader.seek(offset)
    values: list[int] = []
    while len(values) < count and (part := reader.read(count - len(values))[0]):
        assert [record.offset for record in part] == [int(record.value) for record in part]
        values += (int(record.value) for record in part)
    return values


@pytest.mark.parametrize("chunk", [HEAD.size, SIZE, 7 * SIZE + 3, 1 << 18])
def test_every_offset_can_be_sought_in_any_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(segment, "CHUNK", chunk)
    reader = PartitionReader(0, CommitFile(folder))
    for offset in [*range(0, COUNT + 1, 3), *range(COUNT, -1, -7)]:
        assert read_from(reader, offset) == list(range(offset, COUNT))
        assert read_from(reader, offset, 2) == list(range(offset, COUNT))[:2]


@given(st.lists(st.tuples(st.integers(0, COUNT), st.integers(1, 60)), max_size=8))
def test_a_seek_does_not_depend_on_those_before(folder: Path, seeks: list[tuple[int, int]]) -> None:
    reader = PartitionReader(0, CommitFile(folder))
    for offset, count in seeks:
        assert read_from(reader, offset, count) == list(range(offset, min(COUNT, offset + count)))
    reader.close()


@pytest.mark.parametrize("byte", [0, 5, 9, 13, SIZE - 1])
@pytest.mark.parametrize(("number", "base"), [(20, 0), (49, 0), (119, 100)])
def test_a_damaged_record_is_named_and_never_skipped(
    tmp_path: Path, number: int, base: int, byte: int
) -> None:
    path = segment_path(fill(tmp_path), base)
    at = (number - base) * SIZE
    raw = bytearray(path.read_bytes())
    raw[at + byte] ^= 0x41
    path.write_bytes(raw)
    reader = PartitionReader(0, CommitFile(tmp_path))
    assert read_from(reader, 0, number) == list(range(number))
    for _ in range(2):
        with pytest.raises(StreamError, match=rf"{path}: damaged at byte {at}: "):
            reader.read(10)
    with pytest.raises(StreamError, match=rf"{path}: damaged at byte {at}: "):
        read_from(reader, number)


def test_a_record_cut_short_in_a_closed_segment_is_damage(tmp_path: Path) -> None:
    path = segment_path(fill(tmp_path), 0)
    path.write_bytes(path.read_bytes()[:-1])
    reader = PartitionReader(0, CommitFile(tmp_path))
    assert read_from(reader, 0, 49) == list(range(49))
    with pytest.raises(StreamError, match=rf"{path}: damaged at byte {49 * SIZE}: "):
        reader.read(1)


def test_a_missing_segment_is_an_error(tmp_path: Path) -> None:
    segment_path(fill(tmp_path), 50).unlink()
    reader = PartitionReader(0, CommitFile(tmp_path))
    assert read_from(reader, 0, 50) == list(range(50))
    with pytest.raises(StreamError, match=r"00050\.log: missing"):
        reader.read(1)


def test_offsets_below_the_first_segment_left_are_out_of_range(tmp_path: Path) -> None:
    commit = CommitFile(fill(tmp_path))
    segment_path(tmp_path, 0).unlink()
    assert beginning(commit) == 50
    reader = PartitionReader(0, commit)
    assert reader.read(1)[0][0].offset == 50
    with pytest.raises(StreamError, match="offset 49 is out of range, must be 50 to 120"):
        read_from(reader, 49)


def test_a_reader_waiting_at_the_end_follows_into_new_segments(tmp_path: Path) -> None:
    commit = CommitFile(tmp_path)
    reader = PartitionReader(0, commit)
    writer = PartitionWriter(commit, 1)
    for number in range(5):
        assert reader.read(9) == ([], 0)
        writer.add(encode(b"key", b"%d" % number))
        writer.flush()
        records, size = reader.read(9)
        assert [(record.offset, record.value) for record in records] == [(number, b"%d" % number)]
        assert size == len(b"key0")
    assert len(segment_bases(tmp_path)) == 5
