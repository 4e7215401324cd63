"""Durations as definitions and settings write them: `7d`, `24h`, `30m`, `10s`."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

LATENESS = "2d"
"""How long after it happened an event may arrive without being late, unless settings say otherwise."""
_PATTERN = "^[1-9][0-9]{0,4}[dhms]$"
_MILLIS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


def _written(text: str) -> str:
    if not re.fullmatch(_PATTERN, text):
        raise ValueError(
            f"{text!r} is not a duration, must be days, hours, minutes or seconds up to 99999, like 7d, 24h, "
            f"30m or 10s"
        )
    return text


Duration = Annotated[str, AfterValidator(_written), Field(json_schema_extra={"pattern": _PATTERN})]
"""A whole number of days (24 hours each, whatever the clocks do), hours, minutes or seconds."""


def milliseconds(duration: str) -> int:
    """Give a duration's length in milliseconds."""
    return int(duration[:-1]) * _MILLIS[duration[-1]]
