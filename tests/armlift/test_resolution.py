"""On how many requests slates differ."""

from armlift.arm import Slate
from armlift.resolution import ALL_BELOW, EVERY, SlateComparison


def slate(*items: str) -> Slate:
    n = len(items)
    return Slate(items, [0.0] * n, [0] * n, [1.0] * n)


def test_only_what_a_slate_holds_counts() -> None:
    comparison = SlateComparison("old", ["old", "same", "new"])
    comparison.add(
        {
            "old": [slate("a", "b"), slate("a"), slate()],
            "same": [slate("b", "a"), slate("a"), slate()],
            "new": [slate("b", "a"), slate("c"), slate("a")],
        }
    )
    assert comparison.result() == {
        "compared": 3,
        "differing": 2,
        "differing_by_arm": {"same": 0, "new": 2},
    }


def test_every_early_request_is_compared_then_one_in_sixteen() -> None:
    taken = [number for number in range(ALL_BELOW + 160) if SlateComparison.takes(number)]
    assert taken[:ALL_BELOW] == list(range(ALL_BELOW))
    assert len(taken) == ALL_BELOW + 160 // EVERY
