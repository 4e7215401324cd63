"""A write that fails or is cut short at any point: nothing lost that was confirmed, nothing twice."""

import os
import shutil
from pathlib import Path

import pytest

from armlift.errors import StreamError
from armlift.streams.partition_reader import PartitionReader
from armlift.streams.partition_writer import PartitionWriter
from armlift.streams.segment import Commit, CommitFile, encode, segment_bases, segment_path


def values(folder: Path) -> list[bytes]:
    """Read the partition from its beginning, checking the offsets."""
    reader = PartitionReader(0, CommitFile(folder))
    records = []
    while part := reader.read(1000)[0]:
        records += part
    assert [record.offset for record in records] == list(range(len(records)))
    return [record.value for record in records]


def add(writer: PartitionWriter, *texts: bytes) -> None:
    for text in texts:
        writer.add(encode(b"key", text))


def written(folder: Path, *texts: bytes, segment_bytes: int = 1 << 20) -> PartitionWriter:
    writer = PartitionWriter(CommitFile(folder), segment_bytes)
    add(writer, *texts)
    writer.flush()
    return writer


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("new_segment", [False, True])
def test_a_torn_tail_of_any_length_is_invisible_and_cut_off(tmp_path: Path, new_segment: bool) -> None:
    (tmp_path / "before").mkdir()
    written(tmp_path / "before", b"a", b"b")
    torn = [encode(b"", b"t%d" % number) for number in range(2)]
    for size in range(2 * len(torn[0]) + 1):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "before", folder)
        with segment_path(folder, 2 if new_segment else 0).open("ab") as file:
            file.write(b"".join(torn)[:size])
        assert values(folder) == [b"a", b"b"]
        kept = [b"t%d" % number for number in range(size // len(torn[0]))]
        written(folder, b"c")
        assert values(folder) == [b"a", b"b", *kept, b"c"]


def test_a_tail_of_rubbish_is_cut_off(tmp_path: Path) -> None:
    written(tmp_path, b"a")
    for rubbish in (bytes(5000), b"\xff" * 5000, encode(b"", b"x")[:-1] + b"y" + encode(b"", b"sound")):
        with segment_path(tmp_path, 0).open("ab") as file:
            file.write(rubbish)
        PartitionWriter(CommitFile(tmp_path), 100).recover()
        assert values(tmp_path) == [b"a"]
        assert segment_path(tmp_path, 0).stat().st_size == len(encode(b"key", b"a"))


def test_recovery_walks_over_what_an_old_commit_does_not_know(tmp_path: Path) -> None:
    texts = [b"%d" % number for number in range(40)]
    written(tmp_path, texts[0])
    old = (tmp_path / "commit").read_bytes()
    for text in texts[1:]:
        written(tmp_path, text, segment_bytes=100)
    assert len(segment_bases(tmp_path)) > 5
    (tmp_path / "commit").write_bytes(old)
    assert values(tmp_path) == texts[:1]
    PartitionWriter(CommitFile(tmp_path), 100).recover()
    assert values(tmp_path) == texts


def test_damage_below_a_later_segment_is_no_torn_tail(tmp_path: Path) -> None:
    written(tmp_path, b"a")
    old = (tmp_path / "commit").read_bytes()
    written(tmp_path, b"b")
    written(tmp_path, b"c", segment_bytes=1)
    (tmp_path / "commit").write_bytes(old)
    path = segment_path(tmp_path, 0)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"?")
    with pytest.raises(StreamError, match=rf"{path}: damaged at byte {len(raw) // 2}"):
        PartitionWriter(CommitFile(tmp_path), 100).recover()


def test_a_segment_cut_below_the_commit_is_an_error(tmp_path: Path) -> None:
    written(tmp_path, b"a", b"b")
    os.truncate(segment_path(tmp_path, 0), 20)
    with pytest.raises(StreamError, match=r"000\.log: has 20 bytes, though 32 were committed"):
        PartitionWriter(CommitFile(tmp_path), 100).recover()


@pytest.mark.parametrize("step", ["pwrite", "fsync"])
@pytest.mark.parametrize("segment_bytes", [1, 1000])
def test_a_failed_flush_changes_nothing_and_can_be_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, segment_bytes: int
) -> None:
    writer = written(tmp_path, b"a", segment_bytes=segment_bytes)
    add(writer, b"b", b"c")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, no_space)
        for _ in range(2):
            with pytest.raises(StreamError, match=r"\.log: cannot write 32 bytes: No space left on device"):
                writer.flush()
            assert values(tmp_path) == [b"a"]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.log")) == 16
    written(tmp_path, b"from another")
    writer.flush()
    writer.flush()
    assert values(tmp_path) == [b"a", b"from another", b"b", b"c"]


@pytest.mark.parametrize("late", [False, True])
def test_an_interrupt_around_the_commit_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    write = CommitFile.write

    def interrupted(self: CommitFile, commit: Commit) -> None:
        if late:
            write(self, commit)
        raise KeyboardInterrupt

    writer = written(tmp_path, b"a")
    add(writer, b"b")
    with monkeypatch.context() as patch:
        patch.setattr(CommitFile, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    writer.flush()
    assert values(tmp_path) == [b"a", b"b"]


def test_a_writer_that_cannot_cut_back_stops_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = written(tmp_path, b"a")
    add(writer, b"b")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        patch.setattr(os, "ftruncate", no_space)
        with pytest.raises(StreamError, match="cannot be cut off"):
            writer.flush()
    assert values(tmp_path) == [b"a"]
    with pytest.raises(StreamError, match="cannot be cut off"):
        writer.flush()
    PartitionWriter(CommitFile(tmp_path), 100).recover()
    assert values(tmp_path) == [b"a", b"b"]


def test_a_segment_is_closed_when_it_is_full(tmp_path: Path) -> None:
    writer = written(tmp_path, b"a", segment_bytes=32)
    for text in (b"b", b"c", b"d", b"e"):
        add(writer, text)
        writer.flush()
    assert segment_bases(tmp_path) == [0, 2, 4]
    assert values(tmp_path) == [b"a", b"b", b"c", b"d", b"e"]
