from math import exp, inf, isfinite, nan, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from armlift.errors import InputError
from armlift.stats.aggregates import Aggregates
from armlift.stats.bayesian import Posterior, Prior, posterior
from armlift.stats.estimates import Estimate, compare, independent
from armlift.stats.means import welch
from armlift.stats.results import Effect, LiftScale, Rules

Y = ("y",)
Arm = tuple[int, float, float]

# gbstats 0.8.0, EffectBayesianABTest with a proper relative prior: arm and control as (n, mean, standard
# deviation), alpha, prior (mean, sd), inverse; then mean, sd, interval, chance to win, the arm's risk, and
# the control's.
# fmt: off
GBSTATS: list[tuple[Arm, Arm, float, tuple[float, float], bool, tuple[float, ...]]] = [
    ((1925, 0.983, 0.98), (1320, 0.99, 1.12), 0.05, (0.0, 0.3), False, (
      -0.00695745714056, 0.0379672204037, -0.0813718417249, 0.0674569274438, 0.427301304058,
      0.0188790639944, 0.0119216068538)),
    ((3501, 5.751, 4.57), (395, 5.87, 10.66), 0.01, (0.05, 0.1), True, (
      0.0113614568707, 0.0670940997868, -0.161461491455, 0.184184405197, 0.432766119574, 0.0328302508098,
      0.0214687939391)),
    ((1922, 5.619, 3.63), (3025, 5.44, 3.03), 0.1, (-0.02, 0.02), False, (
      0.0085552170902, 0.0135683285632, -0.0137626973587, 0.0308731315391, 0.735825550407,
      0.00217709986445, 0.0107323169546)),
    ((4321, 2.884, 3.4), (961, 3.06, 5.95), 0.2, (0.0, 0.3), True, (
      -0.0551977537315, 0.0602333823912, -0.132389939233, 0.02199443177, 0.820270919236, 0.00586965335119,
      0.0610674070827)),
    ((4126, 2.764, 4.61), (3710, 2.83, 5.54), 0.05, (0.05, 0.1), False, (
      -0.0130536010919, 0.037421924448, -0.0863992252421, 0.0602920230583, 0.363611367035,
      0.0223551589355, 0.00930155784354)),
    ((3994, 2.45, 1.37), (3091, 2.42, 2.51), 0.01, (-0.02, 0.02), True, (
      -0.00451688159832, 0.014450982148, -0.0417401448801, 0.0327063816834, 0.622694686163,
      0.00378601421436, 0.00830289581268)),
    ((503, 2.041, 2.78), (4457, 2.02, 3.86), 0.1, (0.0, 0.3), False, (
      0.00989032902879, 0.066166522454, -0.0989439154124, 0.11872457347, 0.559411107773, 0.0217458031642,
      0.031636132193)),
    ((3456, 4.062, 3.06), (3165, 3.82, 1.79), 0.2, (0.05, 0.1), True, (
      0.0630072456422, 0.0160411336862, 0.0424497056535, 0.0835647856309, 4.28534447424e-05,
      0.0630074030756, 1.57433418071e-07)),
    ((813, 4.527, 2.48), (4170, 4.0, 1.29), 0.05, (-0.02, 0.02), False, (
      0.0470893695261, 0.0149384794838, 0.0178104877541, 0.0763682512982, 0.999189828503,
      3.30055887564e-06, 0.047092670085)),
    ((4213, 6.712, 8.1), (2598, 5.85, 2.67), 0.01, (0.0, 0.3), True, (
      0.146438264296, 0.0236037928128, 0.0856389230935, 0.207237605498, 2.75204192768e-10, 0.146438264297,
      9.98605743369e-13)),
    ((120, 3.217, 5.75), (2814, 3.4, 5.15), 0.1, (0.05, 0.1), False, (
      0.0199618633354, 0.0843018882741, -0.118702403351, 0.158626130022, 0.593590233492, 0.0245891300338,
      0.0445509933691)),
    ((3393, 5.458, 7.45), (4052, 5.08, 3.72), 0.2, (-0.02, 0.02), True, (
      0.0118241721219, 0.0162838972334, -0.00904448187072, 0.0326928261146, 0.233880559413,
      0.0140495880031, 0.00222541588118)),
]
# fmt: on


def units(arm: Arm) -> Aggregates:
    n, mean, sd = arm
    return Aggregates(Y, n, np.array([mean]), np.array([[sd * sd * (n - 1)]]))


def numbers(found: Posterior) -> list[float]:
    values = (found.mean, found.sd, found.low, found.high, found.chance_to_win, found.expected_loss)
    return [value for value in values if value is not None]


@pytest.mark.parametrize(("arm", "control", "alpha", "prior", "inverse", "theirs"), GBSTATS)
def test_it_equals_gbstats(
    arm: Arm,
    control: Arm,
    alpha: float,
    prior: tuple[float, float],
    inverse: bool,
    theirs: tuple[float, ...],
) -> None:
    effect = welch(units(arm), units(control), "y", Rules(alpha, "linear"))
    ours = posterior(effect, prior=Prior(*prior), inverse=inverse)
    assert ours.status == "ok"
    assert numbers(ours) == pytest.approx(theirs[:6], rel=1e-9)
    other = posterior(effect, prior=Prior(*prior), inverse=not inverse)
    assert other.expected_loss == pytest.approx(theirs[6], rel=1e-9)
    on_log = posterior(
        welch(units(arm), units(control), "y", Rules(alpha)), prior=Prior(*prior), inverse=inverse
    )
    assert numbers(on_log) == pytest.approx(theirs[:6], rel=1e-9)


@settings(deadline=None, max_examples=200)
@given(
    lift=st.floats(-0.9, 3),
    error=st.floats(0.001, 0.5),
    prior=st.tuples(st.floats(-0.5, 0.5), st.floats(0.01, 2)),
    alpha=st.floats(0.001, 0.5),
    scale=st.sampled_from(["log", "linear"]),
    inverse=st.booleans(),
)
def test_it_equals_scipys_normal(
    lift: float, error: float, prior: tuple[float, float], alpha: float, scale: LiftScale, inverse: bool
) -> None:
    a, c = Estimate(900, 1.0 + lift, error**2), Estimate(900, 1.0, 0.0)
    effect = compare("welch", a, c, independent(a, c), Rules(alpha, scale))
    ours = posterior(effect, prior=Prior(*prior), inverse=inverse)
    precision = 1 / error**2 + 1 / prior[1] ** 2
    mean, sd = (lift / error**2 + prior[0] / prior[1] ** 2) / precision, precision**-0.5
    law = stats.norm(mean, sd)
    wins = law.cdf(0) if inverse else law.sf(0)
    assert [ours.mean, ours.low, ours.high] == pytest.approx(
        [mean, *law.interval(1 - alpha)], rel=1e-9, abs=1e-9 * sd
    )
    assert [ours.sd, ours.chance_to_win] == pytest.approx([sd, wins], rel=1e-9)


def test_the_expected_loss_is_its_integral() -> None:
    for x in np.linspace(-6.0, 20.0, 200):
        a, c = Estimate(900, 1.0 + 0.01 * x, 0.0001), Estimate(900, 1.0, 0.0)
        effect = compare("welch", a, c, independent(a, c), Rules(lift="linear"))
        ours = posterior(effect, prior=Prior(sd=1e9))
        loss, _ = integrate.quad(lambda u, x=x: u * exp(-((u + x) ** 2) / 2), 0, inf, epsabs=0, epsrel=1e-11)
        assert ours.expected_loss == pytest.approx(0.01 * loss / sqrt(2 * pi), rel=1e-9)


def test_without_news_the_prior_stands_and_without_a_prior_the_lift() -> None:
    vague, sharp = (Estimate(900, 1.1, v) for v in (1e6, 1e-6))
    c = Estimate(900, 1.0, 0.0)
    for arm, prior, mean, sd in ((vague, Prior(0.02, 0.1), 0.02, 0.1), (sharp, Prior(0, 1e3), 0.1, 0.001)):
        effect = compare("welch", arm, c, independent(arm, c), Rules(lift="linear"))
        found = posterior(effect, prior=prior)
        assert [found.mean, found.sd] == pytest.approx([mean, sd], rel=1e-5)


@pytest.mark.parametrize(
    ("arm", "control", "status"),
    [
        (Estimate(0, None, 0.0), Estimate(9, 1.0, 0.1), "no_data"),
        (Estimate(1, 1.0, 0.1), Estimate(9, 1.0, 0.1), "too_few"),
        (Estimate(9, 1.0, 0.0), Estimate(9, 2.0, 0.0), "zero_variance"),
        (Estimate(9, 1.0, 0.1), Estimate(9, 0.0, 0.1), "zero_control"),
        (Estimate(9, -1.0, 0.1), Estimate(9, 1.0, 0.1), "not_estimable"),
        (Estimate(9, 1.0, 0.1), Estimate(9, 1.0, 0.1), "ok"),
    ],
)
def test_degenerate_arms(arm: Estimate, control: Estimate, status: str) -> None:
    found = posterior(compare("welch", arm, control, independent(arm, control), Rules()))
    assert found.status == status
    assert len(numbers(found)) == (6 if status == "ok" else 0)


@pytest.mark.parametrize(
    ("mean", "sd"), [(nan, 0.3), (inf, 0.3), (0.0, 0.0), (0.0, -1.0), (0.0, inf), (0.0, nan)]
)
def test_what_is_no_prior_is_refused(mean: float, sd: float) -> None:
    with pytest.raises(InputError, match=r"prior (mean|sd) is .*, must be finite"):
        Prior(mean, sd)


@settings(deadline=None, max_examples=300)
@given(
    values=st.tuples(*[st.floats(0, 1e300)] * 4),
    prior=st.tuples(st.floats(-1e300, 1e300), st.floats(1e-300, 1e300)),
)
def test_it_never_answers_a_nan(
    values: tuple[float, float, float, float], prior: tuple[float, float]
) -> None:
    a, c = Estimate(9, values[0], values[1]), Estimate(9, values[2], values[3])
    found = posterior(compare("welch", a, c, independent(a, c), Rules()), prior=Prior(*prior))
    assert all(map(isfinite, numbers(found)))
    assert len(numbers(found)) == (6 if found.status == "ok" else 0)


def test_beliefs_are_calibrated_where_the_prior_is_right() -> None:
    rng = np.random.default_rng(2)
    sims = 3000
    prior = Prior(0.01, 0.05)
    truths = rng.normal(prior.mean, prior.sd, sims)
    found = []
    for truth in truths:
        a, c = (Estimate(2000, float(rng.normal(m, 0.03)), 0.0009) for m in (1.0 + truth, 1.0))
        effect: Effect = compare("welch", a, c, independent(a, c), Rules(alpha=0.2))
        found.append(numbers(posterior(effect, prior=prior)))
    _, _, low, high, wins, loss = np.array(found).T
    inside = np.mean((low <= truths) & (truths <= high))
    assert abs(inside - 0.8) < 4 * np.sqrt(0.8 * 0.2 / sims)
    assert abs(np.mean(wins - (truths > 0))) < 4 * np.std(wins - (truths > 0)) / np.sqrt(sims)
    losses = loss - np.maximum(-truths, 0)
    assert abs(losses.mean()) < 4 * losses.std() / np.sqrt(sims)
    likely = wins > 0.8
    assert abs(np.mean((truths > 0)[likely]) - wins[likely].mean()) < 4 * 0.5 / np.sqrt(likely.sum())
