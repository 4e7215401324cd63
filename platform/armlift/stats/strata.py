"""Post-stratification: arms compared within strata, then averaged with the strata's shares of units.

A unit's stratum is the phase of its first exposure. Where arms' shares of traffic change from phase to phase,
pooled means mix the change of the phases into the comparison (Simpson's paradox); within a phase they cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

from armlift.stats.estimates import CONSTANT, Estimate, Spread, SpreadOf, compare, independent
from armlift.stats.results import DEFAULT_RULES, Effect, Method, Rules, Status

Pair = tuple[Estimate, Estimate]
"""One stratum's estimates: (arm, control)."""


@dataclass(frozen=True)
class Stratified:
    """An effect averaged over strata: `strata` counts those in it, `left_out` the others.

    Left out are strata in which an arm has fewer than two units or nothing to estimate from; `left_out_units`
    counts their units, which `effect` speaks neither of nor for. The effect bears the method of its parts.
    """

    effect: Effect
    strata: int
    left_out: int
    left_out_units: int


def stratified(pairs: Sequence[Pair], method: Method, rules: Rules = DEFAULT_RULES) -> Stratified:
    """Compare two arms over strata, given each stratum's (arm, control) estimates by any method.

    With nu_k = n_k / N the stratum's share of the units of both arms, f_a * arm + f_c * control is estimated
    by sum nu_k d_k, d_k = f_a m_ak + f_c m_ck, with variance

        sum nu_k^2 (f_a^2 v_ak + f_c^2 v_ck) + (sum nu_k d_k^2 - (sum nu_k d_k)^2) / N

    whose last term is there because the shares are themselves observed. Degrees of freedom by Satterthwaite
    (1946) over the 2 K + 1 terms: v^2 / (sum term^2 / df), where a part has n - 1 and the last term N - 1. A
    single stratum gives the unstratified result. Source: Miratrix, Sekhon & Yu (2013).
    """
    kept = [pair for pair in pairs if all(one.n > 1 and one.value is not None for one in pair)]
    if len(pairs) == 1:
        return Stratified(compare(method, *pairs[0], independent(*pairs[0]), rules), 1, 0, 0)
    left_out_units = _units(pairs) - _units(kept)
    if kept:
        effect = compare(method, _average(kept, 0), _average(kept, 1), _within_strata(kept), rules)
    else:
        n, control_n = (sum(pair[side].n for pair in pairs) for side in (0, 1))
        status: Status = "too_few" if n and control_n else "no_data"
        effect = Effect.unknown(method, status, alpha=rules.alpha, n=n, control_n=control_n)
    return Stratified(effect, len(kept), len(pairs) - len(kept), left_out_units)


def _units(pairs: Sequence[Pair]) -> int:
    return sum(arm.n + control.n for arm, control in pairs)


def _shares(pairs: Sequence[Pair]) -> list[float]:
    total = _units(pairs)
    return [(arm.n + control.n) / total for arm, control in pairs]


def _average(pairs: Sequence[Pair], side: int) -> Estimate:
    """Give one arm's estimate over the strata; its variance is that of the strata's own means."""
    weighed = [(share, pair[side]) for share, pair in zip(_shares(pairs), pairs, strict=True)]
    value = sum(share * _value(one) for share, one in weighed)
    variance = sum(share * one.variance * share for share, one in weighed)
    return Estimate(sum(one.n for _, one in weighed), value, variance)


def _value(estimate: Estimate) -> float:
    return nan if estimate.value is None else estimate.value


def _within_strata(pairs: Sequence[Pair]) -> SpreadOf:
    shares, units = _shares(pairs), _units(pairs)

    def spread(arm_factor: float, control_factor: float) -> Spread:
        terms: list[tuple[float, int]] = []
        combined: list[tuple[float, float]] = []
        for share, (arm, control) in zip(shares, pairs, strict=True):
            terms.append((share * (arm_factor * arm.variance * arm_factor) * share, arm.n - 1))
            terms.append(
                (share * (control_factor * control.variance * control_factor) * share, control.n - 1)
            )
            combined.append((arm_factor * _value(arm), control_factor * _value(control)))
        terms.append((_between(shares, combined) / units, units - 1))
        total = sum(term for term, _ in terms)
        if not 0.0 < total < inf:
            return Spread(total, nan)
        return Spread(total, 1.0 / sum((term / total) * (term / total) / df for term, df in terms))

    return spread


def _between(shares: Sequence[float], combined: Sequence[tuple[float, float]]) -> float:
    """Give the variance between strata of the sum of two parts; 0 where only rounding is left."""
    weighed = [(share, a + c, abs(a) + abs(c)) for share, (a, c) in zip(shares, combined, strict=True)]
    centre = sum(share * d for share, d, _ in weighed)
    between = sum(share * (d - centre) * (d - centre) for share, d, _ in weighed)
    scale = sum(share * (CONSTANT * size) * (CONSTANT * size) for share, _, size in weighed)
    return 0.0 if between <= scale else between
