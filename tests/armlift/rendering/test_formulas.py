"""Every method has a formula."""

from typing import get_args

from armlift.rendering.formulas import FORMULAS
from armlift.stats.results import Method


def test_every_method_has_a_formula() -> None:
    assert set(FORMULAS) == set(get_args(Method))
    assert all(FORMULAS.values())
