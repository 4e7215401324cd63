"""The sampled softmax against the full one."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from armlift_arms.softmax import SampledSoftmax

COUNTS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], dtype=np.int64)
TARGETS = torch.tensor([0, 3, 3, 9])


def vectors_and_queries() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(10, 4, generator=random), torch.randn(4, 4, generator=random)


def losses(softmax: SampledSoftmax, drawn: Tensor) -> Tensor:
    vectors, queries = vectors_and_queries()
    found: Tensor = softmax(queries, vectors[TARGETS], TARGETS, drawn, vectors[drawn])
    return found


def full_losses() -> Tensor:
    vectors, queries = vectors_and_queries()
    return F.cross_entropy(queries @ vectors.T, TARGETS, reduction="none")


def test_every_item_drawn_as_often_as_expected_gives_the_full_softmax() -> None:
    softmax = SampledSoftmax(COUNTS, int(COUNTS.sum()))
    drawn = torch.from_numpy(np.repeat(np.arange(10), COUNTS))
    torch.testing.assert_close(losses(softmax, drawn), full_losses())


def test_the_sum_over_the_catalogue_is_estimated_without_bias() -> None:
    """exp(loss) is the sum over the catalogue in units of the target's term."""
    softmax, n = SampledSoftmax(COUNTS, 20), 4000
    with torch.random.fork_rng():
        torch.manual_seed(2)
        sums = torch.stack([losses(softmax, softmax.draw()).exp() for _ in range(n)]).double()
    error = sums.std(dim=0) / n**0.5
    assert ((sums.mean(dim=0) - full_losses().exp()).abs() < 4 * error).all()
    assert (error < 0.02 * full_losses().exp()).all()


def test_items_are_drawn_in_proportion_and_those_nobody_met_never() -> None:
    counts = np.array([0, 1, 0, 3, 0], dtype=np.int64)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        drawn = SampledSoftmax(counts, 10_000).draw().bincount(minlength=5).tolist()
    assert drawn[0] == drawn[2] == drawn[4] == 0
    assert drawn[3] / 10_000 == pytest.approx(0.75, abs=0.02)
