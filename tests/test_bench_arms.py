"""The benchmark of the arms runs to its end on little data; what it measures there says nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bench_arms import Bars, Bounds, loop_to, measure, training_of, write_walks
from padded_softmax import PaddedLoop, best_loop

from armlift.sequences import SplitData, read_sequences
from armlift_arms.sasrec import DecoderConfig

SMALL = {"dim": 8, "negatives": 16, "epochs": 2, "patience": 1, "learning_rate": 0.01}


@pytest.fixture
def data(tmp_path: Path) -> SplitData:
    write_walks(tmp_path / "walks.txt", units=80, items=60)
    return SplitData(read_sequences(tmp_path / "walks.txt"), "test", "click")


def config(**changes: float) -> DecoderConfig:
    return DecoderConfig.model_validate({"name": "sasrec", "model": "sasrec"} | SMALL | changes)


def test_walks_are_like_beauty(data: SplitData) -> None:
    sizes = np.diff(data.sequences.starts)
    assert len(sizes) == 80
    assert sizes.min() >= 5
    assert 7.5 < sizes.mean() < 10.5
    for history in data.sequences.histories("click"):
        assert len({behaviour.item for behaviour in history.behaviours}) == len(history.behaviours)


def test_every_figure_is_measured(data: SplitData) -> None:
    bounds = Bounds(trial_seconds=0.02, longest=0.2, epochs=2, passes=1, requests=4)
    figures = measure(data, Bars("walks", None, None), bounds, dim=8, negatives=16, epochs=1, patience=1)
    assert [figure.bench.split(",")[0] for figure in figures][1:] == [
        "recgpt",
        "recgpt",
        "recgpt",
        "recgpt",
        "sasrec",
    ]
    assert figures[0].bench.startswith("sasrec to NDCG@10")
    assert figures[0].reference.startswith("padded full softmax")
    assert all(figure.value > 0 for figure in figures if figure.unit != "NDCG@10")


def test_the_plain_loop_learns_and_its_clock_stops_while_it_is_validated(data: SplitData) -> None:
    training = training_of(config(dropout=0.0, item_dropout=0.0), data)
    loop = PaddedLoop(training, 16, torch.get_num_threads())
    before = loop.validate()
    assert before.seconds == 0
    loop.train(0.5)
    clock = loop.seconds
    assert loop.validate().seconds == loop.seconds == clock >= 0.5
    assert loop.validate().ndcg > before.ndcg


def test_the_plain_loop_sees_every_target_once_an_epoch(data: SplitData) -> None:
    training = training_of(config(), data)
    windows = training.cut.windows
    loop = PaddedLoop(training, len(windows), 1)
    assert loop.train(0.0) == int((windows[:, 1] - windows[:, 0] - 1).sum())


def test_what_is_chosen_goes_on_from_its_trial(data: SplitData) -> None:
    loop = best_loop(training_of(config(), data), 0.02, {1})
    clock = loop.seconds
    assert clock >= 0.02
    reached = loop_to(loop, bar=2.0, most=clock + 0.02, every=0.01)
    assert reached.seconds >= clock + 0.02
    assert reached.ndcg < 2.0
