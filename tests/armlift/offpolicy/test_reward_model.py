"""The reward model: shrunk means by hand, and no unit predicts itself."""

from collections.abc import Callable

import numpy as np
import pytest

from armlift.offpolicy.logged_rows import LoggedRows
from armlift.offpolicy.policies import uniform
from armlift.offpolicy.reward_model import PRIOR, predict, shrunk_means

MakeRows = Callable[..., LoggedRows]


def test_means_are_shrunk_step_by_step() -> None:
    counts = np.array([[100.0, 0.0], [50.0, 50.0]])
    sums = np.array([[20.0, 0.0], [30.0, 10.0]])
    overall = 60 / 200
    item = [(50 + PRIOR * overall) / (150 + PRIOR), (10 + PRIOR * overall) / (50 + PRIOR)]
    position = [(20 + PRIOR * overall) / (100 + PRIOR), (40 + PRIOR * overall) / (100 + PRIOR)]
    wanted = [
        [(sums[p, i] + PRIOR * (item[i] + position[p] - overall)) / (counts[p, i] + PRIOR) for i in range(2)]
        for p in range(2)
    ]
    assert shrunk_means(counts, sums) == pytest.approx(np.array(wanted))
    assert shrunk_means(np.zeros((1, 2)), np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_a_units_own_rewards_do_not_move_its_predictions(make_rows: MakeRows) -> None:
    def made(reward: float) -> LoggedRows:
        others = ((f"u{n}", "ab"[n % 2], 1, float(n % 3 == 0), 0.5) for n in range(200))
        return make_rows(("own", "a", 1, reward, 0.5), ("own", "b", 1, reward, 0.5), *others)

    low, high = made(0.0), made(100.0)
    one, other = predict(low, uniform(low)), predict(high, uniform(high))
    assert one.predicted[:2] == pytest.approx(other.predicted[:2], rel=1e-12)
    assert one.expected[:2] == pytest.approx(other.expected[:2], rel=1e-12)
    assert not np.allclose(one.predicted[2:], other.predicted[2:])
    assert one.expected[:2] == pytest.approx([one.predicted[:2].mean()] * 2)
