"""Pydantic's complaints in our words."""

from typing import Annotated, Literal, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from armlift.complaints import Complaint, choices, first_complaint


class Circle(BaseModel):
    """One kind."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(BaseModel):
    """Another kind."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["square"]
    side: float
    half: float | None = None

    @model_validator(mode="after")
    def _half_fits(self) -> Self:
        if self.half is not None and self.half * 2 != self.side:
            raise ValueError(f"half: {self.half} must be half of the side")
        if self.side == 13:
            raise ValueError("13 is unlucky: try another")
        return self


Shape = Annotated[Circle | Square, Field(discriminator="kind")]
Shapes = dict[str, Shape]


def complaint(data: object) -> Complaint:
    """Give the complaint about shapes."""
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Shapes).validate_python(data)
    return first_complaint(error.value, Shapes, data)


@pytest.mark.parametrize(
    ("shape", "location", "text"),
    [
        ({"kind": "circle", "radius": -1}, ("x", "radius"), "-1 must be greater than 0"),
        (
            {"kind": "circle", "radios": 1},
            ("x", "radios"),
            "unknown key, must be one of kind, radius (did you mean radius?)",
        ),
        (
            {"kind": "circle", "side": 1},
            ("x", "side"),
            "unknown key, must be one of kind, radius (and 1 more)",
        ),
        ({"kind": "oval"}, ("x", "kind"), "'oval' must be one of circle, square"),
        ({"radius": 1}, ("x", "kind"), "is missing, must be one of circle, square"),
        ({"kind": "square", "side": 3, "half": 2}, ("x", "half"), "2.0 must be half of the side"),
        ({"kind": "square", "side": 13}, ("x",), "13 is unlucky: try another"),
        ({"kind": "square", "side": None}, ("x", "side"), "null must be a number"),
        ({"kind": "square", "side": "s" * 100}, ("x", "side"), f"'{'s' * 76}... must be a number"),
        (7, ("x",), "7 must be a mapping of keys to values"),
    ],
)
def test_location_and_words(shape: object, location: tuple[str, ...], text: str) -> None:
    assert complaint({"x": shape}) == Complaint(location, text)


def test_a_name_with_dots_is_one_step() -> None:
    assert complaint({"a.b": {"kind": "square", "side": 3, "half": 2}}).location == ("a.b", "half")


def test_choices() -> None:
    assert choices("on", ["one", "two"]) == "must be one of one, two (did you mean one?)"
    assert choices("x", ["one", "two"]) == "must be one of one, two"
    assert choices("x", []) == "there is none yet"
