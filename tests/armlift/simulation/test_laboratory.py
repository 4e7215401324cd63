"""Simulated worlds as wholes: blocks do not matter, sessions do not overlap, truths are what they must be."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from armlift.arm import Arm, ArmConfig, arm_class, new_arm
from armlift.metric import METRICS
from armlift.simulation import course
from armlift.simulation.course import Page
from armlift.simulation.laboratory import Laboratory
from armlift.simulation.traffic import Traffic
from armlift.simulation.truth import truth_of
from armlift.simulation.users import REST_MS, Users

LaboratoryOf = Callable[..., Laboratory]
Seen = dict[int, list[tuple[Any, ...]]]
METRICS_ASKED = METRICS.validate_python(
    {
        "clicks": {"kind": "mean", "of": {"event": "click"}, "cuped": "2d"},
        "click_rate": {
            "kind": "ratio",
            "numerator": {"event": "click"},
            "denominator": {"event": "impression"},
        },
    }
)


def arm_of(model: str, laboratory: Laboratory, name: str = "") -> Arm:
    config: type[ArmConfig] = arm_class(model).config_class
    arm = new_arm(config.model_validate({"name": name or model, "model": model}))
    past = laboratory.past_data()
    arm.fit(past.histories(), past.items, until=past.until)
    return arm


def pair(laboratory: Laboratory) -> Mapping[str, Arm]:
    return {name: arm_of("popularity", laboratory, name) for name in laboratory.experiment.arms}


def seen(laboratory: Laboratory, arms: Mapping[str, Arm], traffic: Callable[[Users], Traffic]) -> Seen:
    """Run a laboratory, and list what each user was shown and did, page by page."""
    found: Seen = defaultdict(list)

    def page(users: Users, _: Traffic, one: Page) -> None:
        for at, row in enumerate(one.rows.tolist()):
            response = one.response
            told = tuple(
                column[at].tolist()
                for column in (one.items, response.shown, response.ts, response.click, response.play)
            )
            found[users.first + row].append((int(one.arm[at]), int(one.now[at]), *told))

    laboratory.run(arms, traffic, page=page, mode="pooled")
    return found


def half(users: Users) -> Traffic:
    """Give odd users the second arm."""
    choices = np.array([[(users.first + row) % 2 for row in range(len(users))]], dtype=np.int16)
    return Traffic([0], choices, np.zeros_like(choices, dtype=np.int8), *everybody_new(len(users)))


def everybody(arm: int, users: Users) -> Traffic:
    return Traffic.everybody(arm, len(users))


def everybody_new(count: int) -> tuple[Any, ...]:
    plain = Traffic.everybody(0, count)
    return plain.arm, plain.phase, plain.exposed


@pytest.mark.parametrize("retrain", ["never", "nightly"])
def test_blocks_do_not_matter(
    laboratory_of: LaboratoryOf, monkeypatch: pytest.MonkeyPatch, retrain: str
) -> None:
    laboratory = laboratory_of(["control", "other"], retrain=retrain)
    arms = pair(laboratory)
    whole = seen(laboratory, arms, half)
    assert {arm for pages in whole.values() for arm, *_ in pages} == {-1, 0, 1}
    for size in (1, 7, 59):
        monkeypatch.setattr(course, "BLOCK_USERS", size)
        assert seen(laboratory, arms, half) == whole


def test_more_users_change_nothing_for_those_before(laboratory_of: LaboratoryOf) -> None:
    small, large = laboratory_of(["control", "other"], 20), laboratory_of(["control", "other"], 50)
    arms = pair(small)
    few, many = seen(small, arms, half), seen(large, arms, half)
    assert few == {user: pages for user, pages in many.items() if user < 20}


def test_a_users_sessions_never_overlap(laboratory_of: LaboratoryOf) -> None:
    laboratory = laboratory_of(["control", "other"], 60, 1, sessions_per_day=8.0, rows_per_session=8.0)
    sessions = 0
    for pages in seen(laboratory, pair(laboratory), half).values():
        left = None
        for _, now, _, shown, ts, _, play in pages:
            times = [time for time, there in zip(ts, shown, strict=True) if there]
            assert times == sorted(times)
            if times:
                assert times[0] == now
            if left is not None:
                # The next page of a session comes where the last item was left; else there is a rest.
                assert now >= left
                sessions += now - left >= REST_MS
            ends = [time + 1_000 * watched for time, watched in zip(ts, play, strict=True) if time]
            left = max(ends, default=now)
    assert sessions > 300


def test_two_arms_of_one_kind_have_exactly_no_lift(laboratory_of: LaboratoryOf) -> None:
    laboratory = laboratory_of(["control", "other"], 100)
    for one in truth_of(laboratory, pair(laboratory), METRICS_ASKED):
        assert one.lift == 0.0
        assert one.error == 0.0
        assert one.mean == one.control_mean


@pytest.mark.parametrize("added", [-0.4, 0.4])
def test_a_planted_effect_has_its_sign(laboratory_of: LaboratoryOf, added: float) -> None:
    laboratory = laboratory_of(["control", "other"], 200, planted={"other": added})
    for one in truth_of(laboratory, pair(laboratory), METRICS_ASKED):
        assert one.lift is not None
        assert one.error is not None
        assert one.lift / added > 3 * one.error / abs(added)


def test_novelty_wears_off(laboratory_of: LaboratoryOf) -> None:
    laboratory = laboratory_of(["control", "other"], 250, 5, novelty=1.0, novelty_days=1.0)
    arms = pair(laboratory)
    rates = []
    for arm in (0, 1):
        clicks, shown = np.zeros(5), np.zeros(5)
        for pages in seen(laboratory, arms, partial(everybody, arm)).values():
            for met, now, _, there, _, clicked, _ in pages:
                # A session may go on after the last day.
                day = (now - laboratory.course().start_of(0)) // 86_400_000
                if met == arm and day < 5:
                    clicks[day] += sum(clicked)
                    shown[day] += sum(there)
        rates.append(clicks / shown)
    lifts = rates[1] / rates[0] - 1
    assert lifts[0] > 0.1
    assert abs(lifts[4]) < lifts[0] / 2


def test_the_truth_is_of_those_who_take_part_from_when_they_do(laboratory_of: LaboratoryOf) -> None:
    laboratory = laboratory_of(["control", "other"], 90)
    middle = laboratory.course().start_of(1)

    def ramp(users: Users) -> Traffic:
        # A third never, a third from the second day on.
        part = np.array([(users.first + row) % 3 for row in range(len(users))])
        choices = np.stack([np.where(part == 2, 1, -1), np.where(part == 0, -1, 1)]).astype(np.int16)
        rules = np.zeros_like(choices, dtype=np.int8)
        return Traffic([0, middle], choices, rules, *everybody_new(len(users)))

    arms = pair(laboratory)
    found = seen(laboratory, arms, lambda users: ramp(users).deployed(0))
    for user, pages in found.items():
        for arm, now, *_ in pages:
            start = {0: np.inf, 1: middle, 2: laboratory.course().start_of(0)}[user % 3]
            assert arm == (0 if now >= start else -1)
    whole = truth_of(laboratory, arms, METRICS_ASKED)[0]
    some = truth_of(laboratory, arms, METRICS_ASKED, traffic_of=ramp)[0]
    assert whole.users > 1.3 * some.users
    assert whole.mean is not None
    assert some.mean is not None
    assert some.mean < whole.mean
