"""Answers from a decoder, a few sequences at a time.

Matrix products are rounded by their shapes. So that an answer does not depend on the batch it stands in, to
the bit, sequences are computed `ROWS` at a time, padded on the left to a length that their own gives.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from armlift_arms.decoder import Decoder, Past, ahead
from armlift_arms.windows import Longs

ROWS = 8
"""Sequences computed at a time."""
_SHORTEST = 4

Embed = Callable[[Tensor, Longs], Tensor]


class Rows(NamedTuple):
    """Sequences that were read: their places in what was asked, at most `ROWS`, and where each one ends.

    `states` [ROWS, D] are those after the last items; `past` is what the blocks keep; `begins` int64 [ROWS]
    says at which of its tokens a sequence begins.
    """

    places: Longs
    states: Tensor
    past: list[Past]
    begins: Tensor


def read(decoder: Decoder, sequences: Sequence[Longs], embed: Embed, rows: int = ROWS) -> Iterator[Rows]:
    """Read sequences of 1 to `length` items, `rows` at a time, those of like length together.

    `embed` looks tokens [rows, L] of the sequences at some places [rows] up, -> [rows, L, D].
    """
    device = decoder.items.weight.device
    for places, width in of_like_length(sequences, decoder.shape.length, rows):
        tokens = np.zeros((rows, width), dtype=np.int64)
        for row, place in enumerate(places.tolist()):
            tokens[row, width - len(sequences[place]) :] = sequences[place]
        begins = torch.full((rows,), width - 1, device=device)
        begins[: len(places)] = torch.tensor([width - len(sequences[place]) for place in places.tolist()])
        filled = np.resize(places, rows)  # rows without a sequence repeat some
        embedded = embed(torch.from_numpy(tokens).to(device), filled)
        distances = seen_from(ahead(width, device), begins)
        states, past = decoder.extend(embedded, distances)
        yield Rows(places, states[:, -1], past, begins)


def of_like_length(sequences: Sequence[Longs], longest: int, rows: int = ROWS) -> Iterator[tuple[Longs, int]]:
    """Put sequences of like length together, at most `rows`: gives their places and a width that holds them.

    The width of a sequence of 1 to `longest` items follows from its length alone.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    widths = np.minimum(2 ** np.ceil(np.log2(np.maximum(lengths, _SHORTEST))), longest)
    for width in np.unique(widths).astype(np.int64).tolist():
        members = np.flatnonzero(widths == width)
        for start in range(0, len(members), rows):
            yield members[start : start + rows], width


def seen_from(distances: Tensor, begins: Tensor) -> Tensor:
    """Hide what stands before each sequence begins, [T, S] and [B] -> [B, T, S]; tokens still see themselves."""
    padding = torch.arange(distances.shape[-1], device=distances.device) < begins[:, None]  # [B, S]
    return distances.masked_fill(padding[:, None] & (distances != 0), -1)


def scores_of(decoder: Decoder, states: Tensor, vectors: Tensor) -> Tensor:
    """Score the catalogue (its `vectors`, [N, D]) by at most `ROWS` states, [B, D] -> [B, N]."""
    rows = F.pad(decoder.queries(states), (0, 0, 0, ROWS - len(states)))
    return (rows @ vectors.T)[: len(states)]
