"""Sample ratio mismatch: do the arms hold the shares of units that the weights promise?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from scipy.special import chdtrc

from armlift.errors import InputError
from armlift.stats.results import CheckStatus

THRESHOLD = 0.001
SMALLEST_EXPECTED = 5.0
"""Below this many expected units in an arm the chi-square distribution is no fair approximation (Cochran)."""


@dataclass(frozen=True)
class Stratum:
    """Units by arm in one phase and generation, with the weights that held then; both in the arms' order."""

    observed: Sequence[int]
    weights: Sequence[float]


@dataclass(frozen=True)
class SampleRatio:
    """The answer of the sample ratio check.

    `observed` and `expected` are units by arm, summed over the tested strata; `strata` counts those, and
    `left_out` those with fewer than SMALLEST_EXPECTED expected units in an arm or a single arm with weight.
    Status: `fail` where p < THRESHOLD, or where units stand in an arm of weight 0 in any stratum (then p = 0
    and `chi_square` is None); `no_data` where nothing could be tested; `not_applicable` where no stratum has
    two arms with weight.
    """

    status: CheckStatus
    observed: tuple[int, ...]
    expected: tuple[float, ...]
    chi_square: float | None
    degrees_of_freedom: int
    p_value: float | None
    strata: int
    left_out: int


def sample_ratio(observed: Sequence[int], weights: Sequence[float]) -> SampleRatio:
    """Test units by arm against weights of any scale: sum (o - e)^2 / e on arms - 1 degrees of freedom.

    Count units by first exposure, forced ones left out. Raises InputError where the lengths differ or a count
    or weight is negative or not finite. Source: Fabijan et al. (KDD 2019); Pearson (1900).
    """
    return sample_ratio_strata([Stratum(observed, weights)])


def sample_ratio_strata(strata: Sequence[Stratum]) -> SampleRatio:
    """Test several strata at once: the sum of their chi-squares on the sum of their degrees of freedom.

    Summing keeps a change of weights from looking like a mismatch. Arms have one order in all strata; one
    that a stratum does not have has weight 0 there. Errors as in `sample_ratio`.
    """
    arms = len(strata[0].weights) if strata else 0
    for stratum in strata:
        _check(stratum, arms)
    weighted = [s for s in strata if sum(weight > 0.0 for weight in s.weights) > 1]
    tested = [s for s in weighted if _smallest_expected(s) >= SMALLEST_EXPECTED]
    observed = tuple(sum(s.observed[k] for s in tested) for k in range(arms))
    expected = tuple(sum(_expected(s)[k] for s in tested) for k in range(arms))
    df = sum(sum(weight > 0.0 for weight in s.weights) - 1 for s in tested)
    stray = any(_stray(s) for s in strata)
    chi_square = None if stray or not tested else sum(map(_chi_square, tested))
    p_value = 0.0 if stray else None if chi_square is None else float(chdtrc(df, chi_square))
    status: CheckStatus
    if p_value is not None:
        status = "fail" if p_value < THRESHOLD else "ok"
    else:
        status = "no_data" if weighted or not strata else "not_applicable"
    left_out = len(strata) - len(tested)
    return SampleRatio(status, observed, expected, chi_square, df, p_value, len(tested), left_out)


def _check(stratum: Stratum, arms: int) -> None:
    if len(stratum.observed) != arms or len(stratum.weights) != arms:
        raise InputError(
            f"sample ratio: {len(stratum.observed)} counts and {len(stratum.weights)} weights, "
            f"must be {arms} each"
        )
    for name, values in (("count", stratum.observed), ("weight", stratum.weights)):
        for value in values:
            if not isfinite(value) or value < 0:
                raise InputError(f"sample ratio: {name} {value}, must be finite and 0 or more")


def _expected(stratum: Stratum) -> list[float]:
    units, total = sum(stratum.observed), sum(stratum.weights)
    return [units * (weight / total) for weight in stratum.weights]


def _smallest_expected(stratum: Stratum) -> float:
    return min(e for e, weight in zip(_expected(stratum), stratum.weights, strict=True) if weight > 0.0)


def _stray(stratum: Stratum) -> bool:
    """Say whether units stand in an arm that had no weight."""
    return any(o > 0 and weight == 0.0 for o, weight in zip(stratum.observed, stratum.weights, strict=True))


def _chi_square(stratum: Stratum) -> float:
    pairs = zip(stratum.observed, _expected(stratum), strict=True)
    return sum((o - e) * (o - e) / e for o, e in pairs if e > 0.0)
