"""Users of the simulator remember what they did as a database would tell it."""

from collections.abc import Callable
from itertools import pairwise

from armlift.simulation.laboratory import Laboratory


def test_histories_are_in_the_order_of_those_read_from_a_database(
    laboratory_of: Callable[..., Laboratory],
) -> None:
    past = laboratory_of(["one", "two"], users=200, limit=500).past_data()
    histories = [one.behaviours for one in past.histories()]
    for history in histories:
        assert [*history] == sorted(history, key=lambda one: (one.ts, one.item, one.kind, one.value))
    kinds = {
        (one.kind, other.kind)
        for history in histories
        for one, other in pairwise(history)
        if (one.item, one.ts) == (other.item, other.ts)
    }
    assert {("click", "like"), ("like", "long_view"), ("long_view", "play")} <= kinds
