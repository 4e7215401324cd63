from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.logs.log import LogBatch
from armlift.logs.reader import open_log
from armlift.logs.sessions import LoggedImpression, Session, sessions

Row = tuple[int, str]
"""Time and unit; the item is the row's place in the log."""


def batch_of(rows: list[Row], first: int = 0) -> LogBatch:
    places = np.arange(first, first + len(rows))
    return LogBatch(
        units=[unit for _, unit in rows],
        items=[str(place) for place in places],
        ts=np.array([ts for ts, _ in rows], dtype=np.int64),
        feedback={
            "play": places / 2,
            "click": (places % 2).astype(np.float64),
            "like": (places % 3 == 0) * 1.0,
        },
        random=places % 5 == 0,
    )


def impression(place: int, ts: int) -> LoggedImpression:
    """Say in plain Python what `batch_of` has at a place."""
    kinds = (
        [("click", 1.0)] * (place % 2)
        + [("like", 1.0)] * (place % 3 == 0)
        + [("play", place / 2)] * (place > 0)
    )
    return LoggedImpression(str(place), ts, place % 5 == 0, tuple(kinds))


def reference(rows: list[Row], gap: int, cut: int | None) -> list[Session]:
    """Make sessions in plain Python, unit by unit, then order them by their last row."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, (_, unit) in enumerate(rows):
        places[unit].append(place)
    runs: list[list[int]] = []
    for own in places.values():
        runs.append([own[0]])
        for earlier, later in pairwise(own):
            before, after = rows[earlier][0], rows[later][0]
            if after - before > gap or (cut is not None and before < cut <= after):
                runs.append([])
            runs[-1].append(later)
    runs.sort(key=lambda run: run[-1])
    return [Session(rows[run[0]][1], [impression(place, rows[place][0]) for place in run]) for run in runs]


@given(
    rows=st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abc")), max_size=50).map(sorted),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    gap=st.integers(0, 12),
    cut=st.none() | st.integers(-1, 62),
)
def test_sessions_equal_a_plain_python_making(
    rows: list[Row], sizes: list[int], gap: int, cut: int | None
) -> None:
    edges = [min(edge, len(rows)) for edge in np.cumsum([0, *sizes, len(rows)]).tolist()]
    batches = [batch_of(rows[start:stop], start) for start, stop in pairwise(edges)]
    assert list(sessions(batches, gap, cut=cut)) == reference(rows, gap, cut)


def test_a_gap_ends_a_session_only_when_it_is_longer() -> None:
    rows = [(0, "a"), (10, "a"), (21, "a")]
    assert [[row.ts for row in one.impressions] for one in sessions([batch_of(rows)], 10)] == [[0, 10], [21]]


def test_the_cut_splits() -> None:
    rows = [(0, "a"), (9, "a"), (10, "a"), (11, "a")]
    found = [[row.ts for row in one.impressions] for one in sessions([batch_of(rows)], 100, cut=10)]
    assert found == [[0, 9], [10, 11]]


def test_sessions_come_as_soon_as_the_time_has_passed() -> None:
    given: list[int] = []

    def batches() -> Iterator[LogBatch]:
        for place, row in enumerate([(0, "a"), (10, "b"), (11, "b"), (30, "c")]):
            given.append(place)
            yield batch_of([row], place)

    found = sessions(batches(), 10)
    assert next(found).unit == "a"
    assert given == [0, 1, 2]
    assert next(found).unit == "b"
    assert given == [0, 1, 2, 3]
    assert [one.unit for one in found] == ["c"]


def test_what_is_not_known_is_none() -> None:
    batch = LogBatch(["a"], ["x"], np.array([5], dtype=np.int64), {}, None)
    assert list(sessions([batch], 1)) == [Session("a", [LoggedImpression("x", 5, None, ())])]


@pytest.mark.parametrize("batch_rows", [1000, 65_536])
def test_real_extract(shared_data: Path, batch_rows: int) -> None:
    log = open_log([shared_data / "kuairand" / "log_standard_27k_explicit.csv"], batch_rows=batch_rows)
    made = list(sessions(log.batches(), 1_800_000))
    assert len(made) == 20_756
    assert sum(len(one.impressions) for one in made) == 41_704
    assert made[0] == Session(
        "4854",
        [
            LoggedImpression(
                "3431182",
                1649346288441,
                None,
                (("click", 1.0), ("long_view", 1.0), ("like", 1.0), ("play", 19.435)),
            )
        ],
    )
    ends = [one.impressions[-1].ts for one in made]
    assert ends == sorted(ends)
