"""Attributes of units from a table of users."""

from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.logs.users import read_users


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_columns_asked_for(tmp_path: Path) -> None:
    table = read_users(
        write(tmp_path / "u.csv", "user_id,days,degree,x\n7,30,full,1\n8,,low,2\n"), {"days", "degree"}
    )
    assert table.attributes == {"7": {"days": 30, "degree": "full"}, "8": {"days": None, "degree": "low"}}
    assert len(table.sha256) == 64


def test_blank_cells_have_no_value_quoted_or_not(tmp_path: Path) -> None:
    text = 'user_id,town,old\n7,"",true\n8,  ,false\n9,b a,\n'
    table = read_users(write(tmp_path / "u.csv", text), {"town", "old"})
    assert table.values("town") == {"9": "b a"}
    assert table.values("old") == {"7": "true", "8": "false"}


@pytest.mark.parametrize(
    ("text", "names", "complaint"),
    [
        ("user_id,days\n7,30\n", {"age"}, r"u.csv:1: has no column 'age', has user_id, days"),
        ("id,days\n7,30\n", set(), r"u.csv:1: has no column 'user_id'"),
        ("user_id,days\n7,30\n7,31\n", {"days"}, r"u.csv: user '7' stands twice"),
        ("", {"days"}, r"u.csv: is not a table of users"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, names: set[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_users(write(tmp_path / "u.csv", text), names)


def test_no_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_users(tmp_path / "absent.csv", set())
    with pytest.raises(InputError, match="is a folder"):
        read_users(tmp_path, set())


def test_the_real_table(shared_data: Path) -> None:
    table = read_users(
        shared_data / "kuairand" / "user_features_pure.csv", {"register_days", "user_active_degree"}
    )
    assert len(table.attributes) == 27_285
    assert table.attributes["0"] == {"register_days": 799, "user_active_degree": "full_active"}
