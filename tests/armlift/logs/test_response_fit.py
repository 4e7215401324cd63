"""The fit of a response model: planted effects, calibration against the truth, and what logs do not know."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from dense_matrix import write_matrix
from scipy.special import expit, logit

from armlift.days import Calendar
from armlift.errors import InputError
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.generator_world import catalogue_of, population_of
from armlift.logs.log import SYNTHETIC_USERS_FROM
from armlift.logs.reader import open_log
from armlift.logs.response_fit import fit_response, log_loss
from armlift.logs.response_model import ResponseModel

SETTINGS = GeneratorSettings(
    seed=3,
    users=300,
    days=4,
    videos=300,
    sessions_per_day=3,
    rows_per_session=8,
    random_share=1,
    taste_strength=0,
    taste_drift=0,
)
SHANGHAI = Calendar("Asia/Shanghai")
CUT = SHANGHAI.parse("2022-04-11")


class Fitted(NamedTuple):
    """A model of three days, and the fourth: rows, places, true chances; all rows' clicks."""

    path: Path
    model: ResponseModel
    early: Any
    units: Any
    items: Any
    click: Any
    chance: Any


def fitted(folder: Path, settings: GeneratorSettings) -> Fitted:
    path, truth = folder / "log.csv", folder / "truth.csv"
    generate(settings, path, truth=truth)
    model = fit_response(open_log([path]), CUT, calendar=SHANGHAI)
    log, chances = pl.read_csv(path), pl.read_csv(truth)
    return Fitted(
        path,
        model,
        log["time_ms"].to_numpy() < CUT,
        model.units_of(log["user_id"].cast(pl.String).to_list()),
        model.items_of(log["video_id"].cast(pl.String).to_list()),
        log["is_click"].to_numpy() == 1,
        chances["p_click"].to_numpy(),
    )


@pytest.fixture(scope="module")
def random_log(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return fitted(tmp_path_factory.mktemp("random"), SETTINGS)


def test_planted_effects_are_found(random_log: Fitted) -> None:
    model = random_log.model
    readiness = population_of(SETTINGS).readiness
    quality = catalogue_of(SETTINGS).quality
    users = readiness[[int(unit) - SYNTHETIC_USERS_FROM for unit in model.units]]
    videos = quality[[int(item) for item in model.items]]
    for found, true in ((model.unit_effects, users), (model.item_effects, videos)):
        assert np.corrcoef(found.mean, true)[0, 1] > 0.85
        assert found.spread == pytest.approx(true.std(), rel=0.12)
        scaled = (found.mean - true + true.mean()) / found.deviation
        assert scaled.std() == pytest.approx(1, abs=0.15)


def test_clicks_of_another_day_are_told_nearly_as_by_the_truth(random_log: Fitted) -> None:
    model, early = random_log.model, random_log.early
    units, items, click = (
        column[~early] for column in (random_log.units, random_log.items, random_log.click)
    )
    own = model.click_chances(units, items)

    def mean_by(codes: Any, groups: int) -> Any:
        before, after = codes[early], codes[~early]
        clicks = np.bincount(before, random_log.click[early], groups) + random_log.click[early].mean()
        return (clicks / (np.bincount(before, minlength=groups) + 1))[after]

    told = {
        "truth": random_log.chance[~early],
        "model": own,
        "unit": mean_by(random_log.units, len(model.units)),
        "item": mean_by(random_log.items, len(model.items)),
    }
    lost = {name: log_loss(click, logit(chance)).mean() for name, chance in told.items()}
    # Half of what is left between the better of the means and the truth, and more.
    assert lost["model"] - lost["truth"] < 0.5 * (min(lost["unit"], lost["item"]) - lost["truth"])
    for part in np.array_split(np.argsort(own), 10):
        assert own[part].mean() == pytest.approx(random_log.chance[~early][part].mean(), rel=0.15, abs=0.01)


def test_it_draws_a_log_like_the_one_it_learned_from(random_log: Fitted) -> None:
    model, log = random_log.model, pl.read_csv(random_log.path)
    odds = model.click_log_odds(random_log.units, random_log.items)
    drawn = model.respond(odds, random_log.items, np.random.default_rng(0).random((len(odds), 9)))
    assert set(drawn) == model.kinds == open_log([random_log.path]).summary.kinds
    for kind in sorted(model.kinds - {"play", "long_view"}):
        seen = log[f"is_{kind}"].mean()
        assert isinstance(seen, float)
        assert drawn[kind].mean() == pytest.approx(seen, abs=4 * np.sqrt(seen / len(odds)) + 0.003), kind
    seconds = log["play_time_ms"].to_numpy() / 1000
    assert drawn["play"].mean() == pytest.approx(seconds.mean(), rel=0.05)
    assert drawn["long_view"].mean() == pytest.approx((log["long_view"].to_numpy() == 1).mean(), rel=0.1)
    assert (drawn["long_view"] <= drawn["click"]).all()
    assert model.long_views is not None
    assert model.long_views.slope == pytest.approx(1, abs=0.3)  # as the generator has it
    assert model.activity.days == 3
    assert model.activity.rows_per_session == pytest.approx(8.3, abs=0.5)


def test_random_exposure_has_a_level_of_its_own(tmp_path: Path) -> None:
    """Whom the policy shows items to their taste looks readier than he is."""
    settings = SETTINGS.model_copy(update={"random_share": 0.3, "taste_strength": 2.0})
    found = fitted(tmp_path, settings)
    levels = found.model.levels
    assert levels.standard is not None
    assert levels.random is not None
    assert levels.standard - levels.random > 0.5
    assert found.model.level == levels.random
    assert found.model.random_rows == pytest.approx(0.3 * found.model.rows, rel=0.05)
    # A log all shown at random, or one whose policy is not told, has one level.
    only = fit_response(open_log([found.path])).levels
    assert only.random is not None
    lines = found.path.read_text().splitlines()
    place = lines[0].split(",").index("is_rand")
    cut = [",".join(part for at, part in enumerate(line.split(",")) if at != place) for line in lines]
    found.path.write_text("\n".join(cut) + "\n")
    unknown = fit_response(open_log([found.path]), CUT)
    assert unknown.levels.random is None
    assert unknown.level == unknown.levels.standard
    assert unknown.random_rows is None


def test_ids_not_known(random_log: Fitted) -> None:
    model = random_log.model
    assert model.units_of(["nobody", model.units[7]]).tolist() == [-1, 7]
    assert model.items_of([model.items[3], "nothing"]).tolist() == [3, -1]
    odds = model.click_log_odds(np.array([-1, 7, -1]), np.array([-1, -1, 3]))
    assert odds == pytest.approx(
        [model.level, model.level + model.unit_effects.mean[7], model.level + model.item_effects.mean[3]]
    )
    nobody = model.click_chances(np.array([-1]), np.array([-1]))
    rng = np.random.default_rng(0)
    spread = np.hypot(model.unit_effects.spread, model.item_effects.spread)
    assert nobody[0] == pytest.approx(expit(model.level + spread * rng.normal(size=200_000)).mean(), abs=0.01)


def test_the_same_log_gives_the_same_model(random_log: Fitted) -> None:
    again = fit_response(open_log([random_log.path], batch_rows=777), CUT, calendar=SHANGHAI)
    for name in ("unit_effects", "item_effects"):
        own, other = getattr(random_log.model, name), getattr(again, name)
        assert (own.mean == other.mean).all()
        assert (own.deviation == other.deviation).all()
    assert again.level == random_log.model.level
    assert again.rates == random_log.model.rates


def test_rows_from_the_time_on_change_nothing(random_log: Fitted, tmp_path: Path) -> None:
    lines = random_log.path.read_text().splitlines()
    early = [lines[0], *(line for line in lines[1:] if int(line.split(",")[4]) < CUT)]
    path = tmp_path / "early.csv"
    path.write_text("\n".join(early) + "\n")
    other = fit_response(open_log([path]), calendar=SHANGHAI)
    assert other.rows == random_log.model.rows
    assert (other.unit_effects.mean == random_log.model.unit_effects.mean).all()


def test_kuairec_has_long_views_for_its_outcome(tmp_path: Path) -> None:
    matrix = write_matrix(tmp_path / "matrix.csv", users=80, videos=50)
    model = fit_response(open_log([matrix.path]))
    assert (model.outcome, sorted(model.kinds)) == ("long_view", ["long_view", "play"])
    assert (model.long_views, model.rates, model.random_rows) == (None, {}, None)
    places = np.divmod(np.arange(80 * 50), 50)
    units, items = model.units_of(list(map(str, places[0]))), model.items_of(list(map(str, places[1])))
    chances = model.click_chances(units, items)
    assert np.corrcoef(chances, matrix.chance.ravel())[0, 1] > 0.95
    drawn = model.respond(
        model.click_log_odds(units, items), items, np.random.default_rng(0).random((4_000, 9))
    )
    assert set(drawn) == {"long_view", "play"}
    assert model.play is not None
    needed = np.minimum(model.play.durations[items], 18)
    assert ((drawn["play"] >= needed) == (drawn["long_view"] == 1)).all()


def test_items_count_for_long_views_where_they_clearly_help(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 12_000
    user, video = rng.integers(0, 100, n), rng.integers(0, 40, n)
    click = rng.random(n) < 0.5
    lines = {}
    for name, odds in (("helps", np.where(video < 20, 1.5, -1.5)), ("does not", np.zeros(n))):
        long_view = click & (rng.random(n) < expit(odds))
        rows = [
            f"{u},{v},{at},{int(c)},{int(s)}"
            for at, (u, v, c, s) in enumerate(zip(user, video, click, long_view, strict=True))
        ]
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(["user_id,video_id,time_ms,is_click,long_view", *rows]) + "\n")
        found = fit_response(open_log([path])).long_views
        assert found is not None
        lines[name] = found
    assert lines["does not"].items is None
    assert lines["helps"].items is not None
    assert lines["helps"].items.spread == pytest.approx(1.5, rel=0.15)


def test_a_log_that_knows_no_outcome_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,video_id,time_ms,label\n1,2,3,1\n")
    with pytest.raises(
        InputError, match="knows hate, like; a response model needs one of click or long_view"
    ):
        fit_response(open_log([path]))
    path.write_text("user_id,video_id,time_ms,is_click\n1,2,3,1\n")
    with pytest.raises(
        InputError, match=r"has no row before 1970-01-01T00:00:00.* to fit a response model on"
    ):
        fit_response(open_log([path]), 2)
    assert fit_response(open_log([path])).rows == 1


@pytest.mark.parametrize("outcomes", ["0,0,0", "1,0,5000", "1,1,5000", "0,1,1"])
@pytest.mark.parametrize("rows", [1, 30])
def test_logs_that_say_one_thing(tmp_path: Path, outcomes: str, rows: int) -> None:
    path = tmp_path / "log.csv"
    lines = [f"{n % 3},{n % 2},{n},{outcomes},4000" for n in range(rows)]
    header = "user_id,video_id,time_ms,is_click,long_view,play_time_ms,duration_ms"
    path.write_text("\n".join([header, *lines]) + "\n")
    model = fit_response(open_log([path]))
    places = np.array([0, -1])
    drawn = model.respond(model.click_log_odds(places, places), places, np.full((2, 9), 0.5))
    assert all(np.isfinite(values).all() for values in drawn.values())
    if rows > 1:
        assert drawn["click"].tolist() == [float(outcomes[0])] * 2
        assert drawn["long_view"].tolist() == [float(outcomes[2])] * 2


def test_the_published_extract(shared_data: Path) -> None:
    model = fit_response(
        open_log([shared_data / "kuairand" / "log_standard_27k_explicit.csv"]), calendar=SHANGHAI
    )
    assert model.outcome == "click"
    assert model.random_rows is None or model.random_rows < model.rows
    assert 0.3 < model.unit_effects.spread < 3
    assert model.activity.days == 15
    assert {"like", "hate"} <= set(model.rates)
