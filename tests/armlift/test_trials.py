"""Trials with arms whose answers are known: pooling over seeds, bases, groups, and settings without data."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import pytest

from armlift import trials
from armlift.arm import Arm, ArmConfig, Capability, History, ItemTable, Request, Slate
from armlift.artefacts import read_weights, write_weights
from armlift.errors import InputError
from armlift.heldout import HeldOut
from armlift.sequences import SequenceSource, read_sequences
from armlift.studies import Bench, Group, Setting, Study, studies_of, study_of
from armlift.trials import NoDataError, changed, redefined, run_study

UNITS = 12


class PlacedConfig(ArmConfig):
    """Where the target stands in the slates of even and of odd units, from 0; -1: nowhere."""

    even: int = 0
    odd: int = 0


class Placed:
    """An arm that knows the targets (unit u takes item t<u> last) and places them as it is told."""

    config_class: ClassVar[type[ArmConfig]] = PlacedConfig
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self, config: PlacedConfig) -> None:
        self.config = config
        self.version = f"{config.even}{config.odd}{config.seed}".zfill(12)

    def fit(
        self, histories: Iterable[History], items: ItemTable, *, until: int, warm: Path | None = None
    ) -> None:
        if self.config.even == 13:
            raise InputError("these data bring bad luck")

    def recommend(self, requests: Sequence[Request]) -> list[Slate]:
        slates = []
        for request in requests:
            number = int(request.unit.removeprefix("u"))
            place = self.config.odd if number % 2 else self.config.even
            place += self.config.seed if place >= 0 else 0
            items = [f"x{at}" for at in range(20)]
            if place >= 0:
                items.insert(place, f"t{number}")
            found = items[: request.k]
            slates.append(Slate(found, [0.0] * len(found), [0] * len(found), [1.0] * len(found)))
        return slates

    def save(self, folder: Path) -> None:
        write_weights(folder, self.config, {})

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(read_weights(folder, PlacedConfig)[0])


class Kept:
    """Fits arms, and counts how often."""

    def __init__(self, url: Path) -> None:
        self.url = str(url)
        self.fits = 0
        self._arms: dict[ArmConfig, Arm] = {}

    def known(self, config: ArmConfig, data_hash: str) -> Arm | None:
        return self._arms.get(config)

    def fit(self, config: ArmConfig, data: HeldOut) -> Arm:
        assert isinstance(config, PlacedConfig)
        arm = Placed(config)
        arm.fit(data.histories(), data.items, until=data.until)
        self._arms[config] = arm
        self.fits += 1
        return arm


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    rows = [f"u{unit} s{unit} t{unit}" for unit in range(UNITS)]
    rows += [f"other{at} x{at}" for at in range(20)]
    path = tmp_path / "sequences.txt"
    path.write_text("\n".join(rows) + "\n")
    source = SequenceSource(read_sequences(path), "test", "click")
    own = PlacedConfig(name="mine", model="placed")
    return Bench(source, {"mine": own}, Kept(tmp_path))


def study(monkeypatch: pytest.MonkeyPatch, *settings: Setting, **changes: object) -> None:
    made = Study("Which is it?", lambda source: settings, metric="NDCG@10", **changes)  # type: ignore[arg-type]
    monkeypatch.setattr(trials, "study_of", lambda config, name: made)


def test_settings_are_pooled_over_seeds_and_compared_on_the_same_units(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(
        monkeypatch,
        Setting("first place"),
        Setting("odd ones fourth", train={"odd": 3}, base="first place"),
        Setting("same weights", serve={"odd": 3}, base="odd ones fourth"),
        ordered=True,
    )
    found = run_study("which", bench.arms["mine"], bench, [0, 1])
    (section,) = found.sections
    first, fourth, served = section.rows
    # Seed 1 places all one lower. 1 / log2(1 + rank): ranks 1 and 2, for half the units 4 and 5.
    high, low = (1 + 0.6309297536) / 2, (0.4306765581 + 0.3868528072) / 2
    assert first.values["NDCG@10"] == pytest.approx((high, high, high))
    assert fourth.values["NDCG@10"].value == pytest.approx((high + low) / 2)
    assert fourth.differences["NDCG@10"].value == pytest.approx((low - high) / 2)
    assert fourth.differences["NDCG@10"].high < 0
    assert served.differences["NDCG@10"] == (0, 0, 0)
    assert (section.units, section.best, section.stops) == (UNITS, "first place", "first place")
    assert first.figures["coverage@10"].low <= first.figures["coverage@10"].value
    assert (found.seeds, found.split, found.metric) == ((0, 1), "test", "NDCG@10")
    assert "worse than its base beyond chance: odd ones fourth" in found.answer
    assert isinstance(bench.fitted, Kept)
    assert bench.fitted.fits == 4  # `serve` trains nothing


def test_groups_are_told_apart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    study(monkeypatch, Setting("base"), Setting("odd lost", {"odd": -1}, base="base"), grouped=True)

    def parity(data: HeldOut, kinds: Sequence[str]) -> list[Group]:
        units = [request.unit for request, _ in data.asked()]
        return [Group(name, frozenset(units[start::2])) for start, name in enumerate(("even", "odd"))]

    found = run_study("which", bench.arms["mine"], bench, [0], [parity])
    values = {section.name: section.rows[1].differences["NDCG@10"].value for section in found.sections}
    assert values == {"all units": -0.5, "even": 0, "odd": -1}
    assert [section.units for section in found.sections] == [UNITS, UNITS // 2, UNITS // 2]
    assert found.sections[1].answer.startswith("Nothing differs")


def test_what_cannot_be_tried_has_no_data_and_a_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    study(
        monkeypatch,
        Setting("base"),
        Setting("unknown key", {"positions": False}, base="base"),
        Setting("peer", arm="theirs", base="base"),
        Setting("likes", kind="like", base="base"),
        Setting("refused", {"even": 13}, base="base", may_lack=True),
    )
    found = run_study("which", bench.arms["mine"], bench, [0, 1])
    rows = found.sections[0].rows
    assert [row.status for row in rows] == ["ok", *["no_data"] * 4]
    assert [row.reason for row in rows[1:]] == [
        "the definition of model placed has no positions",
        "the lab has no arm theirs",
        "the data tell nothing of like",
        "these data bring bad luck",
    ]
    assert not any(row.values or row.differences for row in rows[1:])
    assert found.answer == "There is nothing to compare: base alone has data."


def test_a_refused_fit_is_an_error_where_data_are_not_expected_to_lack(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    study(monkeypatch, Setting("base", {"even": 13}))
    with pytest.raises(InputError, match="bad luck"):
        run_study("which", bench.arms["mine"], bench, [0])


def test_data_without_the_arms_kinds_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    study(monkeypatch, Setting("base"))
    config = PlacedConfig(name="mine", model="placed", history_kinds=("like", "hate"))
    with pytest.raises(InputError, match="tell nothing of its history_kinds, like, hate"):
        run_study("which", config, bench, [0])


def test_definitions_change_and_weights_stay() -> None:
    arm = Placed(PlacedConfig(name="mine", model="placed"))
    again = redefined(arm, {"odd": 5})
    assert again.config == PlacedConfig(name="mine", model="placed", odd=5)
    assert arm.config.odd == 0
    with pytest.raises(NoDataError, match="has no positions"):
        changed(arm.config, {"positions": True})


def test_studies_are_found_by_the_arms_model() -> None:
    unknown: Mapping[str, object] = studies_of(PlacedConfig(name="mine", model="placed"))
    assert unknown == {}
    with pytest.raises(InputError, match=r"--study k: arm mine \(model placed\) answers no study"):
        study_of(PlacedConfig(name="mine", model="placed"), "k")
