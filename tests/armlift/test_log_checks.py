"""Checks of the log behind a replay, from what a run counted."""

import pytest

from armlift.log_checks import answered_pairs, random_exposure
from armlift.runs import Run

RUN = Run("r", 1, "e", "rerank", False, 1, 0, "finished", False, {}, {"a": "1", "b": "2"}, {}, {}, {})


def run_of(mode: str, **counted: object) -> Run:
    return RUN._replace(mode=mode, resolution=counted)


@pytest.mark.parametrize(
    ("mode", "rows", "random", "status", "said"),
    [
        ("rerank", 10, 10, "ok", "all replayed rows were shown uniformly at random"),
        ("match", 10, 9, "warn", "90.0% of the replayed rows were shown at random"),
        ("match", 10, None, "warn", "the log does not say which rows were shown at random"),
        ("rerank", 0, 0, "warn", "the log does not say"),
        ("simulate", 10, 10, "ok", "the lift is the model's, not the log's"),
        ("simulate", 10, 0, "warn", "0.0% of the rows the model was fitted on were shown at random"),
        ("dense", 10, None, "not_applicable", "whatever its policy showed"),
        ("live", 0, None, "not_applicable", "the splitter chose"),
        ("imported", 0, None, "not_applicable", "no log was replayed"),
    ],
)
def test_random_exposure(mode: str, rows: int, random: int | None, status: str, said: str) -> None:
    check = random_exposure(run_of(mode, rows=rows, random_rows=random))
    assert check.status == status
    assert said in check.meaning


@pytest.mark.parametrize(("answered", "status"), [(90, "ok"), (89, "warn"), (0, "warn")])
def test_answered_pairs_of_the_arm_that_is_answered_least(answered: int, status: str) -> None:
    counted = {"asked_pairs": {"a": 100, "b": 200}, "answered_pairs": {"a": answered, "b": 200}}
    if not answered:
        counted["answered_pairs"].pop("a")
    (check,) = answered_pairs(run_of("dense", **counted))
    assert (check.status, check.value) == (status, answered / 100)
    assert f"{answered}.0% of the pairs that a asked for" in check.meaning


def test_no_pairs_were_asked() -> None:
    (check,) = answered_pairs(run_of("dense", asked_pairs={"a": 3}, answered_pairs={"a": 3}))
    assert (check.status, check.value) == ("no_data", None)
    assert answered_pairs(run_of("match")) == []
