from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates, Array
from armlift.stats.group_sequential import LARGEST_Z, Spending, boundaries
from armlift.stats.intervals import adjusted
from armlift.stats.means import welch

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)
SPENDINGS: tuple[Spending, ...] = ("obrien_fleming", "pocock", "quadratic")


@st.composite
def shares(draw: st.DrawFn) -> list[float]:
    """Draw the information of some looks, at least a fiftieth apart."""
    looks = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True))
    return [look / 50 for look in sorted(looks)]


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Tables after Lan & DeMets (1983), as in Proschan, Lan & Wittes (2006).
        ("obrien_fleming", (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),
        ("pocock", (2.4380, 2.4268, 2.4101, 2.3966, 2.3859)),
        # spotify-confidence 4.1, one side at .025, whose search stops at a chance of 1e-7.
        ("quadratic", (3.0902, 2.7141, 2.4728, 2.2799, 2.1140)),
    ],
)
def test_five_equal_looks_are_as_published(spending: Spending, published: tuple[float, ...]) -> None:
    found = boundaries(FIVE, spending=spending)
    assert found.z == pytest.approx(published, abs=2e-4)
    assert found.spent[-1] == pytest.approx(0.05, rel=1e-12)


# spotify-confidence 4.1, `bounds(t, alpha, rho=2, ztrun=8, sides=2)`.
SPOTIFY = [
    (
        [0.1, 0.3, 0.35, 0.7, 0.9],
        0.05,
        [3.4807564043462422, 2.870598992593772, 2.9012317019429097, 2.3144428565768798, 2.1851779472192545],
    ),
    (
        [0.25, 0.5, 0.75, 1.0],
        0.01,
        [3.4205267011318305, 3.0854793202588824, 2.8786261230582055, 2.7166633505659163],
    ),
]


@pytest.mark.parametrize(("information", "alpha", "theirs"), SPOTIFY)
def test_uneven_looks_equal_spotifys(information: list[float], alpha: float, theirs: list[float]) -> None:
    assert boundaries(information, alpha=alpha, spending="quadratic").z == pytest.approx(theirs, abs=2e-4)


@settings(deadline=None, max_examples=200)
@given(alpha=st.floats(1e-6, 0.9), share=st.floats(0.01, 1.0))
def test_the_first_look_is_the_quantile_of_what_it_spends(alpha: float, share: float) -> None:
    side = alpha / 2
    spends = {
        "obrien_fleming": 2 * stats.norm.sf(stats.norm.isf(side / 2) / sqrt(share)),
        "pocock": side * np.log(1 + (np.e - 1) * share),
        "quadratic": side * share**2,
    }
    for spending in SPENDINGS:
        found = boundaries([share], alpha=alpha, spending=spending)
        assert found.spent[0] == pytest.approx(2 * spends[spending], rel=1e-9)
        assert found.z[0] == pytest.approx(min(LARGEST_Z, stats.norm.isf(spends[spending])), rel=1e-9)


def stopped_by_look(information: list[float], z: tuple[float, ...], points: int = 501) -> list[float]:
    """Give the chance to have crossed by each look, by Simpson's rule on B-values over even grids."""
    chances, before = [], 0.0
    grid, mass = np.zeros(1), np.ones(1)
    for share, limit in zip(information, z, strict=True):
        c, sd = limit * sqrt(share), sqrt(share - before)
        x: Array = np.linspace(-c, c, points)
        simpson = np.full(points, 2.0)
        simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
        density = np.exp(-(((x[:, None] - grid) / sd) ** 2) / 2) @ mass / sqrt(2 * np.pi) / sd
        grid, mass, before = x, simpson * (x[1] - x[0]) / 3 * density, share
        chances.append(1.0 - mass.sum())
    return chances


@settings(deadline=None, max_examples=200)
@given(information=shares(), alpha=st.floats(0.001, 0.5), spending=st.sampled_from(SPENDINGS))
def test_what_is_spent_is_what_another_quadrature_finds(
    information: list[float], alpha: float, spending: Spending
) -> None:
    found = boundaries(information, alpha=alpha, spending=spending)
    assert stopped_by_look(information, found.z) == pytest.approx(found.spent, rel=1e-9, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(information=shares(), spending=st.sampled_from(SPENDINGS))
def test_a_look_changes_no_earlier_boundary(information: list[float], spending: Spending) -> None:
    whole = boundaries(information, spending=spending)
    part = boundaries(information[:-1], spending=spending)
    assert whole.z[:-1] == pytest.approx(part.z, rel=1e-12)
    assert whole.spent[:-1] == part.spent


def test_many_and_close_looks_stay_exact() -> None:
    daily = boundaries([day / 100 for day in range(1, 101)])
    # Five looks end at 2.0310; looks without end, a Brownian motion meeting a line, at the quantile of
    # alpha/4.
    assert 2.0310 < daily.z[-1] < stats.norm.isf(0.05 / 4)
    assert list(daily.z) == sorted(daily.z, reverse=True)
    close = boundaries([0.5, 0.5001, 1.0], spending="pocock")
    apart = boundaries([0.5, 1.0], spending="pocock")
    assert [close.z[0], close.z[2]] == pytest.approx(apart.z, abs=1e-3)


def test_a_look_too_early_to_spend_anything_has_the_largest_boundary() -> None:
    found = boundaries([0.01, 0.02, 1.0])
    assert found.z[:2] == (LARGEST_Z, LARGEST_Z)
    assert found.z[2] == pytest.approx(stats.norm.isf(0.025), rel=1e-9)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_five_looks_reject_no_truth_as_often_as_spent(spending: Spending) -> None:
    rng = np.random.default_rng(6)
    sims = 200_000
    found = boundaries(FIVE, spending=spending)
    sums = np.cumsum(rng.normal(0, sqrt(0.2), (sims, 5)), axis=1)
    crossed = np.abs(sums) / np.sqrt(FIVE) > found.z
    for look in range(5):
        share, spent = crossed[:, : look + 1].any(axis=1).mean(), found.spent[look]
        assert abs(share - spent) < 4 * sqrt(spent * (1 - spent) / sims) + 1 / sims


def test_looks_at_exponential_units_reject_as_often_as_alpha() -> None:
    rng = np.random.default_rng(7)
    sims, size = 1000, 200
    found = boundaries(FIVE, spending="pocock")
    rejected = 0
    for _ in range(sims):
        a, c = rng.exponential(1.0, (2, 5 * size, 1))
        for look, z in enumerate(found.z, start=1):
            n = look * size
            effect = welch(Aggregates.of(("y",), a[:n]), Aggregates.of(("y",), c[:n]), "y")
            low, high = (bounds := adjusted(effect, z)).difference_low, bounds.difference_high
            if low is not None and high is not None and not low <= 0 <= high:
                rejected += 1
                break
    assert abs(rejected / sims - 0.05) < 4 * sqrt(0.05 * 0.95 / sims)


@pytest.mark.parametrize(
    "information",
    [[0.0, 1.0], [-0.1], [0.5, 0.5], [0.5, 0.50001], [0.6, 0.5], [0.5, 1.1], [float("nan")], [0.00001]],
)
def test_information_that_does_not_rise_is_refused(information: list[float]) -> None:
    with pytest.raises(InputError, match=r"information of look \d is .*, must be at most 1 and exceed"):
        boundaries(information)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        boundaries(FIVE, alpha=1.5)
    with pytest.raises(InputError, match=r"alpha is 1e-12, must be 1e-09 or more"):
        boundaries(FIVE, alpha=1e-12)
    with pytest.raises(
        InputError, match=r"spending is 'cubic', must be one of obrien_fleming, pocock, quadr"
    ):
        boundaries(FIVE, spending="cubic")  # type: ignore[arg-type]
