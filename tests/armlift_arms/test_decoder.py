"""The decoder: nothing leaks from the future, and the batch changes nothing."""

from typing import Literal

import numpy as np
import pytest
import torch

from armlift_arms.decoder import Decoder, Shape

Backbone = Literal["plain", "filter"]
BACKBONES: list[Backbone] = ["plain", "filter"]


def decoder_of(backbone: Backbone, temperature: float | None = 0.05) -> Decoder:
    """Make a decoder none of whose weights is at its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shape = Shape(
            items=300, dim=64, layers=2, heads=2, length=50, backbone=backbone, temperature=temperature
        )
        decoder = Decoder(shape)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return decoder.eval()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("t", [0, 1, 6, 15, 30, 48])
def test_tokens_after_a_position_change_nothing_up_to_it(backbone: Backbone, t: int) -> None:
    decoder = decoder_of(backbone)
    tokens = torch.from_numpy(np.random.default_rng(t).integers(0, 300, (4, 50)))
    changed = tokens.clone()
    changed[:, t + 1 :] = (changed[:, t + 1 :] + 17) % 300
    with torch.inference_mode():
        states, others = decoder(decoder.embed(tokens)), decoder(decoder.embed(changed))
    assert torch.equal(states[:, : t + 1], others[:, : t + 1])
    assert not torch.equal(states[:, t + 1], others[:, t + 1])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_state_depends_on_earlier_tokens_and_their_order(backbone: Backbone) -> None:
    decoder = decoder_of(backbone)
    tokens = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4], [9, 2, 3, 4]])
    with torch.inference_mode():
        last = decoder(decoder.embed(tokens))[:, -1]
    assert not torch.allclose(last[0], last[1])
    assert not torch.allclose(last[0], last[2])
