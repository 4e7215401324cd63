import gzip
import re
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from armlift.errors import InputError
from armlift.logs import csvfile
from armlift.logs.csvfile import read_frames, read_header

SCHEMA = {"a": pl.Int64(), "b": pl.Float64(), "c": pl.String()}


def read(path: Path) -> list[tuple[object, ...]]:
    return [row for frame in read_frames(path, SCHEMA) for row in frame.rows()]


def save(path: Path, body: bytes) -> Path:
    path.write_bytes(b"a,b,c\n" + body)
    return path


def test_values_and_blanks(tmp_path: Path) -> None:
    path = save(tmp_path / "f.csv", b'1,2.5,x\n\n,,\r\n"3",-1e3,"y, z"\n   \n4,5,\xc3\xa9')
    assert read(path) == [(1, 2.5, "x"), (None, None, None), (3, -1000.0, "y, z"), (4, 5.0, "é")]


@pytest.mark.parametrize("block", [10, 64, 1 << 20])
def test_blocks_and_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", block)
    path = save(tmp_path / "f.csv", b"".join(b"%d,%d,x\n" % (n, -n) for n in range(100)))
    hasher = sha256()
    rows = [row for frame in read_frames(path, SCHEMA, hasher) for row in frame.rows()]
    assert rows == [(n, -n, "x") for n in range(100)]
    assert hasher.hexdigest() == sha256(path.read_bytes()).hexdigest()


def test_packed_file_is_read_as_the_plain_one(tmp_path: Path) -> None:
    plain = save(tmp_path / "f.csv", b"1,2,x\n")
    packed = tmp_path / "f.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    hashers = sha256(), sha256()
    frames = [
        [frame.rows() for frame in read_frames(path, SCHEMA, hasher)]
        for path, hasher in zip((plain, packed), hashers, strict=True)
    ]
    assert frames[0] == frames[1] == [[(1, 2.0, "x")]]
    assert hashers[0].hexdigest() == hashers[1].hexdigest()
    assert read_header(packed) == ["a", "b", "c"]


def test_damaged_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "f.csv.gz"
    path.write_bytes(b"a,b,c\n")
    with pytest.raises(InputError, match=r"f.csv.gz: cannot be read"):
        read_header(path)
    path.write_bytes(gzip.compress(b"a,b,c\n1,2,x\n")[:-9])
    with pytest.raises(InputError, match=r"f.csv.gz: cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"1,2,x\n\nz,2,x\n", "line 4: a is 'z', must be a whole number"),
        (b"1,2,x\n1.5,2,x\n", "line 3: a is '1.5', must be a whole number"),
        (b"1,2,x\n99999999999999999999,2,x\n", "line 3: a is '99999999999999999999', must be a whole number"),
        (b"1,2,x\nnan,2,x\n", "line 3: a is 'nan', must be a whole number"),
        (b"1,2,x\n1,%s,x\n" % (b"y" * 50), f"line 3: b is '{'y' * 37}...', must be a number"),
        (b"1,2,x\n1,2\n", "line 3: has 2 columns, must have 3 as in the header"),
        (b"1,2,x\n1,2,x,4\n", "line 3: has 4 columns, must have 3 as in the header"),
        (b"1,2,x\n1,2,x,4\n5\n6,7\n", "line 3: has 4 columns, must have 3 as in the header"),
        (b'1,2,x\n1,2,"x\n', "lines 2 to 3: not readable as CSV: "),
        (b"1,2,x\n1,2,\xff\n", "line 3: byte 0xff is not UTF-8, the file must be"),
    ],
)
def test_one_line_tells_what_is_wrong(tmp_path: Path, body: bytes, message: str) -> None:
    path = save(tmp_path / "f.csv", body)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_line_numbers_count_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 32)
    path = save(tmp_path / "f.csv", b"1,2,x\n" * 50 + b"1,oops,x\n" + b"1,2,x\n" * 50)
    with pytest.raises(InputError, match="line 52: b is 'oops'"):
        read(path)


def test_whole_numbers_as_floats(tmp_path: Path) -> None:
    assert read(save(tmp_path / "f.csv", b"1.0,2,x\n,2,x\n1e3,2,y\n")) == [
        (1, 2.0, "x"), (None, 2.0, "x"), (1000, 2.0, "y"),
    ]  # fmt: skip


def test_floats_too_large_to_be_exact_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable as CSV"):
        read(save(tmp_path / "f.csv", b"1.0,2,x\n9007199254740993,2,x\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty, must be a CSV file with a header"),
        (b"a,b,a\n", "line 1: column 'a' occurs twice, must occur once"),
        (b"\xff\xfea\x00\n", "line 1: byte 0xff is not UTF-8"),
        (b"a" * 70_000, "line 1 is longer than 65536 bytes"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        read_header(path)


def test_byte_order_mark_and_quotes_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b'\xef\xbb\xbf"a",b\r\n1,2\r\n')
    assert read_header(path) == ["a", "b"]


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        read_header(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="is a folder, must be a CSV file"):
        read_header(tmp_path)


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 100)
    with pytest.raises(InputError, match="line 3 is longer than 100 bytes"):
        read(save(tmp_path / "f.csv", b"1,2,x\n" + b"7" * 500))
