"""Does a replay's interval hold the truth? Generated logs with a planted lift, replayed one by one.

An arm that has learned which videos are planted (their click probability is higher) meets a random one. The
generator says each row's true click probability, so the true value of an arm is known without the noise of
clicks: it is averaged over all logs of random exposure together. Each log is small, has users of its own, and
shares the catalogue.
"""

import csv
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine, select

from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.predictions import Predicted
from armlift.replay import replay
from armlift.replayer import Mode, ReplayOptions
from armlift.report import make_report
from armlift.runs import Run
from armlift.store.database import open_database
from armlift.store.tables import impressions
from armlift.streams.embedded import EmbeddedStream
from armlift.training import Trainer

LOG: dict[str, object] = {
    "users": 160,
    "videos": 120,
    "days": 2,
    "sessions_per_day": 2.0,
    "rows_per_session": 6.0,
    "planted_lift": 0.6,
    "taste_drift": 0.0,
    "random_share": 1.0,
}
EXPERIMENT = """
name: truth
arms: {{popularity: 1, random: 1}}
control: random
metrics: {{primary: [click_rate]}}
replay: {{train_until: 2022-04-08, versions: {{popularity: {popularity}, random: {random}}}}}
"""
OPTIONS: dict[str, tuple[Mode, bool, int]] = {
    "rerank": ("rerank", False, 2),
    "rerank paired": ("rerank", True, 2),
    "match": ("match", False, 30),
    "match paired": ("match", True, 30),
}
Truth = dict[tuple[str, str, int], float]


class Coverage(NamedTuple):
    """How often intervals held the true lift, and the mean estimate, over `logs` logs."""

    name: str
    logs: int
    truth: float
    mean_lift: float
    covered: float

    @property
    def error(self) -> float:
        """Give the Monte-Carlo standard error of a coverage of 95 %."""
        return math.sqrt(0.95 * 0.05 / self.logs)


class _Tally:
    """Sums of true click probabilities by arm, and the intervals seen."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {"popularity": [0.0, 0.0], "random": [0.0, 0.0]}
        self.seen: list[tuple[float, float, float]] = []

    def true_lift(self) -> float:
        (new, n), (old, m) = self.sums["popularity"], self.sums["random"]
        return (new / n) / (old / m) - 1

    def coverage(self, name: str, truth: float) -> Coverage:
        inside = [low <= truth <= high for _, low, high in self.seen]
        mean = sum(lift for lift, _, _ in self.seen) / len(self.seen)
        return Coverage(name, len(inside), truth, mean, sum(inside) / len(inside))


def measure(folder: Path, logs: int, *, biased: bool = True) -> list[Coverage]:
    """Replay `logs` logs of random exposure in every mode; with `biased` as many of a logging policy's.

    The latter are held against the truth under random exposure, which they cannot see.
    """
    lab = _lab(folder)
    fair = {name: _Tally() for name in OPTIONS}
    for log, truth in _logs(folder, logs, LOG):
        for name in OPTIONS:
            _replay(lab, log, truth, name, fair[name])
    found = [tally.coverage(f"{name}, random exposure", tally.true_lift()) for name, tally in fair.items()]
    if biased:
        unfair = {name: _Tally() for name in ("rerank paired", "match paired")}
        for log, truth in _logs(folder, logs, {**LOG, "random_share": 0.0}):
            for name in unfair:
                _replay(lab, log, truth, name, unfair[name])
        found += [
            tally.coverage(f"{name}, logged policy's exposure", fair[name].true_lift())
            for name, tally in unfair.items()
        ]
    return found


def predicted(folder: Path, logs: int, names: Collection[str] = tuple(OPTIONS)) -> dict[str, list[Predicted]]:
    """Replay `logs` logs of random exposure, and give what their reports hold against the observed lift."""
    lab = _lab(folder)
    found: dict[str, list[Predicted]] = {name: [] for name in names}
    for log, _ in _logs(folder, logs, LOG):
        for name in names:
            engine = open_database(lab)
            found[name] += make_report(engine, _run(lab, engine, log, name), lab.calendar).predicted
            engine.dispose()
    return found


def _lab(folder: Path) -> Lab:
    """Make a lab whose arms were trained on a log of earlier days and other users."""
    init_lab(folder / "lab")
    (folder / "lab" / "experiments" / "baselines.yaml").unlink()
    lab = Lab(folder / "lab")
    log = folder / "training.csv"
    settings = {**LOG, "users": 2000, "first_day": "2022-04-01", "seed": 10_000}
    generate(GeneratorSettings.model_validate(settings), log)
    trainer = Trainer(lab, open_database(lab, create=True), open_log([log]), lab.calendar.parse("2022-04-08"))
    versions = {name: trainer.arm(lab.arm(name)).version for name in ("popularity", "random")}
    trainer.close()
    (lab.folder / "experiments" / "truth.yaml").write_text(EXPERIMENT.format(**versions))
    return lab


def _logs(folder: Path, logs: int, settings: dict[str, object]) -> Iterator[tuple[Path, Truth]]:
    for seed in range(logs):
        log, truth = folder / "log.csv", folder / "truth.csv"
        generate(GeneratorSettings.model_validate({**settings, "seed": seed}), log, truth=truth)
        with log.open() as rows, truth.open() as chances:
            yield (
                log,
                {
                    (row["user_id"], row["video_id"], int(row["time_ms"])): float(chance["p_click"])
                    for row, chance in zip(csv.DictReader(rows), csv.DictReader(chances), strict=True)
                },
            )


def _run(lab: Lab, engine: Engine, log: Path, name: str) -> Run:
    mode, paired, k = OPTIONS[name]
    with EmbeddedStream(lab.folder / "stream") as stream:
        options = ReplayOptions(mode, paired, k, 0)
        return replay(lab, lab.experiment("truth"), open_log([log]), engine, stream, options)


def _replay(lab: Lab, log: Path, truth: Truth, name: str, tally: _Tally) -> None:
    engine = open_database(lab)
    run = _run(lab, engine, log, name)
    (one,) = make_report(engine, run, lab.calendar).comparisons
    assert one.status == "ok", one
    assert one.lift is not None
    assert one.lift_low is not None
    assert one.lift_high is not None
    tally.seen.append((one.lift, one.lift_low, one.lift_high))
    i = impressions.c
    with engine.connect() as connection:
        for arm, unit, item, ts in connection.execute(
            select(i.arm, i.unit_id, i.item_id, i.ts).where(i.run == run.run)
        ):
            tally.sums[arm][0] += truth[unit, item, ts]
            tally.sums[arm][1] += 1
    engine.dispose()
