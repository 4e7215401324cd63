"""Naming: which ids stand in bytes that could not be read as events."""

import json
import re
from collections.abc import Iterator
from typing import Any

_UNITS = frozenset({"unit_id", "anonymous_id"})
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORD = re.compile(r"[^\s\"'{}\[\],:;=<>()]+")


def names_in(raw: bytes) -> set[str]:
    """Give every text that may be the id of a unit.

    Of JSON, all its texts, and numbers where an id should stand; of anything else, what is quoted, and words.
    """
    text = raw.decode(errors="replace")
    try:
        return set(_texts(json.loads(text)))
    except (ValueError, RecursionError):
        return {*map(_unescaped, _QUOTED.findall(text)), *_WORD.findall(_QUOTED.sub(" ", text))}


def _texts(document: Any, key: str = "") -> Iterator[str]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield name
            yield from _texts(value, name)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value, key)
    elif isinstance(document, str):
        yield document
    elif key in _UNITS and document is not None:
        yield str(document)


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text
