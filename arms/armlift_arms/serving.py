"""Answers from a decoder, some sequences at a time.

So that an answer does not depend on the batch it stands in, to the bit, sequences are padded on the left to a
length that their own gives, and multiplied as `armlift_arms.rows` tells.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from armlift_arms.decoder import Decoder, Past, ahead
from armlift_arms.loop import on_threads
from armlift_arms.rows import ROWS
from armlift_arms.windows import Longs

_TOGETHER = 128  # most sequences computed at a time: one call does more, and what it computes fits the caches
_SCORES = 2**21  # scores of the catalogue held at a time, but for `ROWS` sequences always
_SHORTEST = 4

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Embed = Callable[[Tensor, Longs], Tensor]


class Rows(NamedTuple):
    """Sequences that were read, as R rows: their places in what was asked, at most R, and where they end.

    `tokens` int64 [R, L] are their items, from column `begins` [R] on; `states` [R, D] are those after the
    last that was read, and `past` is what the blocks keep. Rows without a sequence repeat some place in
    `filled` [R].
    """

    places: Longs
    filled: Longs
    tokens: Tensor
    states: Tensor
    past: list[Past]
    begins: Tensor


def read(
    decoder: Decoder, sequences: Sequence[Longs], embed: Embed, *, rows: int | None = None, unread: int = 0
) -> Iterator[Rows]:
    """Read sequences of 1 to `length` items, those of like length together, at most `rows` at a time.

    By default, as many as are computed fastest, and fewer where the catalogue is so large that their scores
    would fill the memory. `embed` looks tokens [R, L] of the sequences at some places [R] up, -> [R, L, D].
    The last `unread` columns are left to be read later, but for the first of all.
    """
    device = decoder.items.weight.device
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    items = np.concatenate([*sequences, np.zeros(0, dtype=np.int64)])
    starts = np.cumsum(lengths) - lengths
    rows = rows or max(ROWS, min(_TOGETHER, _SCORES // decoder.shape.items // ROWS * ROWS))
    for places, width in of_like_length(sequences, decoder.shape.length, rows):
        filled = np.resize(places, -(-len(places) // ROWS) * ROWS)
        padding = width - lengths[filled]
        # Padding repeats an item of the sequence, so that who masks the tokens masks nothing else.
        at = np.maximum(np.arange(width) - padding[:, None], 0)  # [R, L]
        laid = torch.from_numpy(items[starts[filled][:, None] + at]).to(device)
        begins = torch.from_numpy(padding).to(device)
        now = max(1, width - unread)
        distances = seen_from(ahead(now, device), begins)
        states, past = decoder.extend(embed(laid[:, :now], filled), distances, last=True)
        yield Rows(places, filled, laid, states[:, -1], past, begins)


def of_like_length(sequences: Sequence[Longs], longest: int, rows: int) -> Iterator[tuple[Longs, int]]:
    """Put sequences of like length together, at most `rows`: gives their places and a width that holds them.

    The width of a sequence of 1 to `longest` items follows from its length alone.
    """
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    widths = np.minimum(2 ** np.ceil(np.log2(np.maximum(lengths, _SHORTEST))), longest)
    for width in np.unique(widths).astype(np.int64).tolist():
        members = np.flatnonzero(widths == width)
        for start in range(0, len(members), rows):
            yield members[start : start + rows], width


def on_all_threads(answer: Callable[[Sequence[Asked]], list[Answer]], asked: Sequence[Asked]) -> list[Answer]:
    """Share what is asked out between torch's threads, each of which computes alone; answer in order.

    Few rows gain little from two threads to a product, whose rounding would depend on their number too.
    """
    threads = min(torch.get_num_threads(), -(-len(asked) // ROWS))
    with on_threads(1):
        if threads == 1:
            return answer(asked)
        parts = [asked[first::threads] for first in range(threads)]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            answered = [iter(part) for part in pool.map(answer, parts)]
    return [next(answered[place % threads]) for place in range(len(asked))]


def seen_from(distances: Tensor, begins: Tensor) -> Tensor:
    """Hide what stands before sequences begin, [T, S] and [B] -> [B, T, S]; tokens still see themselves."""
    padding = torch.arange(distances.shape[-1], device=distances.device) < begins[:, None]  # [B, S]
    return distances.masked_fill(padding[:, None] & (distances != 0), -1)
