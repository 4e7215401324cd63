"""Files of items: cells get the types they look like, and a bad row is named by file and line."""

from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.item_files import read_items
from armlift.items import Item

AT = 1_700_000_000_000


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_cells_of_csv_get_the_types_they_look_like(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "items.csv",
        "\ufeffitem_id, price,available,title,code,new\r\n"
        'a,12.50,true,"Red, and\nwide",007,TRUE\r\n'
        "\r\n"
        " b ,,0,,-3,1e3\r\n"
        "7,1,False,nan,+1,0x1\r\n",
    )
    assert read_items(path, AT) == [
        Item("a", True, {"price": 12.5, "title": "Red, and\nwide", "code": "007", "new": True}, AT),
        Item("b", False, {"code": -3, "new": 1000.0}, AT),
        Item("7", False, {"price": 1, "title": "nan", "code": "+1", "new": "0x1"}, AT),
    ]


def test_lines_of_json_are_taken_as_they_are(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "items.jsonl",
        '{"item_id": "a", "available": true, "price": 1.5, "title": "007", "new": false}\n\n'
        '{"available": false, "item_id": "b"}',
    )
    assert read_items(path, AT) == [
        Item("a", True, {"price": 1.5, "title": "007", "new": False}, AT),
        Item("b", False, {}, AT),
    ]


def test_an_empty_file_of_json_lines_has_no_items(tmp_path: Path) -> None:
    assert read_items(written(tmp_path, "items.ndjson", ""), AT) == []


HEAD = "item_id,available,price\n"
LINES = '{"item_id": "a", "available": true}\n'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.csv", "", "line 1: has no column item_id, must have item_id and available"),
        ("x.csv", "item_id,price\na,1\n", "line 1: has no column available, must have item_id and"),
        ("x.csv", "item_id,available,x,x\n", "line 1: column 'x' must have a name, and occur once"),
        ("x.csv", "item_id,available,\n", "line 1: column '' must have a name, and occur once"),
        ("x.csv", HEAD + "a,true,1\nb,yes,1\n", "line 3: item 'b': available is 'yes', must be true or"),
        ("x.csv", HEAD + "a,true,1\nb,true\n", "line 3: has 2 cells, must have 3"),
        ("x.csv", HEAD + ",true,1\n", "line 2: item_id '': must be a text of 1 to 200 characters"),
        ("x.csv", HEAD + "a,1,1e999\n", "line 2: item 'a': price is inf, must be a text of at most 200"),
        ("x.csv", HEAD + f"a,1,{'9' * 400}\n", "line 2: item 'a': price is '999"),
        ("x.csv", HEAD + 'a,1,"x\n', "line 2: is no CSV: unexpected end of data"),
        ("x.csv", HEAD + "a,1,1\na,0,1\n", "line 3: item 'a' is on line 2 already, must occur once"),
        ("x.csv", HEAD.encode() + b"a,1,\xff\n", "is no text in UTF-8, must be: invalid start byte"),
        ("x.jsonl", LINES + "{\n", "line 2: is no JSON, must be an object: "),
        ("x.jsonl", LINES + "[1]\n", "line 2: is no JSON object, must be one item"),
        ("x.jsonl", "[" * 100_000, "line 1: is no JSON, must be an object: "),
        ("x.jsonl", LINES + '{"item_id": "b"}', "line 2: has no available, must have item_id and available"),
        ("x.jsonl", '{"item_id": "b", "available": 1}', "line 1: item 'b': available is 1, must be true or"),
        ("x.jsonl", '{"item_id": 1, "available": true}', "line 1: item_id 1: must be a text of 1 to 200"),
        ("x.jsonl", LINES[:-2] + ', "x": NaN}', "line 1: item 'a': x is nan, must be a text of at most"),
        ("x.jsonl", LINES[:-2] + ', "x": {"y": 1}}', "line 1: item 'a': x is {'y': 1}, must be a text"),
        ("x.jsonl", LINES * 2, "line 2: item 'a' is on line 1 already, must occur once"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read_items(path, AT)
    assert str(caught.value).startswith(f"{path}: {says}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "x.csv", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError) as caught:
            read_items(path, AT)
        assert str(caught.value) == f"{path}: cannot be read: {reason}"
