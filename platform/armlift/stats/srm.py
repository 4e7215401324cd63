"""Sample ratio mismatch: do the arms hold the shares of units that the weights promise?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, isfinite, log
from sys import float_info

from scipy.special import chdtrc, gammaln

from armlift.errors import InputError
from armlift.stats.results import CheckStatus

THRESHOLD = 0.001
SMALLEST_EXPECTED = 5.0
"""Below this many expected units in an arm the chi-square distribution is no fair approximation (Cochran)."""

CONCENTRATION = 1000.0
"""The sequential test looks for shares about 1.6 points off a promised half (its prior's deviation)."""


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


@dataclass(frozen=True)
class SequentialSampleRatio:
    """The answer of the sequential sample ratio check; it may be asked at every look.

    `observed`, `expected`, `strata` and `left_out` are as in `SampleRatio`, but a stratum of any size is
    tested: only those with a single arm with weight are left out. `log_e_value` is the natural logarithm of
    the evidence against the weights, `p_value` min(1, 1 / e) at these counts. Status: `fail` where
    p < THRESHOLD, or where units stand in an arm of weight 0 in any stratum (then p = 0 and `log_e_value` is
    None); `no_data` without a unit; `not_applicable` where no stratum has two arms with weight.
    """

    status: CheckStatus
    observed: tuple[int, ...]
    expected: tuple[float, ...]
    log_e_value: float | None
    p_value: float | None
    strata: int
    left_out: int
    concentration: float


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
    weighted = [s for s in strata if _several_arms(s)]
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


def sequential_sample_ratio(
    observed: Sequence[int], weights: Sequence[float], *, concentration: float = CONCENTRATION
) -> SequentialSampleRatio:
    """Test units by arm against weights, at as many looks as one likes; see the strata's version."""
    return sequential_sample_ratio_strata([Stratum(observed, weights)], concentration=concentration)


def sequential_sample_ratio_strata(
    strata: Sequence[Stratum], *, concentration: float = CONCENTRATION
) -> SequentialSampleRatio:
    """Test several strata at once: the product of their e-values, each against its own fixed weights.

    With shares t_i, counts n_i that add up to n, and c = `concentration`, e is the ratio of the counts'
    likelihood under shares drawn from a Dirichlet(c t) to that under t itself: ln e = lnG(c) - lnG(c + n) +
    sum (lnG(c t_i + n_i) - lnG(c t_i) - n_i ln t_i), lnG the log gamma function. Under the weights e is a
    martingale of mean 1 over units, so the chance that p = min(1, 1/e) ever falls below a level is at most
    that level (Ville 1939). From counts of today p is that of this look alone; the smallest p of all looks is
    as valid, and needs the counts of each.

    The price is power: at a level of .001 some 1.7 times the units of the chi-square test at one look find a
    split of 51 : 49. A higher concentration finds smaller mismatches sooner and gross ones later. Choose it
    before the first unit. Errors as in `sample_ratio`, and InputError unless the concentration is finite and
    above 0. Source: Lindon & Malek (NeurIPS 2022, "Anytime-valid inference for multinomial count data").
    """
    if not 0.0 < concentration < inf:
        raise InputError(f"concentration is {concentration}, must be finite and above 0")
    arms = len(strata[0].weights) if strata else 0
    for stratum in strata:
        _check(stratum, arms)
    tested = [s for s in strata if _several_arms(s)]
    observed = tuple(sum(s.observed[k] for s in tested) for k in range(arms))
    expected = tuple(sum(_expected(s)[k] for s in tested) for k in range(arms))
    stray = any(_stray(s) for s in strata)
    log_e = None if stray or not sum(observed) else sum(_log_e_value(s, concentration) for s in tested)
    p_value = 0.0 if stray else None if log_e is None else exp(-max(0.0, log_e))
    status: CheckStatus
    if p_value is not None:
        status = "fail" if p_value < THRESHOLD else "ok"
    else:
        status = "no_data" if tested or not strata else "not_applicable"
    left_out = len(strata) - len(tested)
    return SequentialSampleRatio(
        status, observed, expected, log_e, p_value, len(tested), left_out, concentration
    )


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
    if not isfinite(sum(stratum.weights)):
        raise InputError("sample ratio: the weights add up to inf, must be finite")


def _several_arms(stratum: Stratum) -> bool:
    """Say whether two arms or more have weight, so that there is a split to test."""
    return sum(weight > 0.0 for weight in stratum.weights) > 1


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


def _log_e_value(stratum: Stratum, concentration: float) -> float:
    units, total = sum(stratum.observed), sum(stratum.weights)
    log_e = float(gammaln(concentration) - gammaln(concentration + units))
    for count, weight in zip(stratum.observed, stratum.weights, strict=True):
        if count and weight > 0.0:
            share = max(weight / total, float_info.min)  # a share that rounds to 0 is none of 0
            prior = max(concentration * share, float_info.min)
            log_e += float(gammaln(prior + count) - gammaln(prior)) - count * log(share)
    return log_e
