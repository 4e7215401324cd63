"""Read YAML and TOML definitions so that every complaint names file, line, key, value and what is allowed."""

import json
import re
import tomllib
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from armlift.complaints import Location, first_complaint
from armlift.errors import InputError

T = TypeVar("T")

_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE, _MAPPING, _LIST = f"{_TAG}str", f"{_TAG}merge", f"{_TAG}map", f"{_TAG}seq"


class _Loader(yaml.SafeLoader):
    """Reads plain words as YAML 1.2 and editors do: `no` and a day are text, 1e-3 is a number."""


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,17})|0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(rf"^(?:{_pattern})$"), _starts)


class Source:
    """A definition file: its data, and where each key stands."""

    def __init__(self, path: Path, data: dict[str, object], root: yaml.Node | None, text: str) -> None:
        self.path = path
        self.data = data
        self._root = root
        self._text = text

    def line(self, location: Location) -> int:
        """Give the line (from 1) of a key, or of its nearest parent that stands in the file."""
        if self._root is None:
            return _toml_line(self._text, location)
        node, line = self._root, self._root.start_mark.line + 1
        for step in location:
            found = _child(node, step)
            if found is None:
                break
            key, node = found
            line = key.start_mark.line + 1
        return line

    def error(self, location: Location, text: str) -> InputError:
        """Build the error of a key: `file:line: key: text`."""
        key = ".".join(map(str, location))
        return InputError(f"{self.path}:{self.line(location)}: {key + ': ' if key else ''}{text}")

    def validate(self, kind: type[T]) -> T:
        """Turn the data into a model; raises InputError of the first complaint.

        It is read as JSON, strictly: what is exported as JSON Schema is what is accepted, and neither is
        `true` a number nor "1".
        """
        try:
            return TypeAdapter(kind).validate_json(json.dumps(self.data, default=str), strict=True)
        except ValidationError as error:
            raise self.error(*first_complaint(error, kind, self.data)) from error


def read_yaml(path: Path) -> Source:
    """Read a YAML file; raises InputError when it is missing, not YAML, empty, or names a key twice."""
    return parse_yaml(path, read_text(path))


def parse_yaml(path: Path, text: str) -> Source:
    """Read what a YAML file holds, or is to hold; raises InputError as `read_yaml` does."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            raise InputError(f"{path}:1: is empty, must hold a definition")
        _check(path, loader, root)
        if not isinstance(root, yaml.MappingNode):
            what = "a list" if isinstance(root, yaml.SequenceNode) else f"just {root.value!r}"
            line = root.start_mark.line + 1
            raise InputError(f"{path}:{line}: is {what}, must be a mapping of keys to values")
        data: dict[str, object] = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"{path}:{mark.line + 1 if mark else 1}: is not YAML: {reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{path}:{line}: is not YAML: character #x{ord(text[error.position]):04x} is not allowed"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}:1: is nested too deeply to be a definition") from error
    return Source(path, data, root, text)


def read_toml(path: Path) -> Source:
    """Read a TOML file; raises InputError when it is missing or not TOML."""
    text = read_text(path)
    try:
        return Source(path, tomllib.loads(text), None, text)
    except tomllib.TOMLDecodeError as error:
        reason, _, where = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", where)
        number = line[1] if line else str(len(text.splitlines()) or 1)
        raise InputError(f"{path}:{number}: is not TOML: {reason}") from error


def read_text(path: Path) -> str:
    """Read a text file in UTF-8; raises InputError that names it."""
    try:
        raw = path.read_bytes()
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, must be a file") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"0x{raw[error.start]:02x}"
        raise InputError(f"{path}:{line}: byte {byte} is not UTF-8, the file must be") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _child(node: yaml.Node, step: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # keys merged in by `<<` come first, and the last one counts
            if key.value == step:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _check(
    path: Path, loader: _Loader, node: yaml.Node, location: Location = (), above: tuple[yaml.Node, ...] = ()
) -> None:
    """Refuse what YAML allows and a definition does not: odd tags, keys that are no text or stand twice."""

    def refuse(at: yaml.Node, place: Location, text: str) -> InputError:
        key = "".join(f"{step}." for step in place).removesuffix(".")
        return InputError(f"{path}:{at.start_mark.line + 1}: {key + ': ' if key else ''}{text}")

    if node in above:
        raise refuse(node, location, "refers to itself, must not")
    if not _is_plain(loader, node):
        raise refuse(node, location, f"tag {node.tag.replace(_TAG, '!!')} is not known, leave it out")
    inside = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _check(path, loader, value, (*location, index), inside)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.tag not in (_TEXT, _MERGE):
                what = f"key {key.value}" if isinstance(key, yaml.ScalarNode) else "a key"
                raise refuse(key, location, f"{what} must be text, in quotes")
            place = (*location, key.value)
            if key.value in seen and key.tag != _MERGE:
                raise refuse(key, place, f"stands twice, first in line {seen[key.value]}")
            seen[key.value] = key.start_mark.line + 1
            _check(path, loader, value, place, inside)


def _is_plain(loader: _Loader, node: yaml.Node) -> bool:
    """Tell whether a node is a text, a mapping, a list, or what its plain text looks like."""
    if isinstance(node, yaml.ScalarNode):
        looks_like = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        return node.tag in (_TEXT, looks_like)
    return bool(node.tag == (_MAPPING if isinstance(node, yaml.MappingNode) else _LIST))


def _toml_line(text: str, location: Location) -> int:
    """Find a key's line in TOML, whose parser keeps no positions: the line that names most of its steps."""
    steps = list(map(str, location))
    table: list[str] = []
    best, known = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+([^\]=]+)\]", line)
        key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if header:
            table = _toml_steps(header[1])
        elif not key:
            continue
        path = table if header else [*table, *_toml_steps(key[1] if key else "")]
        if len(path) > known and steps[: len(path)] == path:
            best, known = number, len(path)
    return best


def _toml_steps(text: str) -> list[str]:
    return [step.strip().strip("\"'") for step in text.split(".")]
