"""Sequence files: what is read, what is held out, and one line for every bad file."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.arm import Behaviour, History
from armlift.errors import InputError
from armlift.sequences import SplitData, read_sequences

IDS = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=4)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "sequences.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "u2 10 9 10\n\nu1\tb  9\r\n")
    found = read_sequences(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (list(found.units), list(found.items.ids)) == (["u2", "u1"], ["10", "9", "b"])
    assert (found.codes.tolist(), found.starts.tolist()) == ([0, 1, 0, 2, 1], [0, 3, 5])
    assert list(found.histories("like")) == [
        History("u2", [Behaviour(item, "like", 1.0, at) for at, item in enumerate(["10", "9", "10"])]),
        History("u1", [Behaviour("b", "like", 1.0, 0), Behaviour("9", "like", 1.0, 1)]),
    ]


@given(rows=st.dictionaries(IDS, st.lists(IDS, min_size=1, max_size=6), min_size=1, max_size=6))
def test_what_was_written_comes_back(
    rows: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = "".join(f"{unit} {' '.join(items)}\n" for unit, items in rows.items())
    found = read_sequences(written(tmp_path_factory.mktemp("any"), lines))
    read = {unit: [one.item for one in behaviours] for unit, behaviours in found.histories("click")}
    assert read == rows
    assert list(found.items.ids) == sorted({item for items in rows.values() for item in items})


def test_the_last_items_are_held_out(tmp_path: Path) -> None:
    found = read_sequences(written(tmp_path, "a 1 2 3\nb 4 5\nc 6\n"))
    left = {
        split: {
            unit: [one.item for one in past] for unit, past in SplitData(found, split, "click").histories()
        }
        for split in ("test", "valid")
    }
    assert left == {"test": {"a": ["1", "2"], "b": ["4"]}, "valid": {"a": ["1"]}}
    test = SplitData(found, "test", "click")
    assert test.until == 3
    assert len(test.items) == 6
    others = [SplitData(found, "valid", "click"), SplitData(found, "test", "like")]
    assert len({data.data_hash for data in (test, *others)}) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty, must have a line `user item item …` for each user"),
        (b"\n \n", "the file is empty, must have a line `user item item …` for each user"),
        (b"1 2 3\n7\n", "line 2: has 1 field, must have a user and at least one item"),
        (b"1 2\n\n2 \xe9\n", "line 3: byte 0xe9 is not UTF-8, the file must be"),
        (b"1 2\n2 3\n1 4\n", "line 3: user '1' stands on line 1 too, must have one line"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_sequences(path)
    assert str(caught.value) == f"{path}: {says}"


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("armlift.sequences.MAX_LINE", 10)
    with pytest.raises(InputError, match="line 2: is longer than 10 bytes"):
        read_sequences(written(tmp_path, "1 2 3 4 5\n1 2 3 4 56\n"))


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_sequences(tmp_path / "none.txt")
    with pytest.raises(InputError, match="is a folder, must be a sequence file"):
        read_sequences(tmp_path)
