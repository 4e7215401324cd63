"""Reading sequences: the batch changes nothing, and padding on the left is not seen."""

import numpy as np
import pytest
import torch
from torch import Tensor

from armlift_arms.decoder import Decoder, Shape
from armlift_arms.serving import on_one_thread, read
from armlift_arms.windows import Longs


def decoder_of(backbone: str, temperature: float | None = 0.05) -> Decoder:
    """Make a decoder none of whose weights is at its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert backbone in ("plain", "filter")
        shape = Shape(300, 64, 2, 2, 50, backbone=backbone, temperature=temperature)  # type: ignore[arg-type]
        decoder = Decoder(shape)
        with torch.no_grad():
            for parameter in decoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return decoder.eval()


def last_states(decoder: Decoder, sequences: list[Longs]) -> Tensor:
    states = torch.empty(len(sequences), 64)
    for rows in read(decoder, sequences, lambda tokens, _: decoder.embed(tokens)):
        states[torch.from_numpy(rows.places)] = rows.states[: len(rows.places)]
    return states


@pytest.mark.parametrize("backbone", ["plain", "filter"])
def test_the_batch_changes_no_bit_of_states(backbone: str) -> None:
    decoder, random = decoder_of(backbone), np.random.default_rng(0)
    sequences = [random.integers(0, 300, random.integers(1, 51)) for _ in range(37)]
    with torch.inference_mode():
        together = last_states(decoder, sequences)
        alone = torch.cat([last_states(decoder, [sequence]) for sequence in sequences])
        turned = last_states(decoder, sequences[::-1]).flip(0)
    assert torch.equal(together, alone)
    assert torch.equal(together, turned)


@pytest.mark.parametrize("backbone", ["plain", "filter"])
def test_a_sequence_read_is_the_sequence_computed_whole(backbone: str) -> None:
    decoder, random = decoder_of(backbone), np.random.default_rng(1)
    sequences = [random.integers(0, 300, size) for size in (1, 3, 4, 5, 17, 49, 50)]
    with torch.inference_mode():
        read_states = last_states(decoder, sequences)
        whole = [decoder(decoder.embed(torch.from_numpy(one)[None]))[0, -1] for one in sequences]
    torch.testing.assert_close(read_states, torch.stack(whole), rtol=1e-4, atol=1e-4)


def test_scores_are_cosines_over_temperature_or_dot_products() -> None:
    for temperature in (0.05, None):
        decoder = decoder_of("plain", temperature)
        with torch.inference_mode():
            states = last_states(decoder, [np.array([1, 2, 3])])
            scores = decoder.queries(states)[0] @ decoder.vectors().T
            expected = decoder.items.weight @ states[0]
            if temperature is not None:
                norms = decoder.items.weight.norm(dim=1) * states[0].norm()
                expected = expected / norms / temperature
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_answers_are_computed_on_one_thread_and_the_process_keeps_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with on_one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
