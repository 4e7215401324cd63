from typing import get_args

import pytest

from armlift.errors import InputError
from armlift.stats.results import ASSUMPTIONS, Effect, Method, Rules


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_rules_refuse_an_alpha_that_is_no_error_rate(alpha: float) -> None:
    with pytest.raises(InputError, match=r"alpha is .*, must be above 0 and below 1"):
        Rules(alpha=alpha)


def test_every_method_states_its_assumptions() -> None:
    assert set(ASSUMPTIONS) == set(get_args(Method))


def test_an_unknown_effect_keeps_what_is_known() -> None:
    effect = Effect.unknown("paired", "too_few", alpha=0.1, n=1, control_n=1, mean=2.0)
    assert (effect.status, effect.n, effect.mean, effect.control_mean) == ("too_few", 1, 2.0, None)
    assert (effect.lift, effect.lift_low, effect.p_value, effect.difference) == (None, None, None, None)
    assert "every unit met both arms" in effect.assumptions


def test_a_pair_is_one_unit() -> None:
    paired = Effect.unknown("paired_ratio", "no_data", alpha=0.1, n=5, control_n=5)
    apart = Effect.unknown("ratio", "no_data", alpha=0.1, n=5, control_n=5)
    assert (paired.units, apart.units) == (5, 10)
    assert apart.lift_scale is None
