"""YAML and TOML as definitions read them: values, lines and complaints."""

import re
from datetime import datetime
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from armlift.errors import InputError
from armlift.yamlfile import Source, read_text, read_toml, read_yaml

TEXT = """\
# a comment
name: demo
list:
  - one
  - key: 1
    other: [2, 3]
"dotted.key": {inner: 1}
"""
TOML = """\
name = "top"
[first]
name = "first"
"quoted" = 1
[second]
name = "second"
[second.inner]
size = 3
list = [
  "name",
]
"""


def source_of(tmp_path: Path, text: str, name: str = "x.yaml") -> Source:
    path = tmp_path / name
    path.write_text(text)
    return read_yaml(path) if name.endswith(".yaml") else read_toml(path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("+12", 12),
        ("0", 0),
        ("012", "012"),
        ("0x1f", 31),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("1.0E+2", 100.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("2022-04-15", "2022-04-15"),
        ("2022-04-15T06:30:00Z", "2022-04-15T06:30:00Z"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("=", "="),
    ],
)
def test_plain_words_are_read_as_editors_read_them(tmp_path: Path, written: str, value: object) -> None:
    found = source_of(tmp_path, f"x: {written}\n").data["x"]
    assert found == value
    assert type(found) is type(value)


class Writer(yaml.SafeDumper):
    """Quotes texts that YAML 1.2 takes for numbers (its core schema, 10.3.2), where YAML 1.1 does not."""


for tag, pattern in (
    ("int", r"^0o[0-7]+$"),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
):
    Writer.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list("-+.0123456789"))


@example({"0E0": "0o7"})
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_what_yaml_writes_is_read_back(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(yaml.dump({"data": data}, Dumper=Writer, allow_unicode=False), encoding="utf-8")
    assert read_yaml(path).data == {"data": data}


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ((), 2),
        (("name",), 2),
        (("list",), 3),
        (("list", 0), 4),
        (("list", 1), 5),
        (("list", 1, "other"), 6),
        (("list", 1, "other", 1), 6),
        (("list", 1, "missing"), 5),
        (("list", 7), 3),
        (("dotted.key", "inner"), 7),
        (("missing",), 2),
    ],
)
def test_every_key_has_its_line(tmp_path: Path, location: tuple[int | str, ...], line: int) -> None:
    assert source_of(tmp_path, TEXT).line(location) == line


@pytest.mark.parametrize(
    ("location", "line"),
    [
        ((), 1),
        (("name",), 1),
        (("first",), 2),
        (("first", "name"), 3),
        (("first", "quoted"), 4),
        (("second", "name"), 6),
        (("second", "inner"), 7),
        (("second", "inner", "size"), 8),
        (("second", "inner", "list", 0), 9),
        (("second", "missing"), 5),
        (("missing",), 1),
    ],
)
def test_every_key_has_its_line_in_toml(tmp_path: Path, location: tuple[int | str, ...], line: int) -> None:
    assert source_of(tmp_path, TOML, "x.toml").line(location) == line


def test_merged_keys_count_and_the_own_one_wins(tmp_path: Path) -> None:
    source = source_of(tmp_path, "base: &base {a: 1, b: 1}\nown:\n  <<: *base\n  b: 2\n")
    assert source.data["own"] == {"a": 1, "b": 2}
    assert source.line(("own", "b")) == 4


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: demo\r\nother: 1\r\n")
    assert read_yaml(path).data == {"name": "demo", "other": 1}
    assert read_yaml(path).line(("other",)) == 2
    path.write_bytes(b'\xef\xbb\xbfname = "demo"\r\n')
    assert read_toml(path).data == {"name": "demo"}


def test_errors_name_file_line_and_key(tmp_path: Path) -> None:
    source = source_of(tmp_path, TEXT)
    assert str(source.error(("list", 1, "key"), "is odd")) == f"{tmp_path}/x.yaml:5: list.1.key: is odd"
    assert str(source.error((), "is odd")) == f"{tmp_path}/x.yaml:2: is odd"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "2: a: stands twice, first in line 1"),
        ("x:\n  - a: 1\n    'a': 2\n", "3: x.0.a: stands twice, first in line 2"),
        ("x: {5: 1}\n", "1: x: key 5 must be text, in quotes"),
        ("true: 1\n", "1: key true must be text, in quotes"),
        ("? [1, 2]\n: 3\n", "1: a key must be text, in quotes"),
        ("x: !!set {a, b}\n", "1: x: tag !!set is not known, leave it out"),
        ("x: !!int twelve\n", "1: x: tag !!int is not known, leave it out"),
        ("x: !own 1\n", "1: x: tag !own is not known, leave it out"),
        ("x: &a {y: *a}\n", "1: x.y: refers to itself, must not"),
    ],
)
def test_what_yaml_allows_and_a_definition_does_not(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        source_of(tmp_path, text)
    assert str(error.value) == f"{tmp_path}/x.yaml:{says}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = \n", "1: is not TOML: Invalid value"),
        ("x = 1\n\ny = [1,\n", "3: is not TOML: Invalid value"),
        ("x = 1\nx = 2\n", "2: is not TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_no_toml(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        source_of(tmp_path, text, "x.toml")
    assert str(error.value) == f"{tmp_path}/x.toml:{says}"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "none.yaml", "there is no such file"),
        (tmp_path, "is a folder, must be a file"),
        (Path(__file__) / "x.yaml", "cannot be read: Not a directory"),
    ):
        with pytest.raises(InputError) as error:
            read_text(path)
        assert str(error.value) == f"{path}: {says}"


class Inner(BaseModel):
    """A part."""

    model_config = ConfigDict(extra="forbid")

    size: int
    share: float = 0.5


class Outer(BaseModel):
    """A definition."""

    model_config = ConfigDict(extra="forbid")

    inner: Inner
    pair: tuple[int, int] = (0, 0)
    start: datetime | None = None


def test_a_definition_becomes_its_model(tmp_path: Path) -> None:
    text = "inner: {size: 3, share: 1}\npair: [1, 2]\nstart: 2022-04-15T06:30\n"
    found = source_of(tmp_path, text).validate(Outer)
    assert found == Outer(inner=Inner(size=3, share=1.0), pair=(1, 2), start=datetime(2022, 4, 15, 6, 30))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inner: {size: true}\n", "1: inner.size: true must be a whole number"),
        ("inner: {size: '3'}\n", "1: inner.size: '3' must be a whole number"),
        ("inner: {size: 3.0}\n", "1: inner.size: 3.0 must be a whole number"),
        ("inner: {size: 99999999999999999999}\n", "1: inner.size: 1e+20 must be a whole number"),
        ("inner:\n  size: 3\n  share: no\n", "3: inner.share: 'no' must be a number"),
        (
            "inner:\n  sise: 3\n",
            "2: inner.sise: unknown key, must be one of share, size (did you mean size?)",
        ),
        ("inner: {}\n", "1: inner.size: is missing"),
        ("iner: {}\n", "1: iner: unknown key, must be one of inner, pair, start (did you mean inner?)"),
        ("inner: {size: a}\npair: [1]\n", "1: inner.size: 'a' must be a whole number (and 1 more)"),
    ],
)
def test_the_first_complaint_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        source_of(tmp_path, text).validate(Outer)
    assert str(error.value) == f"{tmp_path}/x.yaml:{says}"
