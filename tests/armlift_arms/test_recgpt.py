"""What is peculiar to recgpt and recgpt1; what they share with all arms stands in test_contract."""

import numpy as np
import pytest
from pydantic import ValidationError

from armlift.arm import Arm, Behaviour, History, ItemTable, Prompt, Request, Slate
from armlift.errors import InputError
from armlift.fitting import fitting
from armlift.trials import redefined
from armlift_arms.recgpt import RecGpt, RecGptConfig, shares
from armlift_arms.recgpt1 import RecGpt1

ITEMS = ItemTable([f"item{number:02}" for number in range(24)])
SMALL = {"dim": 16, "pretraining_epochs": 2, "epochs": 2, "negatives": 64, "recall": [3, 2]}


def behaviours(numbers: list[int], kind: str = "click") -> list[Behaviour]:
    return [Behaviour(ITEMS.ids[number], kind, 1.0, ts) for ts, number in enumerate(numbers)]


def circle(units: int = 60, size: int = 20) -> list[History]:
    """Make units that walk round a circle of items from different starts: the next item is certain."""
    return [
        History(f"unit{unit}", behaviours([(unit + step) % size for step in range(8)]))
        for unit in range(units)
    ]


def fitted(histories: list[History], model: type[RecGpt] = RecGpt, **changes: object) -> RecGpt:
    arm = model(RecGptConfig.model_validate({"name": "mine", "model": "recgpt"} | SMALL | changes))
    arm.fit(histories, ITEMS, until=1000)
    return arm


def asked(
    numbers: list[int], k: int = 5, unit: str = "unit1", prompts: list[Prompt] | None = None
) -> Request:
    return Request("0" * 32, unit, 1000, k, behaviours(numbers), prompts=prompts)


def answer(arm: Arm, request: Request) -> Slate:
    return arm.recommend([request])[0]


@pytest.mark.parametrize(
    ("k", "recall", "sizes"),
    [
        (20, (18, 2), [18, 2]),
        (10, (18, 2), [9, 1]),
        (5, (18, 2), [4, 1]),
        (1, (18, 2), [1, 0]),
        (2, (7, 7, 6), [1, 1, 0]),
        (20, (7, 7, 6), [7, 7, 6]),
        (10, (98, 1, 1), [8, 1, 1]),
        (7, (20,), [7]),
    ],
)
def test_shares_sum_to_k_and_leave_no_step_out(k: int, recall: tuple[int, ...], sizes: list[int]) -> None:
    assert list(shares(k, recall)) == sizes


def test_it_learns_what_follows_what() -> None:
    arm = fitted(
        circle(), pretraining_epochs=30, epochs=10, dropout=0.1, item_dropout=0.0, learning_rate=0.01, dim=32
    )
    walks = [asked([start, (start + 1) % 20, (start + 2) % 20]) for start in range(20)]
    right = [
        slate.items[0] == ITEMS.ids[(start + 3) % 20] for start, slate in enumerate(arm.recommend(walks))
    ]
    assert sum(right) >= 17


def test_slates_tell_steps_and_prompts() -> None:
    arm = fitted(circle(), prompts=2)
    slate = answer(arm, asked([4, 4, 5, 6]))
    assert list(slate.steps) == [0, 0, 0, 1, 1]
    assert [(prompt.position, prompt.step, prompt.stored) for prompt in slate.prompts] == [
        (3, 0, False),
        (3, 1, False),
    ]
    met = {ITEMS.ids[number] for number in (4, 5, 6)}
    assert len({prompt.item for prompt in slate.prompts} - met) == 2


@pytest.mark.parametrize("prompts", [0, 2])
def test_a_step_may_follow_the_best_item_as_if_the_unit_had_taken_it(prompts: int) -> None:
    arm = fitted(circle(), prompts=prompts, learning_rate=0.01)
    heard = redefined(arm, {"recall": [1, 1, 1], "recall_as": "behaviour"})
    one_step = redefined(arm, {"recall": [1]})
    numbers, slate = [4, 5, 6], answer(heard, asked([4, 5, 6], k=3))
    for item in slate.items:
        assert answer(one_step, asked(numbers, k=1)).items == [item]
        numbers.append(ITEMS.ids.index(item))
    # What it replies to behaviours that are not there is not told.
    assert [prompt.position for prompt in slate.prompts] == [2] * prompts


def test_recgpt1_has_the_weights_of_recgpt_and_one_step() -> None:
    two, one = fitted(circle()), fitted(circle(), RecGpt1)
    assert all(np.array_equal(two._tensors[name], one._tensors[name]) for name in two._tensors)
    assert set(answer(one, asked([1, 2, 3])).steps) == {0}
    assert answer(one, asked([1, 2, 3])).items[:3] == answer(two, asked([1, 2, 3])).items[:3]


@pytest.mark.parametrize("placement", ["tail", "every"])
def test_stored_prompts_give_the_slate_of_those_generated_on_the_spot(placement: str) -> None:
    arm = fitted(circle(), prompts=2, prompt_placement=placement, prompt_turns=3)
    request = asked([1, 2, 3, 7, 9])
    generated = answer(arm, request)
    assert len(generated.prompts) == (2 if placement == "tail" else 6)
    again = answer(arm, request._replace(prompts=generated.prompts))
    assert again[:4] == generated[:4]
    assert all(prompt.stored for prompt in again.prompts)
    other = [prompt._replace(item=ITEMS.ids[15 - prompt.step]) for prompt in generated.prompts]
    assert answer(arm, request._replace(prompts=other)).scores != generated.scores


def test_prompts_stay_at_their_places_when_the_history_grows() -> None:
    arm = fitted(circle(), prompt_placement="every", prompt_turns=3)
    stored = answer(arm, asked([1, 2, 3, 7])).prompts
    slate = answer(arm, asked([1, 2, 3, 7, 9], prompts=list(stored)))
    assert [(prompt.position, prompt.stored) for prompt in slate.prompts] == [
        (2, True),
        (3, True),
        (4, False),
    ]
    assert [prompt.item for prompt in slate.prompts[:2]] == [prompt.item for prompt in stored[1:]]


def test_prompts_of_unknown_items_or_places_are_generated_anew() -> None:
    arm = fitted(circle())
    wrong = [Prompt(3, 0, "nothing"), Prompt(77, 0, ITEMS.ids[3]), Prompt(3, 9, ITEMS.ids[3])]
    slate = answer(arm, asked([1, 2, 3, 7], prompts=wrong))
    assert slate == answer(arm, asked([1, 2, 3, 7]))


def test_units_have_vectors_and_strangers_share_one() -> None:
    trained: dict[str, object] = {
        "learning_rate": 0.02,
        "batch_tokens": 64,
        "epochs": 5,
        "patience": 5,
        "user_dropout": 0.2,
    }
    arm = fitted(circle(), RecGpt, user_vectors=True, **trained)
    known = [answer(arm, asked([1, 2, 3], unit=unit)).scores for unit in ("unit1", "unit2")]
    strangers = [answer(arm, asked([1, 2, 3], unit=unit)).scores for unit in ("alice", "bob")]
    assert known[0] != known[1] != strangers[0]
    assert strangers[0] == strangers[1]
    without = fitted(circle(), user_vectors=False)
    assert answer(without, asked([1, 2], unit="unit1")) == answer(without, asked([1, 2], unit="bob"))


def test_the_manifest_says_how_often_prompts_are_what_comes_next() -> None:
    with fitting() as figures:
        fitted(circle(), pretraining_epochs=20, learning_rate=0.01)
    gap = figures["prompt_hits_train"] - figures["prompt_hits_validation"]
    assert 0 < figures["prompt_hits_validation"] <= 1
    assert abs(gap) <= 0.1, "prompts for training know more of the next item than prompts in serving"


@pytest.mark.parametrize("source", ["random", "popular"])
def test_prompts_of_other_sources_are_given_not_generated(source: str) -> None:
    arm = fitted(circle(), prompt_source=source, prompts=2)
    slate = answer(arm, asked([1, 2, 3]))
    assert all(prompt.stored for prompt in slate.prompts)
    assert answer(arm, asked([1, 2, 3])) == slate
    if source == "popular":
        counts = dict(zip(ITEMS.ids, arm._tensors["counts"].tolist(), strict=True))
        best = sorted(
            set(ITEMS.ids) - {ITEMS.ids[n] for n in (1, 2, 3)}, key=lambda item: (-counts[item], item)
        )
        assert [prompt.item for prompt in slate.prompts] == best[:2]


def test_unclicked_prompts_are_what_was_shown_last_and_not_taken() -> None:
    histories = [
        History(unit, [*found[:6], found[6]._replace(kind="hate"), found[7]._replace(kind="hate")])
        for unit, found in circle()
    ]
    arm = fitted(histories, prompt_source="unclicked", prompts=2)
    shown = [*behaviours([1, 2]), *behaviours([8, 9, 10], "hate")]
    slate = answer(arm, asked([])._replace(history=shown))
    assert [prompt.item for prompt in slate.prompts] == [ITEMS.ids[9], ITEMS.ids[10]]
    with pytest.raises(InputError, match="prompt_source: unclicked needs behaviours of other kinds"):
        fitted(circle(), prompt_source="unclicked")


def test_parallel_decoding_tells_all_prompts_from_one_state() -> None:
    arm = fitted(circle(), decoding="parallel", prompts=3)
    slate = answer(arm, asked([1, 2, 3]))
    assert len({prompt.item for prompt in slate.prompts}) == 3
    assert answer(arm, asked([1, 2, 3])._replace(prompts=slate.prompts)).items == slate.items


def test_drawn_prompts_depend_on_the_unit_and_its_history_alone() -> None:
    arm = fitted(circle(), top_p=0.9, prompts=2)
    units = [asked([1, 2, 3], unit=f"unit{number}") for number in range(40)]
    together = [slate.prompts for slate in arm.recommend(units)]
    assert together == [answer(arm, request).prompts for request in units]
    assert len({tuple(prompt.item for prompt in prompts) for prompts in together}) > 5
    assert all(len({prompt.item for prompt in prompts}) == 2 for prompts in together)
    greedy = fitted(circle(), top_p=1e-9, prompts=2)
    drawn = [answer(greedy, request) for request in units[:3]]
    assert [slate.items for slate in drawn] == [
        answer(fitted(circle(), prompts=2), one).items for one in units[:3]
    ]


def test_later_steps_repeat_nothing_and_candidates_are_all_ordered() -> None:
    arm = fitted(circle(), recall=[2, 2, 1])
    slate = answer(arm, asked([1, 2, 3], 24))
    assert len(set(slate.items)) == len(slate.items) == 21
    few = asked([1, 2, 3], 5)._replace(candidates=[ITEMS.ids[n] for n in (5, 1, 9)])
    assert sorted(answer(arm, few).items) == [ITEMS.ids[n] for n in (1, 5, 9)]


def test_without_prompts_and_vectors_training_goes_on_as_it_began() -> None:
    arm = fitted(circle(), prompts=0, user_vectors=False, recall=[1])
    assert len(answer(arm, asked([1, 2, 3])).prompts) == 0


@pytest.mark.parametrize(
    "change", [{"recall": []}, {"prompts": -1}, {"prompt_source": "clicked"}, {"heads": 3}]
)
def test_bad_definitions_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RecGptConfig.model_validate({"name": "mine", "model": "recgpt"} | change)
