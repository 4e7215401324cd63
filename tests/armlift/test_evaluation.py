"""Offline evaluation against hand computations, a slow reference, and arms whose answers are known."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from armlift.arm import (
    ArmConfig,
    Capability,
    Exploration,
    History,
    ItemTable,
    Request,
    Slate,
    arm_class,
    new_arm,
)
from armlift.errors import ArmliftError, InputError
from armlift.evaluation import Evaluation, bootstrap, evaluate, paired_difference
from armlift.sequences import Sequences, Split, SplitData, read_sequences

Answers = dict[str, list[str]]


class Scripted:
    """An arm that answers from a list; with `two_steps` the list's end is every slate's last item."""

    config_class: ClassVar[type[ArmConfig]] = ArmConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    version = "0123456789ab"

    def __init__(
        self, answers: Answers, *, two_steps: bool = False, exploration: Exploration | None = None
    ) -> None:
        self.config = ArmConfig(name="scripted", model="scripted", exploration=exploration)
        self.answers = answers
        self.two_steps = two_steps
        self.asked: list[Request] = []

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        raise NotImplementedError

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        self.asked += requests
        slates = []
        for request in requests:
            items = self.answers[request.unit]
            last = [items[-1]] if self.two_steps else []
            found = items[: request.k - len(last)] + last
            steps = [0] * (len(found) - len(last)) + [1] * len(last)
            slates.append(Slate(found, [0.0] * len(found), steps, [None] * len(found)))
        return slates

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> "Scripted":
        raise NotImplementedError


def data_of(folder: Path, lines: str, split: Split = "test") -> SplitData:
    path = folder / "sequences.txt"
    path.write_text(lines)
    return SplitData(read_sequences(path), split, "click")


def fitted(model: str, data: SplitData, **changes: object) -> Evaluation:
    config = arm_class(model).config_class.model_validate({"name": model, "model": model} | changes)
    arm = new_arm(config)
    arm.fit(data.histories(), data.items, until=data.until)
    return evaluate(arm, data)


@pytest.fixture
def many(tmp_path: Path) -> SplitData:
    draw = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, 61)
    lines = []
    for unit in range(1300):  # more than one batch
        items = draw.choice(60, size=int(draw.integers(1, 7)), replace=False, p=weights / weights.sum())
        lines.append(f"{unit} {' '.join(map(str, items))}\n")
    return data_of(tmp_path, "".join(lines))


def test_metrics_equal_a_hand_computation(tmp_path: Path) -> None:
    lines = "u1 a b c\nu2 a b d\nu3 b c a\nu4 a\n" + "x " + " ".join(f"i{n}" for n in range(20)) + "\n"
    fill = [f"i{n}" for n in range(20)]
    found = evaluate(
        Scripted(
            {
                "u1": ["c", "d", *fill],  # rank 1
                "u2": [*fill[:6], "d", *fill[6:]],  # rank 7
                "u3": [*fill[:20], "a"],  # not among the first 20
                "x": ["a", "b", "i19"],  # rank 3
            }
        ),
        data_of(tmp_path, lines),
    )
    assert found.units == ("u1", "u2", "u3", "x")
    assert found.ranks.tolist() == [[1, 1, 1], [0, 7, 7], [0, 0, 0], [3, 3, 3]]
    assert (found.skipped, found.repeats, found.items, found.recall) == (1, 0, 24, (20,))
    expected = {
        "HR@5": 2 / 4,
        "HR@10": 3 / 4,
        "HR@20": 3 / 4,
        "NDCG@5": (1 + 1 / 2) / 4,
        "NDCG@10": (1 + 1 / 2 + 1 / 3) / 4,
        "NDCG@20": (1 + 1 / 2 + 1 / 3) / 4,
        "coverage@10": 15 / 24,  # i0 to i9, i19, a, b, c, d
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected)


def test_novelty_is_in_bits_of_the_share_of_training_behaviours(tmp_path: Path) -> None:
    data = data_of(tmp_path, "u1 a b c\nu2 a b c\n")  # a and b have half of the behaviours each, c none
    found = evaluate(Scripted({"u1": ["c"], "u2": ["c"]}), data)
    assert found.novelty == pytest.approx(math.log2(4))
    found = evaluate(Scripted({"v1": ["b"], "v2": ["a"]}), data_of(tmp_path, "v1 a b\nv2 b a\n"))
    assert found.novelty == pytest.approx(1.0)


@pytest.mark.parametrize("split", ["test", "valid"])
def test_popularity_equals_a_slow_reference(many: SplitData, split: Split) -> None:
    data = SplitData(many.sequences, split, "click")
    held_out = {"test": 1, "valid": 2}[split]
    counts = dict.fromkeys(data.items.ids, 0)
    rows = {unit: [one.item for one in past] for unit, past in many.sequences.histories("click")}
    for items in rows.values():
        for item in items[: max(len(items) - held_out, 0)]:
            counts[item] += 1
    assert len(set(counts.values())) > 20
    hits, gain, users = 0, 0.0, 0
    for items in rows.values():
        if len(items) > held_out:
            users += 1
            target = items[len(items) - held_out]
            met = set(items[: len(items) - held_out])
            above = sum(counts[item] > counts[target] for item in counts if item not in met)
            hits += above < 10
            gain += 1 / math.log2(2 + above) if above < 10 else 0.0
    found = fitted("popularity", data)
    assert (len(found.units), found.skipped) == (users, len(rows) - users)
    # Ties, which the reference leaves to the target, may cost the arm a little.
    assert found.metrics["HR@10"] == pytest.approx(hits / users, abs=0.02)
    assert found.metrics["NDCG@10"] == pytest.approx(gain / users, abs=0.02)
    assert found.metrics["HR@10"] <= hits / users


@pytest.mark.parametrize("split", ["test", "valid"])
def test_an_arm_that_knows_the_answer_gets_everything(many: SplitData, split: Split) -> None:
    data = SplitData(many.sequences, split, "click")
    back = {"test": -1, "valid": -2}[split]
    rows = [(u, [one.item for one in past]) for u, past in many.sequences.histories("click")]
    told: list[tuple[int, int]] = []
    arm = Scripted({unit: [items[back]] for unit, items in rows if len(items) >= -back + 1})
    found = evaluate(arm, data, progress=lambda *at: told.append(at))
    metrics = {name: value for name, value in found.metrics.items() if name[0] in "HN"}
    assert metrics == dict.fromkeys(metrics, 1.0)
    assert len(metrics) == 6
    total = len(found.units)
    assert told == [(min(done, total), total) for done in range(1024, total + 1024, 1024)]
    assert [len(request.history) for request in arm.asked] == [
        len(items) + back for _, items in rows if len(items) >= -back + 1
    ]
    assert all(behaviour.ts < request.ts for request in arm.asked for behaviour in request.history)


def test_what_a_unit_has_met_is_masked(tmp_path: Path) -> None:
    data = data_of(tmp_path, "u1 a b a\nu2 a c\n")
    found = fitted("popularity", data)
    assert found.ranks[:, 0].tolist() == [0, 2]  # a repeat cannot be hit
    assert found.repeats == 1
    with pytest.raises(ArmliftError, match="recommends item 'b' to unit 'u1', must be of the catalogue and"):
        evaluate(Scripted({"u1": ["b"], "u2": ["c"]}), data)
    with pytest.raises(ArmliftError, match="recommends item 'z'"):
        evaluate(Scripted({"u1": ["z"], "u2": ["c"]}), data)


def test_a_slate_for_each_length_where_they_differ(tmp_path: Path) -> None:
    lines = "u x i20\n" + "".join(f"one{n} i{n}\n" for n in range(20))
    data, answers = data_of(tmp_path, lines), {"u": [f"i{n}" for n in range(21)]}
    one_step = Scripted(answers)
    found = evaluate(one_step, data)
    assert (found.ranks.tolist(), found.recall) == ([[0, 0, 0]], (20,))
    assert [request.k for request in one_step.asked] == [20]
    two_steps = Scripted(answers, two_steps=True)
    found = evaluate(two_steps, data)
    assert (found.ranks.tolist(), found.recall) == ([[5, 10, 20]], (19, 1))
    explored = Scripted(answers, exploration=Exploration(kind="epsilon", slots=2))
    evaluate(explored, data)
    assert {request.k for request in explored.asked} == {5, 10, 20}


def test_a_file_of_short_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no user has 3 items or more, must have for the valid split"):
        fitted("random", data_of(tmp_path, "u1 a b\nu2 c\n", "valid"))


def test_the_same_evaluation_twice_is_the_same(many: SplitData) -> None:
    first, second = fitted("random", many, seed=3), fitted("random", many, seed=3)
    assert first.ranks.tolist() == second.ranks.tolist()
    assert first.intervals == second.intervals
    assert first.metrics == second.metrics
    assert fitted("random", many, seed=4).ranks.tolist() != first.ranks.tolist()


def test_bootstrap_intervals_hold_the_truth() -> None:
    draw = np.random.default_rng(1)
    shares, gains = np.array([0.9, 0.06, 0.04]), np.array([0.0, 1.0, 0.5])
    held = 0
    for seed in range(300):
        found = bootstrap(draw.choice(3, size=2000, p=shares), gains, draws=400, seed=seed)
        assert found.low <= found.value <= found.high
        held += found.low <= shares @ gains <= found.high
    assert 0.91 <= held / 300 <= 0.985


def test_the_bootstrap_equals_resampling_units() -> None:
    draw = np.random.default_rng(2)
    classes, gains = draw.integers(0, 3, size=300), np.array([0.0, 1.0, 0.4])
    found = bootstrap(classes, gains)
    means = [gains[draw.choice(classes, size=300)].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    assert found.value == pytest.approx(gains[classes].mean())


def test_a_paired_difference_is_narrower_than_its_parts(many: SplitData, tmp_path: Path) -> None:
    popular, chance = fitted("popularity", many), fitted("random", many)
    found = paired_difference(popular, chance)
    assert (found.arm, found.control) == ("popularity", "random")
    for name, (value, low, high) in found.intervals.items():
        assert value == pytest.approx(popular.metrics[name] - chance.metrics[name])
        assert low < value < high
    same = paired_difference(popular, popular)
    assert set(same.intervals.values()) == {(0.0, 0.0, 0.0)}
    reverse = paired_difference(chance, popular).intervals["HR@10"]
    assert reverse.value == pytest.approx(-found.intervals["HR@10"].value)
    other = fitted("popularity", SplitData(many.sequences, "valid", "click"))
    with pytest.raises(InputError, match="popularity and random were evaluated on different data"):
        paired_difference(other, chance)


def test_published_data_gives_known_figures(shared_data: Path) -> None:
    sequences: Sequences = read_sequences(shared_data / "seq" / "Beauty.txt")
    data = SplitData(sequences, "test", "click")
    popular, covisited = fitted("popularity", data), fitted("covisitation", data)
    assert (len(popular.units), popular.items, popular.skipped) == (22_363, 12_101, 0)
    assert popular.metrics["HR@10"] == pytest.approx(0.0135, abs=5e-4)
    assert covisited.metrics["HR@10"] == pytest.approx(0.0753, abs=5e-4)
    assert covisited.metrics["NDCG@10"] == pytest.approx(0.0457, abs=5e-4)
    assert paired_difference(covisited, popular).intervals["NDCG@10"].low > 0.03
