"""Users who are played through the API of `armlift serve`, and the same users simulated in process.

    python played.py [USERS] [DAYS] [SHARE]

compares, slot by slot, what units were shown, what they did, whom that exposed, and both reports. RecGPT is a
small one, trained for a few epochs. With a share, so many requests are answered by the fallback, to rehearse.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nightly_lab import SMALLER, change
from serving_lab import NAME, begin, command, make_lab, serving, size_of
from sqlalchemy import Select, select

from armlift.lab import Lab
from armlift.replayer import NO_ARM
from armlift.store.database import open_database
from armlift.store.tables import exposures, feedback, impressions

ARMS = ("popularity", "covisitation", "recgpt")
PATIENT = {"budget_ms": 20_000}
"""An arm may take its time: here both must give the same, on a machine that does all of it at once."""


class Compared(NamedTuple):
    """What both came to: slots shown and how many of them differ, and likewise feedback and exposures.

    `by_fallback` counts what the database has of the fallback's answers: slots and exposures.
    """

    requests: int
    fallbacks: dict[str, int]
    slots: tuple[int, int]
    feedback: tuple[int, int]
    exposures: tuple[int, int]
    comparisons: tuple[int, int]
    seconds: dict[str, float]
    by_fallback: dict[str, int]


def compare(
    folder: Path, users: int, days: int, *, share: float = 0.0, arms: Sequence[str] = ARMS
) -> Compared:
    """Simulate in process, then play through the API, and compare."""
    seconds: dict[str, float] = {}
    inside, outside = (_lab(folder / name, arms, share) for name in ("inside", "outside"))
    size = ("--users", str(users), "--days", str(days))
    with _timed(seconds, "in process"):
        expected = armlift(inside, "simulate", NAME, *size)
    engine = open_database(outside, create=True)
    begin(outside, engine, size_of(users, days))
    engine.dispose()
    with command(outside, "ingest"), serving(outside) as answering, _timed(seconds, "played"):
        played = armlift(outside, "simulate", NAME, *size, "--api", answering.url)
    with _timed(seconds, "ingested after that"):
        armlift(outside, "ingest", "--once")
    # A live run goes on: it is looked at as of the last day that was simulated.
    report = armlift(outside, "report", NAME, "--as-of", expected["as_of"])
    run = expected["run"]
    by_fallback = {"slots": shown, "exposures": met}
    pairs = [(query(run), query("live")) for query in (shown, did, met)]
    found = [differing(rows(inside, one), rows(outside, other)) for one, other in pairs]
    told = [[json.dumps(line, sort_keys=True) for line in one["comparisons"]] for one in (expected, report)]
    return Compared(
        played["requests"], played["fallbacks"], found[0], found[1], found[2],
        differing(*([(line,) for line in one] for one in told)), seconds,
        {name: sum(row[-1] for row in rows(outside, query("live"))) for name, query in by_fallback.items()},
    )  # fmt: skip


def armlift(lab: Lab, *words: str) -> Any:
    """Run a command with --json, and give what it says; raises RuntimeError where it fails."""
    program = [sys.executable, "-c", "from armlift.cli import main; main()", *words]
    done = subprocess.run(
        [*program, "--lab", str(lab.folder), "--json"],
        env=os.environ, text=True, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


def shown(run: str) -> Select[Any]:
    """Select what everybody was shown by arms, slot by slot, and by which version."""
    i = impressions.c
    columns = (i.unit_id, i.ts, i.position, i.item_id, i.arm, i.arm_version, i.step, i.score, i.fallback)
    return select(*columns).where(i.run == run, i.arm != NO_ARM).order_by(*columns[:3])


def did(run: str) -> Select[Any]:
    """Select what everybody did with what arms had shown."""
    f, i = feedback.c, impressions.c
    by_arms = select(i.request_id).where(i.run == run, i.arm != NO_ARM)
    columns = (f.unit_id, f.ts, f.item_id, f.kind, f.value, f.ordinal)
    return select(*columns).where(f.run == run, f.request_id.in_(by_arms)).order_by(*columns)


def met(run: str) -> Select[Any]:
    """Select all exposures."""
    e = exposures.c
    columns = (e.unit_id, e.ts, e.experiment, e.arm, e.arm_version, e.phase, e.generation, e.fallback)
    return select(*columns).where(e.run == run).order_by(*columns[:2])


def rows(lab: Lab, query: Select[Any]) -> list[tuple[Any, ...]]:
    """Read rows of a lab's database."""
    engine = open_database(lab)
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    engine.dispose()
    return found


def differing(ours: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> tuple[int, int]:
    """Count rows, and those that only one of two has."""
    return len(ours), len({*ours} ^ {*others})


def _lab(folder: Path, arms: Sequence[str], share: float) -> Lab:
    lab = make_lab(folder, arms, serve={**PATIENT, "rehearsed_fallbacks": share})
    change(folder / "arms" / "recgpt.yaml", {**SMALLER["recgpt"], "epochs": 4})
    return lab


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - began, 1)


def main() -> None:
    """Compare, and print."""
    words = [*sys.argv[1:], *("10000", "2", "0")[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), int(words[0]), int(words[1]), share=float(words[2]))
    print(json.dumps(found._asdict(), indent=2))


if __name__ == "__main__":
    main()
