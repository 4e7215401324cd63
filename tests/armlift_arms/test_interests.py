"""The model of comirec: nothing leaks from the future, and interests are found as the paper says."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from armlift_arms.interests import (
    Interests,
    NextOfInterests,
    Routing,
    SelfAttention,
    Shape,
    closest,
    couplings,
    distances,
    read,
    squash,
)
from armlift_arms.windows import Longs, Sequences, split

Extractor = Literal["sa", "dr"]
EXTRACTORS: list[Extractor] = ["sa", "dr"]


def model_of(extractor: Extractor, temperature: float | None = 0.05) -> Interests:
    """Make a model none of whose weights is at its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Interests(Shape(300, 32, 50, extractor, 4, temperature=temperature))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def all_ends(tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1]).unsqueeze(0)


def whole(model: Interests, sequence: Longs) -> Tensor:
    """Compute the interests after one sequence, by itself and without padding, [K, D]."""
    tokens = torch.from_numpy(sequence)[None]
    interests: Tensor = model(tokens, all_ends(tokens))[0, -1]
    return interests


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("t", [0, 1, 6, 15, 48])
def test_tokens_after_a_position_change_nothing_up_to_it(extractor: Extractor, t: int) -> None:
    model = model_of(extractor)
    tokens = torch.from_numpy(np.random.default_rng(t).integers(0, 300, (4, 50)))
    changed = tokens.clone()
    changed[:, t + 1 :] = (changed[:, t + 1 :] + 17) % 300
    with torch.inference_mode():
        interests, others = model(tokens, all_ends(tokens)), model(changed, all_ends(changed))
    assert torch.equal(interests[:, : t + 1], others[:, : t + 1])
    assert not torch.equal(interests[:, t + 1], others[:, t + 1])


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_interests_depend_on_earlier_tokens_and_their_order(extractor: Extractor) -> None:
    model = model_of(extractor)
    with torch.inference_mode():
        first, *others = [
            whole(model, np.array(sequence)) for sequence in ([1, 2, 3, 4], [2, 1, 3, 4], [9, 2, 3, 4])
        ]
    assert not any(torch.allclose(first, other) for other in others)
    assert not torch.allclose(first[0], first[1])


def test_self_attention_averages_raw_items_with_the_weights_of_the_paper() -> None:
    model = model_of("sa")
    extractor = model.extractor
    assert isinstance(extractor, SelfAttention)
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        embedded = model.items(tokens)
        found = model(tokens, torch.tensor([[2]]))[0, 0]
        met = embedded[0] + extractor.positions[[2, 1, 0]]
        logits = torch.tanh(met @ extractor.hidden.weight.T) @ extractor.out.weight.T  # [S, K]
        torch.testing.assert_close(found, logits.softmax(dim=0).T @ embedded[0], rtol=1e-4, atol=1e-5)
        weights = extractor.weights(embedded, distances(torch.tensor([[0, 1]]), 3))[0]
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4))
    assert weights[0, :, 1:].eq(0).all()
    assert weights[1, :, 2].eq(0).all()


def test_routing_shares_every_item_out_among_interests() -> None:
    logits = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(couplings(logits).sum(dim=1), torch.ones(3, 6, 7))


def test_routing_is_that_of_the_paper() -> None:
    """Recompute one query step by step: three iterations from logits of 0."""
    model = model_of("dr")
    extractor = model.extractor
    assert isinstance(extractor, Routing)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        embedded = model.items(tokens)[0, :3]
        mapped = torch.stack(
            [(item @ extractor.maps(3)[at]).view(4, 32) for at, item in enumerate(embedded)]
        )  # [S, K, D]
        near = extractor.nearness[[2, 1, 0]].exp()  # [S, 1]
        logits = torch.zeros(3, 4)
        for _ in range(3):
            share = logits.softmax(dim=1) * near
            interests = squash(torch.einsum("sk,skd->kd", share, mapped))
            logits = logits + torch.einsum("kd,skd->sk", interests, mapped)
        found = model(tokens, torch.tensor([[2]]))[0, 0]
    torch.testing.assert_close(found, interests, rtol=1e-4, atol=1e-5)


def test_only_the_last_iteration_of_routing_is_learnt_from() -> None:
    """The gradient is that of one weighted sum whose weights are constants."""
    model = model_of("dr")
    extractor = model.extractor
    assert isinstance(extractor, Routing)
    embedded = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    away = torch.zeros(1, 1, 1, dtype=torch.int64)
    found = extractor(embedded, away)[0, 0]
    (gradient,) = torch.autograd.grad(found.sum(), extractor.deviations)
    mapped = (embedded[0] @ extractor.maps(1)[0]).view(1, 4, 1, 32)
    share = extractor.nearness[0].exp().view(1, 1, 1, 1)
    coupling = couplings(extractor._agreement(mapped.detach(), share.detach()))
    (expected,) = torch.autograd.grad(squash(coupling * share * mapped).sum(), extractor.deviations)
    torch.testing.assert_close(gradient, expected)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8))
def test_squash_shrinks_below_one_and_keeps_the_direction(numbers: list[float]) -> None:
    vector = torch.tensor(numbers)
    square = float(vector.double().square().sum())
    shrunk = squash(vector)
    assert float(shrunk.norm()) <= 1.0
    # Norm n becomes n^2 / (1 + n^2), so no direction is lost.
    expected = vector.double() * (square / (1 + square) / math.sqrt(square + 1e-12))
    torch.testing.assert_close(shrunk.double(), expected, rtol=1e-4, atol=1e-7)


def test_the_closest_interest_is_picked_and_alone_is_learnt_from() -> None:
    queries = torch.eye(3).expand(3, 3, 3).clone().requires_grad_()
    targets = torch.tensor([[0.1, 0.9, 0.2], [2.0, 1.0, 1.9], [-3.0, -2.0, -1.0]])
    picked = closest(queries, targets)
    assert torch.equal(picked, torch.eye(3)[[1, 0, 2]])
    (gradient,) = torch.autograd.grad(picked.sum(), queries)
    assert gradient.sum(dim=2).bool().tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, True],
    ]


@pytest.mark.parametrize("temperature", [0.05, None])
def test_a_score_is_the_best_an_interest_gives(temperature: float | None) -> None:
    model = model_of("sa", temperature)
    with torch.inference_mode():
        interests = whole(model, np.array([1, 2, 3]))
        scores = model.scores(interests[None], model.vectors())[0]
        expected = interests @ model.items.weight.T  # [K, N]
        if temperature is not None:
            norms = interests.norm(dim=1)[:, None] * model.items.weight.norm(dim=1)
            expected = expected / norms / temperature
    torch.testing.assert_close(scores, expected.amax(dim=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_item_but_the_first_is_a_target_and_padding_is_none(extractor: Extractor) -> None:
    sizes = [2, 5, 3]
    items = np.arange(10, dtype=np.int32)
    sequences = Sequences(items, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    task = NextOfInterests(model_of(extractor), sequences, split(sequences, 50, 0.0), 64)
    (batch,) = task.batches(100, np.random.default_rng(0))
    torch.manual_seed(0)
    total, targets = task.loss(batch)
    alone = []
    for window in batch:
        torch.manual_seed(0)  # the same negatives
        alone.append(task.loss(window[None]))
    assert targets == sum(count for _, count in alone) == 7
    torch.testing.assert_close(total, torch.stack([loss for loss, _ in alone]).sum())


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_whole_items_left_out_leave_finite_gradients(extractor: Extractor) -> None:
    model = Interests(Shape(20, 8, 5, extractor, 3, item_dropout=0.9)).train()
    sequences = Sequences(np.arange(20, dtype=np.int32), np.array([0, 5, 10, 15, 20]))
    task = NextOfInterests(model, sequences, split(sequences, 5, 0.0), 8)
    for seed in range(5):
        torch.manual_seed(seed)
        total = task.loss(split(sequences, 5, 0.0).windows)[0]
        gradients = torch.autograd.grad(total, list(model.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_batch_changes_no_bit_and_padding_is_not_seen(extractor: Extractor) -> None:
    model, random = model_of(extractor), np.random.default_rng(0)
    sequences = [random.integers(0, 300, random.integers(1, 51)) for _ in range(29)]

    def scored(asked: list[Longs]) -> Tensor:
        scores = torch.empty(len(asked), 300)
        for places, interests in read(model, asked):
            scores[torch.from_numpy(places)] = model.scores(interests, model.vectors())[: len(places)]
        return scores

    with torch.inference_mode():
        together = scored(sequences)
        assert torch.equal(together, torch.cat([scored([sequence]) for sequence in sequences]))
        assert torch.equal(together, scored(sequences[::-1]).flip(0))
        computed = torch.stack([whole(model, sequence) for sequence in sequences])
        expected = model.scores(computed, model.vectors())
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)
