"""Readiness: what is amiss is said with the commands that help, and goes away once they were given."""

from pathlib import Path

import httpx
from serving_lab import NAME, begin, make_lab, serving, size_of, wait_for

from armlift.store.database import open_database


def test_a_lab_that_cannot_answer_says_what_to_do(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab")
    engine = open_database(lab, create=True)
    with serving(lab) as answering:

        def ready() -> dict[str, object]:
            answer = httpx.get(f"{answering.url}/readyz", trust_env=False)
            assert answer.status_code == 200
            found: dict[str, object] = answer.json()
            return found

        lines = (
            "no experiment was started; `armlift experiment start NAME` starts one",
            "arm popularity: has no promoted version in scope *; `armlift train popularity --log FILE "
            "--until TIME` makes one, `armlift arm promote popularity --version V` promotes it; "
            "`armlift nightly` does both",
        )
        assert ready() == {"status": "degraded", "reasons": [*lines]}
        answer = httpx.post(
            f"{answering.url}/v1/recommend", json={"unit_id": "u", "experiment": NAME}, trust_env=False
        )
        assert answer.status_code == 404
        begin(lab, engine, size_of(60, 1))
        wait_for(lambda: ready() == {"status": "ok", "reasons": []})
    engine.dispose()
