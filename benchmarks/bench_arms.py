"""The neural arms: seconds to a figure beside a plain loop's, users a second, one request, all stages.

Measured on the Beauty sequences where these are at hand, else on generated ones, which is said. With
ARMLIFT_BENCH_USERS=500 only the first 500 units are used: a trial of the benchmark, not a measurement.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from figures import Figure, alternating, show
from padded_softmax import PaddedLoop, Reached, Training, best_loop

from armlift.arm import Arm, Request
from armlift.evaluation import BATCH, evaluate
from armlift.fitting import Epoch, fitting
from armlift.sequences import HELD_OUT, SplitData, read_sequences
from armlift_arms.covisitation import Covisitation, CovisitationConfig
from armlift_arms.loop import CUTOFF, Recipe, run
from armlift_arms.recgpt import RecGpt, RecGptConfig
from armlift_arms.sasrec import DecoderConfig, SasRec
from armlift_arms.windows import Sequences, split

BEAUTY = Path(__file__).resolve().parents[2] / "shared" / "data" / "seq" / "Beauty.txt"
USERS = "ARMLIFT_BENCH_USERS"
KIND = "click"
K = 20
NDCG = f"NDCG@{CUTOFF}"

SASREC_BAR = 0.070
"""Validation NDCG@10 on Beauty at which sasrec has about .053 on the test split, its figure."""
RECGPT_BAR = 0.060
"""Test NDCG@10 on Beauty that recgpt must have at least."""
OTHER_BAR = 0.9
"""On other data the bar is this share of the best NDCG@10 of sasrec's first `Bounds.epochs`."""

TIMES = 8
TRAINING_SECONDS = 720
USERS_A_SECOND = 3000
REQUEST_MS = 5

_CHECKS = 4  # how often the plain loop is validated in the time that sasrec takes to the bar


class Bounds(NamedTuple):
    """How long things may take.

    The plain loop is tried for `trial_seconds` with each batch size, and stops at `giving_up` times sasrec's
    seconds or at `longest`.
    """

    trial_seconds: float = 60.0
    giving_up: float = 10.0
    longest: float = 1200.0
    epochs: int = 10
    passes: int = 3
    requests: int = 200


class Bars(NamedTuple):
    """The figures to be reached on some data; None where there is none."""

    data: str
    sasrec: float | None
    recgpt: float | None


def main() -> None:
    """Measure and print."""
    users = int(os.environ.get(USERS, "0"))
    with tempfile.TemporaryDirectory() as folder:
        data, bars = open_data(Path(folder), users)
        print(f"data: {bars.data}, {data.tested} units, {len(data.items)} items", flush=True)
        show(measure(data, bars, Bounds(trial_seconds=3.0, epochs=5) if users else Bounds()))


def measure(data: SplitData, bars: Bars, bounds: Bounds, **changes: int) -> list[Figure]:
    """Measure one thing after another; `changes` are made to the stock definitions, for trials."""
    sasrec = SasRec(DecoderConfig.model_validate({"name": "sasrec", "model": "sasrec"} | changes))
    recgpt = RecGpt(RecGptConfig.model_validate({"name": "recgpt", "model": "recgpt"} | changes))
    race = race_of(sasrec.config, data, bars.sasrec, bounds)
    fits = fits_of(recgpt, data, bars.recgpt, race)
    # How fast it answers does not depend on how well it was trained.
    short = SasRec(sasrec.config.model_copy(update={"epochs": 1}))
    _fit(short, data)
    return [race, *fits, *answers_of(recgpt, short, data, bounds)]


def open_data(folder: Path, users: int) -> tuple[SplitData, Bars]:
    """Read Beauty or else generated sequences, the first `users` of them where that is not 0."""
    path, bars = BEAUTY, Bars("Beauty", SASREC_BAR, RECGPT_BAR)
    if not path.exists():
        path = folder / "walks.txt"
        write_walks(path)
        bars = Bars("generated walks (Beauty is not at hand)", None, None)
    if users:
        with path.open(encoding="utf-8") as lines:
            few = "".join(islice(lines, users))
        path = folder / "few.txt"
        path.write_text(few, encoding="utf-8")
        bars = Bars(f"{bars.data}, the first {users} units", None, None)
    return SplitData(read_sequences(path), "test", KIND), bars


def write_walks(path: Path, *, units: int = 22_363, items: int = 12_101, seed: int = 0) -> None:
    """Write sequences of a Markov chain, of about as many units, items and behaviours as Beauty has.

    An item has 8 successors, drawn by popularity (Zipf's law, exponent .8) once for all. A walk goes on to
    one of them in 3 of 10 steps, else to any item by popularity; it meets no item twice, and has 5 items and
    a geometric number, 4 on average, more.
    """
    random = np.random.default_rng(seed)
    shares = np.cumsum(np.arange(1, items + 1) ** -0.8)

    def popular(size: int) -> list[int]:
        drawn: list[int] = np.searchsorted(shares, random.uniform(0, shares[-1], size)).tolist()
        return drawn

    successors = np.array(popular(items * 8)).reshape(items, 8).tolist()
    with path.open("w", encoding="utf-8") as file:
        for unit, length in enumerate((4 + random.geometric(0.2, units)).tolist()):
            walk = popular(1)
            while len(walk) < min(length, items // 2):
                follows = random.random() < 0.3
                item = successors[walk[-1]][int(random.integers(8))] if follows else popular(1)[0]
                if item not in walk:
                    walk.append(item)
            file.write(f"{unit + 1} {' '.join(map(str, walk))}\n")


def race_of(config: DecoderConfig, data: SplitData, bar: float | None, bounds: Bounds) -> Figure:
    """Time how long sasrec and the plain loop take to a validation NDCG@10, on the same held-out rows."""
    training = training_of(config, data)
    ours, bar = sasrec_to(config, training, bar, bounds.epochs)
    print(f"sasrec: {NDCG} {ours.ndcg:.4f} after {ours.seconds:.1f} s, the bar is {bar:.4f}", flush=True)
    loop = best_loop(training, bounds.trial_seconds, {1, torch.get_num_threads()})
    print(f"{loop.name}: the best of {bounds.trial_seconds:g} s each", flush=True)
    most = min(bounds.giving_up * ours.seconds, bounds.longest)
    theirs = loop_to(loop, bar, most, every=ours.seconds / _CHECKS)
    ratio = theirs.seconds / ours.seconds
    reached = ours.ndcg >= bar
    late = "" if theirs.ndcg >= bar else f", still at {theirs.ndcg:.4f} when stopped"
    return Figure(
        f"sasrec to {NDCG} {bar:.4f}",
        ours.seconds,
        "s" if reached else "s, not reached",
        loop.name + late,
        theirs.seconds,
        ratio,
        f">= {TIMES} x",
        reached and ratio >= TIMES,
    )


def training_of(config: DecoderConfig, data: SplitData) -> Training:
    """Cut the data as sasrec does."""
    kept = np.diff(data.sequences.starts) - HELD_OUT[data.split]
    starts = data.sequences.starts[:-1]
    parts = [
        data.sequences.codes[start : start + size]
        for start, size in zip(starts.tolist(), kept.tolist(), strict=True)
        if size > 0
    ]
    ends = np.cumsum([0, *map(len, parts)])
    sequences = Sequences(np.concatenate(parts), ends.astype(np.int64))
    cut = split(sequences, config.length, config.validation_share)
    shape = config.shape(len(data.items))
    return Training(shape, sequences, cut, config.learning_rate, config.negatives, config.seed)


class _Enough(Exception):  # noqa: N818 (it is no error)
    """Ends a training that has reached what it is timed for."""


def sasrec_to(
    config: DecoderConfig, training: Training, bar: float | None, epochs: int
) -> tuple[Reached, float]:
    """Train sasrec to the bar, validation included in its time; gives when it was reached, and the bar.

    Without a bar, `epochs` are run, and a share of the best is the bar. Where it is not reached, the last
    epoch tells how far it came.
    """
    points: list[Reached] = []
    start = time.perf_counter()

    def tell(epoch: Epoch) -> None:
        points.append(Reached(time.perf_counter() - start, epoch.figures[NDCG]))
        if bar is not None and points[-1].ndcg >= bar:
            raise _Enough

    recipe = Recipe(**config.model_dump(include=set(Recipe._fields)))
    with fitting(tell), suppress(_Enough):
        run(training.task(), recipe if bar is not None else recipe._replace(epochs=epochs), "train")
    bar = max(point.ndcg for point in points) * OTHER_BAR if bar is None else bar
    return next((point for point in points if point.ndcg >= bar), points[-1]), bar


def loop_to(loop: PaddedLoop, bar: float, most: float, every: float) -> Reached:
    """Train the plain loop on to the bar, or for `most` seconds in all; validate it after each `every`."""
    reached = loop.validate()
    while reached.ndcg < bar and loop.seconds < most:
        loop.train(every)
        reached = loop.validate()
    return reached


def fits_of(recgpt: RecGpt, data: SplitData, bar: float | None, race: Figure) -> list[Figure]:
    """Time all stages of recgpt's training, and rank what it was not shown."""
    seconds = _fit(recgpt, data)
    control = Covisitation(CovisitationConfig(name="covisitation", model="covisitation"))
    _fit(control, data)
    ndcg, theirs = (evaluate(arm, data).metrics[NDCG] for arm in (recgpt, control))
    good = bar is None or ndcg >= bar
    goal = "" if bar is None else f" at test {NDCG} >= {bar:.3f}"
    return [
        Figure(
            "recgpt, all stages of training",
            seconds,
            "s",
            race.bench,
            race.value,
            race.value / seconds,
            f"<= {TRAINING_SECONDS} s{goal}",
            good and seconds <= TRAINING_SECONDS,
        ),
        Figure(
            f"recgpt, test {NDCG}",
            ndcg,
            NDCG,
            "covisitation",
            theirs,
            ndcg / theirs if theirs else None,
            "none on these data" if bar is None else f">= {bar:.3f}",
            good,
        ),
    ]


def _fit(arm: Arm, data: SplitData) -> float:
    start = time.perf_counter()
    arm.fit(data.histories(), data.items, until=data.until)
    return time.perf_counter() - start


def answers_of(recgpt: Arm, sasrec: Arm, data: SplitData, bounds: Bounds) -> list[Figure]:
    """Time how all units are answered, a batch at a time, and how one request is."""
    asked = [
        Request(history.unit, history.unit, len(history.behaviours), K, history.behaviours)
        for history in data.histories()
    ]
    ours_s, theirs_s = alternating(
        lambda: _answer_all(recgpt, asked), lambda: _answer_all(sasrec, asked), runs=bounds.passes
    )
    ours, theirs = len(asked) / ours_s, len(asked) / theirs_s
    some = asked[:: max(1, len(asked) // bounds.requests)]
    one, other = _one_ms(recgpt, sasrec, some)
    return [
        Figure(
            f"recgpt, all units, k = {K}",
            ours,
            "users/s",
            "sasrec",
            theirs,
            ours / theirs,
            f">= {USERS_A_SECOND:,}/s",
            ours >= USERS_A_SECOND,
        ),
        _request("recgpt", one, "sasrec", other),
        _request("sasrec", other, "recgpt", one),
    ]


def _request(name: str, ms: float, reference: str, reference_ms: float) -> Figure:
    return Figure(
        f"{name}, one request",
        ms,
        "ms",
        reference,
        reference_ms,
        reference_ms / ms,
        f"<= {REQUEST_MS} ms",
        ms <= REQUEST_MS,
    )


def _answer_all(arm: Arm, asked: Sequence[Request]) -> None:
    for start in range(0, len(asked), BATCH):
        arm.recommend(asked[start : start + BATCH])


def _one_ms(first: Arm, second: Arm, asked: Sequence[Request]) -> tuple[float, float]:
    """Give the median milliseconds of one request to each of two arms, which take turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for request in asked:
        for times, arm in zip(taken, (first, second), strict=True):
            start = time.perf_counter()
            arm.recommend([request])
            times.append(time.perf_counter() - start)
    return statistics.median(taken[0]) * 1000, statistics.median(taken[1]) * 1000


if __name__ == "__main__":
    main()
