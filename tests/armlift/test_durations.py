"""Durations."""

import pytest
from pydantic import TypeAdapter, ValidationError

from armlift.days import DAY_MS
from armlift.durations import Duration, milliseconds

DURATION: TypeAdapter[str] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "length"),
    [("7d", 7 * DAY_MS), ("24h", DAY_MS), ("30m", 1_800_000), ("99999d", 99_999 * DAY_MS)],
)
def test_days_hours_and_minutes(text: str, length: int) -> None:
    assert milliseconds(DURATION.validate_python(text)) == length


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "07d", "-1d", "1.5h", "7 d", "7D", "1w", "1S", "100000m", "7d\n"]
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a duration, must be days, hours, minutes or seconds"):
        DURATION.validate_python(text)


def test_the_schema_says_the_form() -> None:
    assert DURATION.json_schema() == {"type": "string", "pattern": "^[1-9][0-9]{0,4}[dhms]$"}
