"""What surrounds a fit."""

from pathlib import Path

from armlift.fitting import Epoch, checkpoint_file, fitting, record_figures, tell_epoch

EPOCH = Epoch("train", 1, 9, 4.2, {"NDCG@10": 0.1}, 1, {"NDCG@10": 0.1}, 0.5)


def test_whoever_surrounds_a_fit_is_told(tmp_path: Path) -> None:
    told: list[Epoch] = []
    with fitting(told.append, tmp_path) as figures:
        tell_epoch(EPOCH)
        record_figures({"NDCG@10": 0.1})
        record_figures({"epochs": 9})
        assert checkpoint_file("train") == tmp_path / "train.safetensors"
    assert told == [EPOCH]
    assert figures == {"NDCG@10": 0.1, "epochs": 9}


def test_outside_nobody_is_told_and_nothing_is_kept() -> None:
    tell_epoch(EPOCH)
    record_figures({"epochs": 9})
    assert checkpoint_file("train") is None
    with fitting() as figures:
        tell_epoch(EPOCH)
        assert checkpoint_file("train") is None
    assert figures == {}


def test_the_innermost_is_told_and_an_error_ends_it(tmp_path: Path) -> None:
    outer: list[Epoch] = []
    inner: list[Epoch] = []
    with fitting(outer.append, tmp_path):
        try:
            with fitting(inner.append):
                tell_epoch(EPOCH)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            tell_epoch(EPOCH)
        assert checkpoint_file("train") == tmp_path / "train.safetensors"
    assert (len(outer), len(inner)) == (1, 1)
