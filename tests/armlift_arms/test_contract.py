"""What every installed recommender must keep; a new one is tested by being announced."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from armlift.arm import (
    Arm,
    ArmConfig,
    Behaviour,
    Exploration,
    History,
    ItemTable,
    Request,
    Slate,
    arm_class,
    arm_classes,
    new_arm,
)
from armlift.artefacts import load_artefact, save_artefact

DAY = 86_400_000
UNTIL = 20 * DAY
MODELS = sorted(arm_classes())
TABLE = ItemTable([f"item{number:02}" for number in range(40)])
EXPLORATIONS = [
    Exploration(kind="epsilon", epsilon=0.5, slots=2),
    Exploration(kind="softmax", slots=2),
    Exploration(kind="plackett_luce", temperature=0.5),
]

pytestmark = pytest.mark.parametrize("model", MODELS)


def histories(until: int = UNTIL, units: int = 30) -> list[History]:
    """Make units that meet items of their taste; the catalogue's last five are met by nobody before UNTIL."""
    generator = random.Random(5)
    made = []
    for unit in range(units):
        times = sorted(generator.randrange(until) for _ in range(12))
        taste = unit % 5
        made.append(
            History(
                f"unit{unit}",
                [
                    Behaviour(
                        TABLE.ids[(taste * 7 + generator.randrange(9)) % 35],
                        generator.choice(["click", "like", "hate"]),
                        1.0,
                        ts,
                    )
                    for ts in times
                ],
            )
        )
    return made


def config_of(model: str, **changes: object) -> ArmConfig:
    return arm_class(model).config_class.model_validate({"name": "mine", "model": model} | changes)


def fit(model: str, data: list[History], until: int = UNTIL, **changes: object) -> Arm:
    arm = new_arm(config_of(model, **changes))
    arm.fit(iter(data), TABLE, until=until)
    return arm


@cache
def fitted(model: str, exploration: Exploration | None = None) -> Arm:
    return fit(model, histories(), exploration=exploration)


def requests(k: int = 5) -> list[Request]:
    """Make requests with and without candidates, of known and unknown units, with and without history."""
    asked = []
    for number, (unit, behaviours) in enumerate([*histories(), History("stranger", ())]):
        request = Request(f"{number:032x}", unit, UNTIL, k, behaviours)
        candidates = [TABLE.ids[(number * 3 + step) % 40] for step in range(number % 8)]
        asked += [
            request,
            request._replace(request_id=f"{number + 100:032x}", candidates=candidates),
            request._replace(request_id=f"{number + 200:032x}", history=()),
        ]
    return asked


def assert_slate(request: Request, slate: Slate) -> None:
    assert len(slate.items) == len(slate.scores) == len(slate.steps) == len(slate.propensities)
    assert len(set(slate.items)) == len(slate.items) <= request.k
    assert all(map(math.isfinite, slate.scores))
    if request.candidates is None:
        met = {behaviour.item for behaviour in request.history}
        assert set(slate.items) <= set(TABLE.ids) - met
        assert len(slate.items) == min(request.k, len(TABLE) - len(met))
    else:
        assert set(slate.items) <= set(request.candidates)
        assert len(slate.items) == min(request.k, len(set(request.candidates)))


def certain_pairs(slate: Slate) -> Iterator[tuple[int, int]]:
    """Name the neighbouring places of a slate in which nothing was drawn by chance."""
    for place in range(len(slate.items) - 1):
        if slate.propensities[place] == slate.propensities[place + 1] == 1.0:
            yield place, place + 1


@pytest.mark.parametrize("k", [1, 5, 60])
def test_every_request_is_answered_in_full_and_without_what_was_seen(model: str, k: int) -> None:
    asked = requests(k)
    slates = fitted(model).recommend(asked)
    assert len(slates) == len(asked)
    for request, slate in zip(asked, slates, strict=True):
        assert_slate(request, slate)
        assert list(slate.scores) == sorted(slate.scores, reverse=True)


def test_a_saved_arm_answers_the_same(model: str, tmp_path: Path) -> None:
    arm = fitted(model)
    manifest = save_artefact(arm, str(tmp_path), data_hash="d", data_until=UNTIL, created="2024-05-01")
    loaded, _ = load_artefact(str(tmp_path), "mine", manifest.version)
    assert loaded.recommend(requests()) == arm.recommend(requests())
    assert loaded.config == arm.config
    assert loaded.version == arm.version == manifest.version


@pytest.mark.parametrize("exploration", [None, *EXPLORATIONS], ids=repr)
def test_the_order_of_a_batch_changes_nothing(model: str, exploration: Exploration | None) -> None:
    arm, asked = fitted(model, exploration), requests()
    together = arm.recommend(asked)
    assert arm.recommend(asked[::-1]) == together[::-1]
    assert [arm.recommend([request])[0] for request in asked[:9]] == together[:9]


def test_the_order_of_candidates_changes_nothing(model: str) -> None:
    asked = [request for request in requests() if request.candidates is not None]
    turned = [request._replace(candidates=list(request.candidates or ())[::-1]) for request in asked]
    assert fitted(model).recommend(turned) == fitted(model).recommend(asked)


def test_another_seed_or_request_is_another_draw_or_none(model: str) -> None:
    """An arm either never draws, and its propensities are 1, or draws by seed and request."""
    request = Request("0" * 32, "stranger", UNTIL, 5)
    again = request._replace(request_id="1" * 32)
    slate = fitted(model).recommend([request])[0]
    others = [
        fitted(model).recommend([again])[0],
        fit(model, histories(), seed=1).recommend([request])[0],
    ]
    certain = set(slate.propensities) == {1.0}
    assert [other == slate for other in others] == [certain, certain]


def test_unknown_units_and_empty_histories_are_alike(model: str) -> None:
    stranger = Request("0" * 32, "stranger", UNTIL, 5)
    slate = fitted(model).recommend([stranger])[0]
    assert_slate(stranger, slate)
    odd = stranger._replace(history=[Behaviour("never heard of", "click", 1.0, 1)])
    assert fitted(model).recommend([odd])[0] == slate


def test_unknown_candidates_are_placed_last_by_id(model: str) -> None:
    asked = Request(
        "0" * 32, "unit1", UNTIL, 9, histories()[1].behaviours, ["zz", "new", *TABLE.ids[:3], "a"]
    )
    slate = fitted(model).recommend([asked])[0]
    assert_slate(asked, slate)
    if set(slate.propensities) == {1.0}:
        assert list(slate.items[3:]) == ["a", "new", "zz"]


def test_no_candidates_are_an_empty_slate(model: str) -> None:
    asked = Request("0" * 32, "unit1", UNTIL, 5, candidates=())
    assert [list(part) for part in fitted(model).recommend([asked])[0][:4]] == [[], [], [], []]
    assert fitted(model).recommend([]) == []


def test_what_happens_from_the_cut_on_changes_nothing(model: str) -> None:
    later = [
        Behaviour(TABLE.ids[39], "click", 1.0, UNTIL),
        Behaviour(TABLE.ids[0], "click", 1.0, UNTIL + DAY),
    ]
    leaking = [History(unit, [*behaviours, *later]) for unit, behaviours in histories()]
    arm = fit(model, [*leaking, History("unit of the future", later)])
    assert arm.version == fitted(model).version
    assert arm.recommend(requests()) == fitted(model).recommend(requests())


def test_other_kinds_change_nothing(model: str) -> None:
    hated = [
        History(unit, [*behaviours, Behaviour(TABLE.ids[3], "hate", 1.0, UNTIL - 1)])
        for unit, behaviours in histories()
    ]
    assert fit(model, hated).version == fitted(model).version


def test_a_version_names_data_and_definition(model: str) -> None:
    version = fitted(model).version
    assert fit(model, histories()).version == version
    assert fit(model, histories(), seed=1).version != version
    assert fit(model, histories(), until=UNTIL - 5 * DAY).version != version
    if "trainable" in arm_class(model).capabilities:
        assert fit(model, histories(units=29)).version != version


def test_a_warm_start_goes_on_from_what_was_learnt(model: str, tmp_path: Path) -> None:
    if "warm" not in arm_class(model).capabilities:
        return
    fit(model, histories(units=29), epochs=3).save(tmp_path)
    arms = [new_arm(config_of(model, epochs=1)) for _ in range(2)]
    for arm in arms:
        arm.fit(histories(), TABLE, until=UNTIL, warm=tmp_path)
    assert arms[0].version == arms[1].version != fit(model, histories(), epochs=1).version
    for request, slate in zip(requests(), arms[0].recommend(requests()), strict=True):
        assert_slate(request, slate)


def test_fitted_on_nothing_it_goes_by_id_where_nothing_is_drawn(model: str) -> None:
    for data in ([], [History("unit0", [])]):
        arm = fit(model, data)
        for request, slate in zip(requests(), arm.recommend(requests()), strict=True):
            assert_slate(request, slate)
            for place, following in certain_pairs(slate):
                if slate.scores[place] == slate.scores[following]:
                    assert slate.items[place] < slate.items[following]


def test_an_arm_that_was_never_fitted_still_orders_candidates(model: str) -> None:
    arm = new_arm(config_of(model))
    asked = Request("0" * 32, "unit1", UNTIL, 2, candidates=["b", "a", "c"])
    assert_slate(asked, arm.recommend([asked])[0])
    assert list(arm.recommend([asked._replace(candidates=None)])[0].items) == []


def test_stock_definition_states_the_defaults(model: str) -> None:
    text = (files("armlift_arms") / "definitions" / f"{model}.yaml").read_text(encoding="utf-8")
    stock = arm_class(model).config_class.model_validate(yaml.safe_load(text))
    assert stock.description
    defaults = arm_class(model).config_class(name=model, model=model, description=stock.description)
    assert stock == defaults


def test_an_unknown_key_is_refused(model: str) -> None:
    with pytest.raises(ValidationError, match="half_live"):
        config_of(model, half_live=1)


def test_capabilities_are_kept(model: str) -> None:
    assert isinstance(fitted(model), Arm)
    propensities = [
        propensity for slate in fitted(model).recommend(requests()) for propensity in slate.propensities
    ]
    if "propensity" in arm_class(model).capabilities:
        assert all(propensity is not None and 0 < propensity <= 1 for propensity in propensities)


@pytest.mark.parametrize("exploration", EXPLORATIONS, ids=repr)
def test_every_exploration_works(model: str, exploration: Exploration) -> None:
    asked = requests()
    for request, slate in zip(asked, fitted(model, exploration).recommend(asked), strict=True):
        assert_slate(request, slate)
        assert all(propensity is not None and 0 < propensity <= 1 for propensity in slate.propensities)


@pytest.mark.parametrize("exploration", [None, *EXPLORATIONS], ids=repr)
@pytest.mark.parametrize("candidates", [None, ["item01", "item08", "item39"]])
def test_propensities_are_true(
    model: str, exploration: Exploration | None, candidates: list[str] | None
) -> None:
    """The share of many requests in which an item stands first is the propensity reported."""
    n = 600
    history = [Behaviour(item, "click", 1.0, 1) for item in TABLE.ids[4:]]
    request = Request("", "unit1", UNTIL, 1, history, candidates)
    slates = fitted(model, exploration).recommend(
        [request._replace(request_id=f"{number:032x}") for number in range(n)]
    )
    shares = Counter(slate.items[0] for slate in slates)
    reported = {slate.items[0]: slate.propensities[0] for slate in slates}
    for item, count in shares.items():
        p = reported[item]
        assert p is not None
        assert abs(count - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)) + 1e-9
