"""Read YAML and TOML definitions so that every complaint names file, line, key, value and what is allowed."""

import difflib
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from armlift.errors import InputError

T = TypeVar("T")
Location = Sequence[int | str]


class Source:
    """A definition file: its data, and where each key stands."""

    def __init__(self, path: Path, data: object, root: yaml.Node | None, text: str) -> None:
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
                continue  # a step that only the model knows, such as the tag of a union
            key, node = found
            line = key.start_mark.line + 1
        return line

    def error(self, location: Location, text: str) -> InputError:
        """Build the error of a key: `file:line: key: text`."""
        key = ".".join(map(str, location))
        return InputError(f"{self.path}:{self.line(location)}: {key + ': ' if key else ''}{text}")

    def validate(self, kind: type[T], location: Location = ()) -> T:
        """Turn the data below a location into a model; raises InputError of the first complaint."""
        data = self.data
        for step in location:
            data = data[step]  # type: ignore[index]
        try:
            return TypeAdapter(kind).validate_python(data)
        except ValidationError as error:
            raise self.complaint(error, kind, location) from error

    def complaint(self, error: ValidationError, kind: object, location: Location = ()) -> InputError:
        """Turn the first complaint about the model below a location into one line."""
        details = error.errors(include_url=False)
        first = details[0]
        where = [*location, *self._real(location, first["loc"])]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        return self.error(where, _complaint(first, kind) + more)

    def _real(self, base: Location, found: Location) -> list[int | str]:
        """Leave out of a location the steps that only the model knows, such as the tag of a union."""
        data: object = self.data
        for step in base:
            data = data[step]  # type: ignore[index]
        real: list[int | str] = []
        for index, step in enumerate(found):
            inside = isinstance(data, dict) and step in data
            inside = inside or (isinstance(data, list) and isinstance(step, int) and step < len(data))
            if inside:
                data = data[step]  # type: ignore[index]
                real.append(step)
            elif index == len(found) - 1 and isinstance(data, dict):
                real.append(step)
        return real


def read_yaml(path: Path) -> Source:
    """Read a YAML file; raises InputError when it is missing, not YAML, empty, or names a key twice."""
    text = read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{path}:{line}: is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}:1: is not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        raise InputError(f"{path}:1: is empty, must hold a definition")
    _refuse_repeated_keys(path, root)
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: is a {type(data).__name__}, must be a mapping of keys to values")
    return Source(path, data, root, text)


def read_toml(path: Path) -> Source:
    """Read a TOML file; raises InputError when it is missing or not TOML."""
    text = read_text(path)
    try:
        return Source(path, tomllib.loads(text), None, text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise InputError(f"{path}:{line[1] if line else 1}: is not TOML: {error}") from error


def read_text(path: Path) -> str:
    """Read a text file in UTF-8; raises InputError that names it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, must be a file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _child(node: yaml.Node, step: int | str) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _refuse_repeated_keys(path: Path, node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise InputError(f"{path}:{line}: {key.value}: stands twice, first in line {seen[key.value]}")
            seen[key.value] = line
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(path, value)


def _toml_line(text: str, location: Location) -> int:
    """Find a key's line in TOML, whose parser keeps no positions: the last step that stands as a key."""
    lines = text.splitlines()
    for step in reversed(list(location)):
        pattern = re.compile(rf"""^\s*\[*\s*(?:[\w.-]+\.)?["']?{re.escape(str(step))}["']?\s*(=|\])""")
        for number, line in enumerate(lines, 1):
            if pattern.match(line):
                return number
    return 1


def _complaint(error: ErrorDetails, kind: object) -> str:
    """Put pydantic's complaint into our form: the value, then what it must be."""
    value, message = error["input"], error["msg"]
    match error["type"]:
        case "extra_forbidden":
            allowed = _keys_at(kind, error["loc"][:-1])
            near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return f"unknown key{hint}, must be one of {', '.join(allowed)}"
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return "kind is missing"
        case "union_tag_invalid":
            return f"kind {error['ctx']['tag']!r} is unknown, must be one of {error['ctx']['expected_tags']}"
        case "value_error":
            return message.removeprefix("Value error, ")
    must = re.sub(r"^(Input|String|Value) should ", "must ", message)
    if error["type"] == "string_pattern_mismatch" and "a-z0-9" in message:
        must = "must be lower-case letters, digits, _ or -, at most 63"
    return f"{value!r}: {must}" if must == message else f"{value!r} {must}"


def _keys_at(kind: object, location: Location) -> list[str]:
    """List the keys a model takes at a location inside it."""
    models = _models(kind)
    for step in location:
        inner = [m.model_fields[f].annotation for m in models for f in m.model_fields if _alias(m, f) == step]
        models = [model for annotation in inner for model in _models(annotation)] or models
    return sorted({_alias(model, name) for model in models for name in model.model_fields})


def _alias(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
