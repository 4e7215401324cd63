"""The loss of a softmax over the whole catalogue, from a sample of it."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn


class SampledSoftmax(nn.Module):
    """-log softmax of targets, with negatives that all states of a batch share, drawn by popularity.

    A draw counts 1 / (expected draws) in the sum over the catalogue, so its estimate is unbiased (the log-Q
    correction: Bengio and Senécal 2008); one that is the target is not counted.
    """

    cumulated: Tensor
    log_expected: Tensor

    def __init__(self, counts: npt.NDArray[np.int64], negatives: int) -> None:
        """Draw `negatives` items a batch in proportion to `counts`, int64 [items]."""
        super().__init__()
        self.negatives = negatives
        share = torch.from_numpy(counts / counts.sum())  # float64: sums of many small numbers
        self.register_buffer("cumulated", share.cumsum(0), persistent=False)
        self.register_buffer("log_expected", (share * negatives).log().float(), persistent=False)

    def draw(self) -> Tensor:
        """Draw items, int64 [negatives]."""
        numbers = torch.rand(self.negatives, dtype=torch.float64, device=self.cumulated.device)
        return torch.searchsorted(self.cumulated, numbers).clamp(max=len(self.cumulated) - 1)

    def forward(
        self, queries: Tensor, right: Tensor, targets: Tensor, drawn: Tensor, vectors: Tensor
    ) -> Tensor:
        """Give each target's loss, [T].

        `queries` [T, D] are scored against the vectors of their targets, `right` [T, D], and against those of
        the `drawn` items, `vectors` [negatives, D]; `targets` are indices, [T].
        """
        score = (queries * right).sum(dim=-1, keepdim=True)  # [T, 1]
        others = queries @ vectors.T - self.log_expected[drawn]  # [T, negatives]
        others = others.masked_fill(drawn == targets[:, None], float("-inf"))
        logits = torch.cat([score, others], dim=1)
        return F.cross_entropy(logits, torch.zeros_like(targets), reduction="none")
