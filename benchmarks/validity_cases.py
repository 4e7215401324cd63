"""The cases of the validity benchmark: kinds of data, methods, splits and sizes."""

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np
from populations import KINDS, REMAINING, Population, in_pairs, with_past
from simulation import Case, Parts

from armlift.stats.aggregates import Aggregates, merge
from armlift.stats.cuped import cuped
from armlift.stats.estimates import Estimate
from armlift.stats.means import mean, proportion, welch
from armlift.stats.paired import paired_means
from armlift.stats.power import minimum_detectable, power_of
from armlift.stats.ratios import delta_ratio
from armlift.stats.results import Effect
from armlift.stats.strata import stratified

SIZES = (100, 1000, 5000, 10_000)
SPLITS = {"50:50": 0.5, "10:90": 0.1}
LOOKS = 30
LOOKS_FROM = 1000
"""From this n on A/A experiments are looked at daily; below, a day brings a handful of units."""
CAP = 0.99
PHASE_SHARES = (0.1, 0.5)
"""The arm's share of traffic in two phases; units of the second are worth PHASE_VALUE of the first's."""
PHASE_VALUE = 0.6
METHODS: dict[str, tuple[str, Callable[[Aggregates, Aggregates], Effect]]] = {
    "normal": ("welch", lambda arm, control: welch(arm, control, "y")),
    "exponential": ("welch", lambda arm, control: welch(arm, control, "y")),
    "zero-inflated log-normal": ("welch", lambda arm, control: welch(arm, control, "y")),
    "Bernoulli 1 %": ("proportion", lambda arm, control: proportion(arm, control, "y")),
    "clustered ratio": ("ratio", lambda arm, control: delta_ratio(arm, control, "m", "d")),
}


def cases(sizes: Sequence[int] = SIZES, looks: int = LOOKS) -> Iterator[Case]:
    """Give every case; `n` is units an arm in equal arms, and 2 n are split in others."""
    for n in sizes:
        for split, share in SPLITS.items():
            arm = round(2 * n * share)
            units = (arm, 2 * n - arm)
            for name, (method, test) in METHODS.items():
                yield _two_arms(KINDS[name], method, split, n, units, test)._replace(
                    looks=looks if n >= LOOKS_FROM else 1
                )
            heavy = KINDS["zero-inflated log-normal"]
            case = _two_arms(heavy, "winsorised welch", split, n, units, METHODS[heavy.name][1])
            yield case._replace(prepared=_winsorised, planned=None)
            past = with_past()
            if split == "50:50":
                yield _two_arms(past, "welch", split, n, units, lambda a, c: welch(a, c, "y"))
            past = past._replace(variance=past.variance * REMAINING)
            yield _two_arms(past, "cuped", split, n, units, lambda a, c: cuped(a, c, "y", ["x"]))
        yield _pairs(n)
        yield from _phases(n)


def _two_arms(
    kind: Population,
    method: str,
    split: str,
    n: int,
    units: tuple[int, int],
    test: Callable[[Aggregates, Aggregates], Effect],
) -> Case:
    """Make the case of independent arms; the lift is the one detectable at a power of about 80 %."""
    lift = _detectable(sqrt(kind.variance / units[0] + kind.variance / units[1]), kind.value)
    baseline = Estimate(units[1], kind.value, kind.variance / units[1])
    planned = power_of(lift, baseline, *units, arm_variance=kind.lifted_variance(lift)).power

    def draw(rng: np.random.Generator, sims: int) -> Parts:
        return [kind.draw(rng, sims, one) for one in units]

    def lifted(rng: np.random.Generator, parts: Parts, lift: float) -> Parts:
        return [kind.lifted(rng, parts[0], lift), parts[1]]

    return Case(kind.name, method, split, n, sum(units), kind.columns, draw, lifted, test, lift, planned)


def _detectable(error: float, value: float) -> float:
    lift = minimum_detectable(error, value).relative
    assert lift is not None
    return lift


def _winsorised(parts: Parts) -> Parts:
    """Cap both arms at the 99 % point of their non-zero values together."""
    (arm,), (control,) = parts
    caps = np.empty((len(arm), 1))
    for at, (a, c) in enumerate(zip(arm, control, strict=True)):
        some = np.concatenate([a[a != 0.0], c[c != 0.0]])
        caps[at] = np.quantile(some, CAP) if len(some) else 0.0
    return [[np.minimum(arm, caps)], [np.minimum(control, caps)]]


def _pairs(n: int) -> Case:
    kind = in_pairs()

    def draw(rng: np.random.Generator, sims: int) -> Parts:
        return [kind.draw(rng, sims, n)]

    def lifted(rng: np.random.Generator, parts: Parts, lift: float) -> Parts:
        return [kind.lifted(rng, parts[0], lift)]

    def test(pairs: Aggregates) -> Effect:
        return paired_means(pairs, "a", "c")

    lift = _detectable(sqrt(kind.variance / n), kind.value)
    return Case(kind.name, "paired", "paired", n, n, kind.columns, draw, lifted, test, lift)


def _phases(n: int) -> Iterator[Case]:
    """Give the cases of two phases of n units with changing weights: stratified, and pooled for contrast."""
    kind = KINDS["exponential"]
    arms = [max(2, round(n * share)) for share in PHASE_SHARES]

    def draw(rng: np.random.Generator, sims: int) -> Parts:
        phases = zip((1.0, PHASE_VALUE), arms, strict=True)
        sizes = [(value, units) for value, arm in phases for units in (arm, n - arm)]
        return [[column * value for column in kind.draw(rng, sims, units)] for value, units in sizes]

    def lifted(rng: np.random.Generator, parts: Parts, lift: float) -> Parts:
        return [kind.lifted(rng, part, 0.0 if at % 2 else lift) for at, part in enumerate(parts)]

    def by_phase(*parts: Aggregates) -> Effect:
        first, first_control, second, second_control = (mean(part, "y") for part in parts)
        return stratified([(first, first_control), (second, second_control)], "welch").effect

    def pooled(*parts: Aggregates) -> Effect:
        return welch(merge(parts[0], parts[2]), merge(parts[1], parts[3]), "y")

    lift = _detectable(sqrt(1.0 / sum(arms) + 1.0 / (2 * n - sum(arms))), 1.0)
    for method, test in (("stratified", by_phase), ("pooled", pooled)):
        yield Case("two phases", method, "10:90, 50:50", n, 2 * n, ("y",), draw, lifted, test, lift)
