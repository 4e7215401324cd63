"""Slates and assignments over HTTP: the splitter's arms, exposures kept once, retries that are one call."""

import time

import httpx
import pytest
from serving_lab import NAME, Api, wait_for
from sqlalchemy import func, select

from armlift.client import ApiError, Client
from armlift.events import request_identity
from armlift.splitter import assign
from armlift.store.tables import exposures, feedback, impressions


def count(api: Api, table: object, unit: str) -> int:
    with api.engine.connect() as connection:
        asked = select(func.count()).where(table.c.unit_id == unit)  # type: ignore[attr-defined]
        return int(connection.execute(asked).scalar_one())


def test_a_unit_gets_the_splitters_arm_and_is_exposed_once(api: Api) -> None:
    split = api.lab.split(api.lab.experiment(NAME))
    for number in range(40):
        unit = f"split{number}"
        answer = api.client.recommend(unit, experiment=NAME, k=7)
        expected = assign(split, 0, unit)
        assert (answer.arm, answer.exposed, answer.rule) == (expected.arm, True, "range")
        assert (answer.phase, answer.generation, answer.run) == (0, 0, "live")
        assert len({one.item_id for one in answer.items}) == 7
        assert [one.position for one in answer.items] == [*range(7)]
        assert answer.fallback is None
        assert answer.exposure is not None
        assert api.client.recommend(unit, experiment=NAME).exposure is None, "it was exposed already"
    wait_for(lambda: all(count(api, exposures, f"split{number}") == 1 for number in range(40)))


def test_a_call_again_is_the_same_call(api: Api) -> None:
    named = request_identity(time.time_ns() // 1_000_000, "again")
    first = api.client.recommend("again", experiment=NAME, request_id=named)
    second = api.client.recommend("again", experiment=NAME, request_id=named)
    assert first.items == second.items
    assert (first.request_id, second.request_id) == (named, named)
    assert (first.exposure is None, second.exposure) == (False, None)


def test_a_forced_arm_is_for_this_call_alone(api: Api) -> None:
    own = api.client.recommend("forced", experiment=NAME).arm
    other = "covisitation" if own == "popularity" else "popularity"
    forced = api.client.recommend("forced", experiment=NAME, force=other)
    assert (forced.arm, forced.rule) == (other, "forced")
    assert api.client.recommend("forced", experiment=NAME).arm == own
    wait_for(lambda: count(api, exposures, "forced") == 2)
    with api.engine.connect() as connection:
        rows = connection.execute(
            select(exposures.c.arm, exposures.c.forced).where(exposures.c.unit_id == "forced")
        )
        assert sorted(rows.all()) == sorted([(own, False), (other, True)])


def test_a_layer_gives_whichever_experiment_takes_the_unit_in(api: Api) -> None:
    answer = api.client.recommend("layered", layer="default")
    assert (answer.experiment, answer.exposed) == (NAME, True)


def test_what_a_unit_did_counts_in_its_next_slate(api: Api) -> None:
    unit = next(
        f"own{number}" for number in range(99)
        if api.client.assignments(f"own{number}", experiment=NAME)[0].arm == "popularity"
    )  # fmt: skip
    first = api.client.recommend(unit, experiment=NAME)
    began = time.monotonic()
    api.client.send([api.client.impression(first, 0), api.client.feedback(first, 0, "click")])
    second = api.client.recommend(unit, experiment=NAME)
    assert time.monotonic() - began < 1
    assert first.items[0].item_id not in {one.item_id for one in second.items}
    assert [one.item_id for one in second.items[:5]] == [one.item_id for one in first.items[1:6]]
    wait_for(lambda: (count(api, impressions, unit), count(api, feedback, unit)) == (1, 1))


def test_asking_for_an_assignment_exposes_nobody(api: Api) -> None:
    split = api.lab.split(api.lab.experiment(NAME))
    for unit in ("a b", "ünit/with?signs", "../../etc/passwd", "'; DROP TABLE exposures; --"):
        (found,) = api.client.assignments(unit, context={"age": 3})
        assert (found.unit_id, found.arm, found.exposed) == (unit, assign(split, 0, unit).arm, True)
    time.sleep(0.5)
    assert count(api, exposures, "a b") == 0


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"unit_id": "u", "experiment": "nothing"}, 404, "experiment 'nothing' was not started"),
        ({"unit_id": "u", "layer": "nothing"}, 404, "layer 'nothing' has no experiment"),
        ({"unit_id": "u"}, 422, "experiment: must stand here, or layer, and not both"),
        (
            {"unit_id": "u", "experiment": NAME, "force": "x"},
            422,
            "force: 'x' must be one of popularity, covis",
        ),
        ({"unit_id": "u", "experiment": NAME, "k": "3"}, 422, "k: "),
        ({"unit_id": "u", "experiment": NAME, "k": 501}, 422, "k: "),
        ({"unit_id": "", "experiment": NAME}, 422, "unit_id: "),
        ({"unit_id": "a\0b", "experiment": NAME}, 422, "unit_id: "),
        ({"unit_id": "u", "experiment": NAME, "kk": 3}, 422, "kk: "),
        ({"unit_id": "u", "experiment": NAME, "context": {"a": [1]}}, 422, "context.a"),
        ({"unit_id": "u", "experiment": NAME, "request_id": "0" * 32}, 422, "is no UUIDv7"),
    ],
)
def test_a_bad_request_is_one_line(api: Api, body: object, status: int, says: str) -> None:
    answer = httpx.post(f"{api.answering.url}/v1/recommend", json=body, trust_env=False)
    assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True), answer.text
    assert "\n" not in answer.json()["error"]["message"]
    assert "Traceback" not in answer.text


def test_a_client_says_what_the_api_says(api: Api) -> None:
    with pytest.raises(ApiError, match="experiment 'x' was not started") as caught:
        api.client.recommend("u", experiment="x")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    with Client("http://127.0.0.1:9", timeout=0.2) as nobody, pytest.raises(ApiError) as caught:
        nobody.recommend("u", experiment=NAME)
    assert (caught.value.status, caught.value.code) == (0, "unreachable")
