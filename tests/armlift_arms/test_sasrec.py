"""What is peculiar to sasrec; what it shares with all arms stands in test_contract."""

import logging
import subprocess
import sys

import pytest
from pydantic import ValidationError

from armlift.arm import Behaviour, History, ItemTable, Request
from armlift_arms.sasrec import DecoderConfig, SasRec

ITEMS = ItemTable([f"item{number:02}" for number in range(24)])


def behaviours(numbers: list[int], kinds: tuple[str, ...] = ("click",)) -> list[Behaviour]:
    return [
        Behaviour(ITEMS.ids[number], kind, 1.0, ts) for ts, number in enumerate(numbers) for kind in kinds
    ]


def circle(units: int = 60, size: int = 20) -> list[History]:
    """Make units that walk round a circle of items from different starts: the next item is certain."""
    return [
        History(f"unit{unit}", behaviours([(unit + step) % size for step in range(8)]))
        for unit in range(units)
    ]


def fitted(histories: list[History], **changes: object) -> SasRec:
    arm = SasRec(DecoderConfig.model_validate({"name": "mine", "model": "sasrec"} | changes))
    arm.fit(histories, ITEMS, until=1000)
    return arm


def asked(numbers: list[int], k: int = 3, candidates: list[str] | None = None) -> Request:
    return Request("0" * 32, "unit", 1000, k, behaviours(numbers), candidates)


@pytest.mark.parametrize("backbone", ["plain", "filter"])
@pytest.mark.parametrize("temperature", [0.05, None])
def test_it_learns_what_follows_what(backbone: str, temperature: float | None) -> None:
    arm = fitted(
        circle(),
        backbone=backbone,
        temperature=temperature,
        dropout=0.1,
        item_dropout=0.0,
        learning_rate=0.01,
    )
    walks = [asked([start, (start + 1) % 20, (start + 2) % 20], 1) for start in range(20)]
    right = [
        slate.items[0] == ITEMS.ids[(start + 3) % 20] for start, slate in enumerate(arm.recommend(walks))
    ]
    assert sum(right) >= 18


def test_several_kinds_on_one_impression_count_once() -> None:
    once = fitted(circle(), epochs=2)
    doubled = [
        History(unit, [met._replace(kind=kind) for met in found for kind in ("click", "like")])
        for unit, found in circle()
    ]
    assert fitted(doubled, epochs=2).version == once.version
    twice = asked([1, 2])._replace(history=behaviours([1, 2], ("click", "like")))
    assert once.recommend([twice]) == once.recommend([asked([1, 2])])


def test_an_item_nobody_met_scores_as_the_lowest() -> None:
    arm = fitted(circle(), epochs=2)
    slate = arm.recommend([asked([1], 24)])[0]
    assert list(slate.items[-4:]) == list(ITEMS.ids[20:])
    assert set(slate.scores[-4:]) == {min(slate.scores)}


def test_units_without_a_known_history_are_given_what_is_popular() -> None:
    arm = fitted([*circle(), *[History(f"fan{fan}", behaviours([7, 3])) for fan in range(9)]], epochs=1)
    for numbers in ([], [23]):
        assert list(arm.recommend([asked(numbers, 2)])[0].items) == ["item03", "item07"]


def test_only_the_last_items_are_read() -> None:
    arm = fitted(circle(), epochs=1, length=4)
    long, short = asked([9, 8, 1, 2, 3, 4], 5, list(ITEMS.ids)), asked([1, 2, 3, 4], 5, list(ITEMS.ids))
    assert arm.recommend([long]) == arm.recommend([short])


@pytest.mark.parametrize("numbers", [[5], [5, 6], [5, 6, 7]])
def test_little_data_is_enough(numbers: list[int]) -> None:
    arm = fitted([History("unit", behaviours(numbers))], epochs=3)
    assert len(arm.recommend([asked([5], 24)])[0].items) == 23


def test_every_epoch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "armlift_arms.loop"):
        fitted(circle(), epochs=2)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "train, epoch 1",
        "train, epoch 2",
    ]
    assert "NDCG@10" in caplog.text


def test_heads_must_divide_dim() -> None:
    with pytest.raises(ValidationError, match="heads: 3 must divide dim, 128"):
        DecoderConfig(name="mine", model="sasrec", heads=3)


def test_naming_the_arm_does_not_load_torch() -> None:
    code = "import sys, armlift.arm as a; a.arm_classes(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
