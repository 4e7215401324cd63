"""Events over HTTP: kept once however often they are sent, all of a batch or nothing, refused in one line."""

import json
import subprocess
import sys
import time

import httpx
import pytest
from serving_lab import NAME, Api, wait_for
from sqlalchemy import func, select

from armlift.events import request_identity
from armlift.store.tables import aliases, dead_letters, exposures, feedback, impressions


def post(api: Api, body: object, **more: object) -> httpx.Response:
    return httpx.post(f"{api.answering.url}/v1/events", json=body, trust_env=False)


def click(unit: str, item: str = "v1", **more: object) -> dict[str, object]:
    named = request_identity(time.time_ns() // 1_000_000, unit)
    return {
        "type": "feedback", "request_id": named, "unit_id": unit, "item_id": item, "kind": "click", **more
    }  # fmt: skip


def test_a_batch_sent_again_is_the_same_events(api: Api) -> None:
    shown = {"arm": "popularity", "arm_version": "1", "position": 0}
    first = click("twice")
    batch = {
        "events": [
            {**first, "type": "impression", **shown} | {"kind": None},
            first,
            {**first, "ordinal": 1},
            {**first, "kind": "play", "value": 2.5},
        ]
    }
    del batch["events"][0]["kind"]
    for _ in range(3):
        answer = post(api, batch)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 4})

    def rows() -> list[tuple[str, float, int]]:
        f = feedback.c
        with api.engine.connect() as connection:
            found = connection.execute(select(f.kind, f.value, f.ordinal).where(f.unit_id == "twice"))
            return sorted(tuple(row) for row in found)

    wait_for(lambda: len(rows()) == 3)
    time.sleep(0.7)
    assert rows() == [("click", 1.0, 0), ("click", 1.0, 1), ("play", 2.5, 0)]
    with api.engine.connect() as connection:
        shown_rows = select(func.count()).where(impressions.c.unit_id == "twice")
        assert connection.scalar(shown_rows) == 1
        assert connection.scalar(select(func.count()).select_from(dead_letters)) == 0


def test_an_exposure_of_ones_own_serving_and_an_alias(api: Api) -> None:
    now = time.time_ns() // 1_000_000
    (given,) = api.client.assignments("elsewhere", experiment=NAME)
    exposure = {
        "type": "exposure", "ts": now, "unit_id": "elsewhere", "experiment": NAME, "arm": given.arm,
        "arm_version": "ours", "generation": given.generation, "phase": given.phase,
    }  # fmt: skip
    alias = {"type": "alias", "ts": now, "unit_id": "elsewhere", "anonymous_id": "cookie"}
    assert post(api, {"events": [exposure, alias]}).status_code == 202
    assert api.client.recommend("elsewhere", experiment=NAME).exposure is None, "it is known at once"

    def stored() -> tuple[int, int]:
        with api.engine.connect() as connection:
            met = select(func.count()).where(exposures.c.unit_id == "elsewhere")
            merged = select(func.count()).where(aliases.c.anonymous_id == "cookie")
            return connection.scalar(met) or 0, connection.scalar(merged) or 0

    wait_for(lambda: stored() == (1, 1))


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (click("u", kind="stare"), "events.0.feedback: kind 'stare' is not declared in armlift.toml [kinds]"),
        (click("u", value=1e300), "value 1e+300, must be 0 or 1e-100 to 1e+100 in size"),
        (click("u", ts=4_000_000_000_000), "is in the future"),
        (click("u", ts=1), "days after the request that event_id tells"),
        (click("u", request_id="x" * 32), "events.0.feedback.request_id"),
        (click("u", item="a\0b"), "events.0.feedback.item_id"),
        (click("u", event_id="1" * 32), "events.0.feedback.event_id"),
        ({"type": "glance"}, "events.0"),
        (
            {
                "type": "exposure",
                "ts": 1,
                "unit_id": "u",
                "experiment": "none",
                "arm": "a",
                "arm_version": "1",
            },
            "experiment 'none' was not started in run 'live'",
        ),
        (
            {"type": "exposure", "ts": 1, "unit_id": "u", "experiment": NAME, "arm": "a", "arm_version": "1"},
            f"arm 'a' is not in {NAME}, must be one of popularity, covisitation",
        ),
    ],
)
def test_a_bad_event_refuses_its_batch_in_one_line(api: Api, event: dict[str, object], says: str) -> None:
    answer = post(api, {"events": [event, click("refused")]})
    assert (answer.status_code, says in answer.json()["error"]["message"]) == (422, True), answer.text
    time.sleep(0.2)
    with api.engine.connect() as connection:
        assert connection.scalar(select(func.count()).where(feedback.c.unit_id == "refused")) == 0


def test_batches_are_bounded(api: Api) -> None:
    some = [click(f"many{number}") for number in range(1_001)]
    answer = post(api, {"events": some})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "1001, must be at most 1000" in answer.json()["error"]["message"]
    large = click("large", item="v" * 200, pad="p" * 2_000_000)
    assert post(api, {"events": [large]}).status_code == 413
    assert post(api, {"events": []}).status_code == 422
    assert post(api, {"run": "elsewhere", "events": some[:1]}).status_code == 422


def test_a_forgotten_unit_is_served_as_a_new_one(api: Api) -> None:
    """While the API serves and an ingester ingests, on the stream that both have open."""
    given = api.client.recommend("forgotten", experiment=NAME)
    assert given.exposure is not None
    assert api.client.recommend("forgotten", experiment=NAME).exposure is None
    assert post(api, {"events": [click("forgotten"), click("remembered")]}).status_code == 202

    def rows(unit: str) -> int:
        with api.engine.connect() as connection:
            asked = [select(func.count()).where(one.c.unit_id == unit) for one in (exposures, feedback)]
            return sum(connection.execute(one).scalar_one() for one in asked)

    wait_for(lambda: (rows("forgotten"), rows("remembered")) == (2, 1))
    words = ["forget", "forgotten", "--yes", "--json", "--lab", str(api.lab.folder)]
    done = subprocess.run(
        [sys.executable, "-c", "from armlift.cli import main; main()", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    erased = json.loads(done.stdout)["erased"]
    assert {name: erased[name] for name in ("exposures", "feedback")} == {"exposures": 1, "feedback": 1}
    assert erased["stream"] >= 2
    assert (rows("forgotten"), rows("remembered")) == (0, 1)
    wait_for(lambda: api.client.recommend("forgotten", experiment=NAME).exposure is not None)
    wait_for(lambda: rows("forgotten") == 1)
