"""Records as bytes, and the file that says how far they count."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.errors import StreamError
from armlift.streams.segment import Commit, CommitFile, encode, layout, make_once, segment_bases, segment_path

PAIRS = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=40)), min_size=1, max_size=5)


def found(chunk: bytes) -> list[tuple[bytes, bytes]]:
    return [(chunk[start:middle], chunk[middle:end]) for start, middle, end in layout(chunk)]


def test_the_bytes_of_a_record_are_pinned() -> None:
    assert encode(b"k", b"value").hex() == "4503fb1301000000050000006b76616c7565"


@given(PAIRS)
def test_records_come_back_from_any_chunk_that_holds_them_whole(pairs: list[tuple[bytes, bytes]]) -> None:
    parts = [encode(*pair) for pair in pairs]
    chunk = b"".join(parts)
    assert found(chunk) == pairs
    for size in range(len(chunk)):
        whole = sum(sum(map(len, parts[: n + 1])) <= size for n in range(len(parts)))
        assert found(chunk[:size]) == pairs[:whole]


@given(PAIRS, st.data())
def test_one_changed_byte_ends_the_records_there(
    pairs: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    parts = [encode(*pair) for pair in pairs]
    chunk = bytearray(b"".join(parts))
    at = data.draw(st.integers(0, len(chunk) - 1))
    chunk[at] ^= data.draw(st.integers(1, 255))
    before = sum(sum(map(len, parts[: n + 1])) <= at for n in range(len(parts)))
    assert found(bytes(chunk)) == pairs[:before]


def test_the_first_to_make_a_file_decides_its_content(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        make_once(tmp_path / "file", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"first")]


def test_a_commit_file_is_made_once_and_moves(tmp_path: Path) -> None:
    first, second = CommitFile(tmp_path), CommitFile(tmp_path)
    assert first.read() == Commit(0, 0, 0)
    first.write(Commit(5, 70, 9))
    assert second.read() == CommitFile(tmp_path).read() == Commit(5, 70, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["commit"]


def test_a_damaged_deleted_or_missing_commit_file_is_an_error(tmp_path: Path) -> None:
    file = CommitFile(tmp_path)
    file.path.write_bytes(bytes(28))
    with pytest.raises(StreamError, match="commit: damaged"):
        file.read()
    file.write(Commit(0, 0, 0))
    file.path.unlink()
    with pytest.raises(StreamError, match="commit: was deleted while the stream was open"):
        file.read()
    segment_path(tmp_path, 0).touch()
    with pytest.raises(StreamError, match=r"commit: missing, though .* holds segments"):
        CommitFile(tmp_path)


def test_segments_are_listed_in_order_and_other_files_are_not(tmp_path: Path) -> None:
    for base in (1000, 0, 20):
        segment_path(tmp_path, base).touch()
    (tmp_path / "notes.log").touch()
    assert segment_bases(tmp_path) == [0, 20, 1000]
