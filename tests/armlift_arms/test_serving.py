"""Reading sequences: the batch changes nothing, and padding on the left is not seen."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from armlift_arms.decoder import Decoder, Shape
from armlift_arms.loop import on_threads
from armlift_arms.rows import ROWS, Linear
from armlift_arms.serving import on_all_threads, read
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
    sequences = [random.integers(0, 300, random.integers(1, 51)) for _ in range(300)]
    with torch.inference_mode(), on_threads(1):
        together = last_states(decoder, sequences)
        alone = torch.cat([last_states(decoder, [sequence]) for sequence in sequences[:40]])
        turned = last_states(decoder, sequences[::-1]).flip(0)
    assert torch.equal(together[:40], alone)
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
            scores = decoder.scores(states, decoder.vectors())[0]
            expected = decoder.items.weight @ states[0]
            if temperature is not None:
                norms = decoder.items.weight.norm(dim=1) * states[0].norm()
                expected = expected / norms / temperature
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("middle", [(), (5,)])
def test_a_layer_maps_a_row_to_the_same_bits_among_any_others(middle: tuple[int, ...]) -> None:
    with torch.random.fork_rng(), torch.inference_mode(), on_threads(1):
        torch.manual_seed(0)
        layer, x = Linear(64, 96).eval(), torch.randn(6 * ROWS, *middle, 64)
        together = layer(x)
        for start in range(0, len(x), ROWS):
            assert torch.equal(layer(x[start : start + ROWS]), together[start : start + ROWS])
        torch.testing.assert_close(together, layer.train()(x))
        assert layer.eval()(x[:3]).shape == (3, *middle, 96)


def test_what_is_asked_is_shared_out_between_threads_and_answered_in_order() -> None:
    seen: list[tuple[int, int]] = []

    def answer(asked: Sequence[int]) -> list[str]:
        seen.append((len(asked), torch.get_num_threads()))
        return [str(one) for one in asked]

    with on_threads(3):
        for size in (1, ROWS, ROWS + 1, 10 * ROWS + 1):
            assert on_all_threads(answer, range(size)) == [*map(str, range(size))]
        assert torch.get_num_threads() == 3
    assert [threads for _, threads in seen] == [1] * len(seen), "each computes alone"
    several = sorted(size for size, _ in seen[-3:])
    assert several == [27, 27, 27], "10 rows of 8, and one, between three"
    assert [size for size, _ in seen[:2]] == [1, ROWS], "few are not shared out"
