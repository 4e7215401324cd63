"""Put what pydantic complains about into our form: where it stands, the value, and what it must be."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = Sequence[int | str]

_WHAT = {
    "string": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "datetime": "a time, such as 2022-04-15 or 2022-04-15T06:30+08:00",
    "date": "a time, such as 2022-04-15 or 2022-04-15T06:30+08:00",
}
"""What a value must be, by the first word of the type of pydantic's error."""
_NAME_PATTERN = "^[a-z0-9][a-z0-9_-]{0,62}$"
_TYPE_ERROR = re.compile(r"([a-z]+)(_attributes)?_(type|parsing|from_date.*)")


class Complaint(NamedTuple):
    """Where the data is wrong, and the value with what it must be."""

    location: tuple[int | str, ...]
    text: str


def first_complaint(error: ValidationError, kind: object, data: object) -> Complaint:
    """Give the complaint to mend first: an unknown key, which may explain what else is missing, or the first.

    `kind` is the type the data was to be, `data` what was given.
    """
    found = error.errors(include_url=False)
    # A list whose items are all wrong is also said to be too short.
    details = [one for one in found if not _long_enough(one)] or found
    first = min(details, key=lambda one: one["type"] != "extra_forbidden")
    location, text = _complaint(first, kind, data)
    others = {_complaint(one, kind, data).location for one in details} - {location}
    if first["type"] == "extra_forbidden":
        others -= {(*location[:-1], near) for near in _near(str(location[-1]), _keys(first, kind))}
    more = f" (and {len(others)} more)" if others else ""
    return Complaint(location, text + more)


def choices(value: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, with the one that may have been meant."""
    known = list(allowed)
    if not known:
        return "there is none yet"
    hint = "".join(f" (did you mean {near}?)" for near in _near(value, known))
    return f"must be one of {', '.join(known)}{hint}"


def _long_enough(error: ErrorDetails) -> bool:
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _near(value: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(value, known, n=1)


def _complaint(error: ErrorDetails, kind: object, data: object) -> Complaint:
    location = _real(error["loc"], data, missing=error["type"] == "missing")
    value, message = error["input"], error["msg"]
    match error["type"]:
        case "extra_forbidden":
            return Complaint(location, f"unknown key, {choices(str(location[-1]), _keys(error, kind))}")
        case "missing":
            return Complaint(location, "is missing")
        case "union_tag_not_found":
            return Complaint((*location, "kind"), f"is missing, must be one of {', '.join(_tags(kind))}")
        case "union_tag_invalid":
            return Complaint((*location, "kind"), f"{error['ctx']['tag']!r} {choices('', _tags(kind))}")
        case "value_error":
            return _own(location, message.removeprefix("Value error, "), data)
        case "too_short" | "too_long" as side:
            limit = error["ctx"]["min_length" if side == "too_short" else "max_length"]
            bound = "at least" if side == "too_short" else "at most"
            return Complaint(location, f"{_shown(value)} must have {bound} {limit} item{'s' * (limit != 1)}")
    return Complaint(location, f"{_shown(value)} {_must(error, message)}")


def _must(error: ErrorDetails, message: str) -> str:
    """Say what a value of the wrong type or out of range must be."""
    found = _TYPE_ERROR.fullmatch(error["type"])
    if found and found[1] in _WHAT:
        quotes = ", in quotes" if found[1] == "string" and isinstance(error["input"], int | float) else ""
        return f"must be {_WHAT[found[1]]}{quotes}"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] == _NAME_PATTERN:
        return "must be lower-case letters, digits, _ or -, at most 63"
    return re.sub(r"^(Input|String|Value) should ", "must ", message)


def _own(location: tuple[int | str, ...], message: str, data: object) -> Complaint:
    """Place a validator's own message: where it begins with a key, as in `phases.1.start: ...`, there."""
    for step in location:
        data = data[step]  # type: ignore[index]
    key, sign, text = message.partition(": ")
    inner = _keys_of(data, key) if sign else None
    return Complaint(location, message) if inner is None else Complaint((*location, *inner), text)


def _keys_of(data: object, dotted: str) -> list[int | str] | None:
    """Find the steps of a dotted key in data, whose own keys may hold dots; the last one may be missing."""
    steps: dict[str, int | str] = {}
    if isinstance(data, dict):
        steps = {str(key): key for key in data}
    elif isinstance(data, list):
        steps = {str(index): index for index in range(len(data))}
    for text, step in steps.items():
        if text == dotted:
            return [step]
        if dotted.startswith(f"{text}."):
            inner = _keys_of(data[step], dotted.removeprefix(f"{text}."))  # type: ignore[index]
            if inner is not None:
                return [step, *inner]
    return [dotted] if isinstance(data, dict) and re.fullmatch(r"\w+", dotted) else None


def _real(found: Location, data: object, *, missing: bool) -> tuple[int | str, ...]:
    """Leave out of a location the steps that only pydantic knows, such as the tag of a union.

    The last step of something `missing` is kept, for it cannot stand in the data.
    """
    real: list[int | str] = []
    for index, step in enumerate(found):
        last = index == len(found) - 1
        inside = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
        if step in inside:
            data = data[step]  # type: ignore[index]
            real.append(step)
        elif last and missing:
            real.append(step)
    return tuple(real)


def _shown(value: object) -> str:
    """Write a value as it stands in a definition, cut off where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys(error: ErrorDetails, kind: object) -> list[str]:
    """List the keys that a model takes where an error found an unknown one."""
    models = _models(kind)
    for step in error["loc"][:-1]:
        inner = [m.model_fields[f].annotation for m in models for f in m.model_fields if _alias(m, f) == step]
        found = [model for annotation in inner for model in _models(annotation)]
        models = found or [model for model in models if step in _literals(model)] or models
    return sorted({_alias(model, name) for model in models for name in model.model_fields})


def _alias(model: type[BaseModel], name: str) -> str:
    return model.model_fields[name].alias or name


def _tags(kind: object) -> list[str]:
    """List what the key `kind` may say in a union that it tells apart."""
    return sorted({str(tag) for model in _models(kind) for tag in _literals(model, "kind")})


def _literals(model: type[BaseModel], field: str | None = None) -> set[object]:
    annotations = [info.annotation for name, info in model.model_fields.items() if field in (None, name)]
    return {value for one in annotations if get_origin(one) is Literal for value in get_args(one)}


def _models(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
