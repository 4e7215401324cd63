"""What trains, what is held out, and batches of like length."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift_arms.windows import Sequences, batches, padded, split

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def sequences_of(lengths: list[int]) -> Sequences:
    """Number the items of sequences of these lengths through, from 0."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(np.arange(starts[-1], dtype=np.int32), starts)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(1, 12), st.floats(0, 1))
def test_every_item_but_the_first_and_those_held_out_is_a_target_once(
    lengths: list[int], length: int, share: float
) -> None:
    sequences = sequences_of(lengths)
    cut = split(sequences, length, share)
    targets = [at for start, end, _ in cut.windows.tolist() for at in range(start + 1, end)]
    held_out = cut.held_out[:, 1].tolist()
    bounds = list(pairwise(sequences.starts.tolist()))
    wanted = {at for start, end in bounds for at in range(start + 1, end)}
    assert sorted([*targets, *held_out]) == sorted(wanted)
    assert {end for _, end in bounds} >= {at + 1 for at in held_out}


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(1, 12), st.floats(0, 1))
def test_windows_lie_within_their_sequence_and_length(lengths: list[int], length: int, share: float) -> None:
    sequences = sequences_of(lengths)
    cut = split(sequences, length, share)
    for start, end, number in cut.windows.tolist():
        assert sequences.starts[number] <= start < end - 1 < sequences.starts[number + 1]
        assert end - start - 1 <= length
    for start, end, number in cut.held_out.tolist():
        assert sequences.starts[number] <= start
        assert end - start == min(length, lengths[number] - 1)
    enough = sum(size >= 3 for size in lengths)
    assert len(cut.held_out) == np.ceil(enough * share)


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(1, 60), st.integers(0, 9))
def test_batches_hold_every_window_once_and_few_padded_inputs(
    lengths: list[int], tokens: int, seed: int
) -> None:
    windows = split(sequences_of(lengths), 12, 0.0).windows
    found = batches(windows, tokens, np.random.default_rng(seed))
    rows = [tuple(row) for batch in found for row in batch.tolist()]
    assert sorted(rows) == sorted(map(tuple, windows.tolist()))
    for batch in found:
        longest = int((batch[:, 1] - batch[:, 0] - 1).max())
        # A window that is longer than a batch stands alone.
        assert len(batch) * longest <= tokens or len(batch) == 1


def test_batches_are_in_another_order_each_time() -> None:
    windows = split(sequences_of([9] * 50), 5, 0.0).windows
    random = np.random.default_rng(0)
    first, second = (batches(windows, 40, random) for _ in range(2))
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]
    again = batches(windows, 40, np.random.default_rng(0))
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in first]


def test_padding_is_on_the_right() -> None:
    values = np.arange(10, 20, dtype=np.int32)
    assert padded(values, np.array([[2, 5, 0], [7, 8, 1]])).tolist() == [[12, 13, 14], [17, 0, 0]]
