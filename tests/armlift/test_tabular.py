"""Tables to read from: their batches, and one line for what cannot be read."""

import sys
import uuid
from pathlib import Path

import polars as pl
import pytest

from armlift.errors import InputError
from armlift.tabular import BATCH, open_table


def refused(source: str | Path) -> str:
    def read() -> None:
        table = open_table(str(source))
        list(table.batches(table.columns()))

    with pytest.raises(InputError) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_batches_are_small_and_hold_every_row(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": range(2 * BATCH + 5), "b": ["x"] * (2 * BATCH + 5)})
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    for name in ("t.parquet", "t.csv"):
        table = open_table(str(tmp_path / name))
        assert table.columns() == ["a", "b"]
        batches = list(table.batches(["a"]))
        assert max(map(len, batches)) <= BATCH
        assert pl.concat(batches)["a"].cast(pl.Int64).to_list() == list(range(len(frame)))


def test_values_keep_their_types_or_become_text(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    one = uuid.uuid4()
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(
            f"create table t as select '{one}'::uuid as \"the id\", 1.5::decimal(9,2) as d, null as n"
        )
    (batch,) = open_table(f"{tmp_path / 't.duckdb'}#t").batches(["the id", "d", "n"])
    assert [str(batch["the id"][0]), float(batch["d"][0]), batch["n"][0]] == [str(one), 1.5, None]


def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.parquet").write_text("text")
    (tmp_path / "odd.csv").write_text("a,b\n1,2,3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "no.duckdb").write_text("text")
    (tmp_path / "folder.csv").mkdir()
    assert refused(tmp_path / "none.csv") == f"{tmp_path / 'none.csv'}: there is no such file"
    assert "is a folder, must be a file" in refused(tmp_path / "folder.csv")
    assert "cannot be read as Parquet" in refused(tmp_path / "no.parquet")
    assert "cannot be read as CSV" in refused(tmp_path / "odd.csv")
    assert "cannot be read as CSV" in refused(tmp_path / "empty.csv")
    assert "is of no form that is read, must be FILE.csv, FILE.parquet," in refused("data.xlsx")
    assert refused("w.duckdb") == "w.duckdb: names no table, must be like w.duckdb#TABLE"
    assert refused(f"{tmp_path}/w.duckdb#t") == f"{tmp_path}/w.duckdb: there is no such file"
    assert "there is no file" in refused(f"sqlite:///{tmp_path}/none.db#t")
    assert "cannot be opened" in refused("nodb://host/db#t")
    pytest.importorskip("duckdb")
    assert f"{tmp_path}/no.duckdb#t: cannot be read" in refused(f"{tmp_path}/no.duckdb#t")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert refused(f"{tmp_path}/no.duckdb#t") == (
        f"{tmp_path}/no.duckdb: DuckDB is not installed, needed is `pip install 'armlift[duckdb]'`"
    )


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    for url in ("nodb://me:hunter2@host/db", "nodb://me:hunter2@host:port/db"):
        assert "hunter2" not in refused(url)
        assert "hunter2" not in refused(f"{url}#t")
    (tmp_path / "s.db").write_bytes(b"")
    assert "cannot be read: no such table: t" in refused(f"sqlite:///{tmp_path}/s.db#t")
