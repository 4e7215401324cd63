"""Bayesian reading of a lift: a normal prior, a normal likelihood, so a normal posterior."""

from dataclasses import dataclass
from math import exp, hypot, inf, isfinite, pi, sqrt

from scipy.special import erfcx, ndtr, ndtri

from armlift.errors import InputError
from armlift.stats.results import Effect, Status


@dataclass(frozen=True)
class Prior:
    """A normal belief about the relative lift before the data: `mean` and `sd` are fractions.

    The default, sd 0.3, holds two lifts in three to lie within +-30 %. Raises InputError unless the mean is
    finite and the sd finite and above 0.
    """

    mean: float = 0.0
    sd: float = 0.3

    def __post_init__(self) -> None:
        if not isfinite(self.mean):
            raise InputError(f"prior mean is {self.mean}, must be finite")
        if not 0.0 < self.sd < inf:
            raise InputError(f"prior sd is {self.sd}, must be finite and above 0")


DEFAULT_PRIOR = Prior()


@dataclass(frozen=True)
class Posterior:
    """What one may believe about the relative lift, a fraction, after the data.

    `low` to `high` is the central credible interval of probability 1 - alpha. `chance_to_win` is the
    probability that the arm is better than the control; `expected_loss` is the lift one gives away on average
    by shipping the arm, counting 0 where the arm is better. Status: the effect's own where it has no lift
    with an error, `not_estimable` where a number is not finite, else `ok`; only then are the numbers given.
    """

    status: Status
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    chance_to_win: float | None
    expected_loss: float | None
    alpha: float
    prior: Prior
    inverse: bool


def posterior(effect: Effect, *, prior: Prior = DEFAULT_PRIOR, inverse: bool = False) -> Posterior:
    """Weigh a prior with an effect's lift; with `inverse` a decrease is better.

    With m, s the prior's mean and sd, l the lift and e its error: sd^2 = 1 / (1/s^2 + 1/e^2), mean =
    (m/s^2 + l/e^2) sd^2. With x = mean / sd: chance to win = Phi(x), expected loss E[max(-lift, 0)] =
    sd phi(x) - mean Phi(-x); inverse: signs turned. The likelihood is normal in the lift itself, so for an
    effect on the log scale e = (1 + lift) * lift_error (delta method), which is what linear rules give.

    The prior must not come from the data at hand. The interval is no confidence interval: under repeated
    looks it keeps its meaning only as far as the prior is right. Source: Gelman et al. (2013, "Bayesian Data
    Analysis"), section 2.5; Deng, Lu & Chen (2016, "Continuous monitoring of A/B tests without pain").
    """
    lift, error = effect.lift, _linear_error(effect)
    if lift is None or error is None:
        return _unknown(effect.status, effect, prior, inverse)
    size = hypot(prior.sd, error)
    sd = prior.sd * (error / size)
    mean = prior.mean * (error / size) ** 2 + lift * (prior.sd / size) ** 2
    if not isfinite(mean) or not 0.0 < sd < inf:
        return _unknown("not_estimable", effect, prior, inverse)
    half = sd * float(ndtri(1.0 - effect.alpha / 2.0))
    better = -mean / sd if inverse else mean / sd
    numbers = (mean, sd, mean - half, mean + half, float(ndtr(better)), sd * _loss(better))
    if not all(map(isfinite, numbers)):
        return _unknown("not_estimable", effect, prior, inverse)
    return Posterior("ok", *numbers, effect.alpha, prior, inverse)


def _linear_error(effect: Effect) -> float | None:
    if effect.lift is None or effect.lift_error is None:
        return None
    return effect.lift_error * (1.0 if effect.lift_scale == "linear" else 1.0 + effect.lift)


def _loss(x: float) -> float:
    """Give phi(x) - x Phi(-x), the mean of max(-X, 0) for X normal with mean x and sd 1."""
    density = exp(-x * x / 2.0) / sqrt(2.0 * pi)
    if x <= 0.0:
        return density - x * float(ndtr(-x))
    # Far out the two terms are nearly equal; the scaled complementary error function keeps the difference.
    return density * max(0.0, 1.0 - x * sqrt(pi / 2.0) * float(erfcx(x / sqrt(2.0))))


def _unknown(status: Status, effect: Effect, prior: Prior, inverse: bool) -> Posterior:
    return Posterior(status, None, None, None, None, None, None, effect.alpha, prior, inverse)
