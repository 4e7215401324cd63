"""Conversations: nothing leaks from the future, and training computes what serving computes."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from armlift_arms.conversation import Conversation, Parts, View, interleaved
from armlift_arms.decoder import Shape
from armlift_arms.recall import Known, Plan, Recall, generate
from armlift_arms.windows import Longs

ITEMS, LENGTH, DIM = 200, 12, 32
TURNS, REPLIES, PROMPTS = 9, 3, 2


class Case(NamedTuple):
    """A model none of whose weights is at its initial value, and a conversation: [B, T] and [B, T, G]."""

    model: Conversation
    units: Tensor
    behaviours: Tensor
    replies: Tensor


@pytest.fixture(params=["plain", "filter"])
def case(request: pytest.FixtureRequest) -> Case:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = Conversation(Shape(ITEMS, DIM, 2, 2, LENGTH, backbone=request.param), Parts(5, segments=True))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        behaviours = torch.randint(0, ITEMS, (4, TURNS))
        replies = torch.randint(0, ITEMS, (4, TURNS, REPLIES))
    return Case(model.eval(), torch.tensor([0, 1, 2, 5]), behaviours, replies)


def states_of(case: Case, kept: int) -> Tensor:
    """Compute all states as training does, [B, T, 1 + G, D]."""
    heard = case.model.behaviours(case.behaviours, case.units)
    said = case.model.replies(case.replies, heard)
    tokens = torch.cat([heard.unsqueeze(2), said], dim=2).flatten(1, 2)
    distances = interleaved(TURNS, REPLIES, View(kept, PROMPTS, LENGTH), tokens.device)
    states: Tensor = case.model.decoder(tokens, distances)
    return states.view(len(tokens), TURNS, 1 + REPLIES, DIM)


@pytest.mark.parametrize("kept", [1, 3, TURNS])
@pytest.mark.parametrize("turn", [0, 4, TURNS - 2])
def test_what_comes_later_changes_no_bit_of_what_was_before(case: Case, kept: int, turn: int) -> None:
    behaviours, replies = case.behaviours.clone(), case.replies.clone()
    behaviours[:, turn + 1 :] = (behaviours[:, turn + 1 :] + 7) % ITEMS
    replies[:, turn + 1 :] = (replies[:, turn + 1 :] + 7) % ITEMS
    replies[:, turn, 1:] = (replies[:, turn, 1:] + 7) % ITEMS
    with torch.inference_mode():
        before = states_of(case, kept)
        after = states_of(case._replace(behaviours=behaviours, replies=replies), kept)
    assert torch.equal(before[:, :turn], after[:, :turn])
    assert torch.equal(before[:, turn, :2], after[:, turn, :2])
    assert not torch.equal(before[:, turn, 2], after[:, turn, 2])


def test_replies_of_earlier_turns_are_seen_while_they_are_kept(case: Case) -> None:
    replies = case.replies.clone()
    replies[:, 3] = (replies[:, 3] + 7) % ITEMS
    with torch.inference_mode():
        for kept, last in ((1, 3), (3, 5), (TURNS, TURNS - 1)):
            before, after = states_of(case, kept), states_of(case._replace(replies=replies), kept)
            # A block looks back `kept` turns; two blocks look back twice as far, through what was between.
            assert not torch.equal(before[:, last, 0], after[:, last, 0]) or last == 3
            assert torch.equal(before[:, 2], after[:, 2])
            if kept == 1:
                assert torch.equal(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("kept", [1, TURNS])
def test_training_computes_the_states_that_serving_recalls_by(case: Case, kept: int) -> None:
    plan = Plan(replies=2, recall=(3, 2), turns=kept)
    given = [turns[:, :2].numpy() for turns in case.replies]
    sequences = [one.numpy() for one in case.behaviours]
    recall = Recall(case.model, plan, torch.zeros(ITEMS, dtype=torch.bool))
    with torch.inference_mode():
        trained = states_of(case, kept)
        for rows, talk in recall.conversations(sequences, case.units.numpy(), Known(given)):
            places = torch.from_numpy(rows.places)
            n = len(places)
            torch.testing.assert_close(talk.states[:n], trained[places, -1, 2], rtol=1e-4, atol=1e-4)
            appended = case.replies[torch.from_numpy(rows.filled), -1, 2]
            talk.say(appended)
            torch.testing.assert_close(talk.states[:n], trained[places, -1, 3], rtol=1e-4, atol=1e-4)


def test_generated_replies_are_neither_met_nor_said_twice_nor_closed(case: Case) -> None:
    plan = Plan(replies=4, recall=(1,), turns=1)
    closed = torch.arange(ITEMS) % 2 == 1
    sequences: list[Longs] = [np.arange(0, 2 * size, 2) for size in (1, 3, LENGTH)]
    with torch.inference_mode():
        found = generate(Recall(case.model, plan, closed), plan, sequences, np.array([5, 7, 9]))
    for sequence, items in zip(sequences, found.items.tolist(), strict=True):
        assert len(set(items)) == 4
        assert not set(items) & set(sequence.tolist())
        assert all(item % 2 == 0 for item in items)


def test_a_target_that_the_first_step_recalls_is_not_missed(case: Case) -> None:
    plan = Plan(replies=0, recall=(10, 5, 5), turns=1)
    sequences: list[Longs] = [np.array([1, 2, 3])] * ITEMS
    recall = Recall(case.model, plan, torch.zeros(ITEMS, dtype=torch.bool))
    with torch.inference_mode():
        found = generate(recall, plan, sequences, np.arange(ITEMS))
    assert found.missed[:, 0].all()
    assert (~found.missed[:, 1]).sum() == 10
    assert (~found.missed[:, 2]).sum() == 15
    assert not found.missed[found.items[0, 0], 1], "the item appended is the best of the first step"
