"""A log as a matrix: which pairs answer, with what, and how often."""

from dataclasses import replace
from pathlib import Path

import pytest

from armlift.asked import Asked
from armlift.logs.reader import open_log
from armlift.matrix import DenseOutcomes, Matrix, read_matrix
from armlift.splitter import Assignment

ASKED = Asked("7", 900, 0, Assignment("a", True, "range", 0, 0), False, (), {})
LOG = """user_id,video_id,time_ms,is_click,long_view,play_time_ms
7,1,100,1,0,5000
7,2,200,1,1,9000
8,2,300,0,0,0
7,3,400,0,0,250
7,2,500,0,0,1
8,10,600,0,1,2000
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return read_matrix(open_log([path]), 200)


def test_rows_from_the_time_on_make_it_each_pair_once(matrix: Matrix) -> None:
    assert (matrix.rows, len(matrix.pairs)) == (5, 4)
    assert matrix.density == 4 / 6
    assert set(matrix.items) == {"2", "3", "10"}
    places = matrix.places("7", ["3", "2", "1", "10", "none"])
    assert [place >= 0 for place in places] == [True, True, False, False, False]
    assert matrix.feedback_at(places[0]) == (("play", 0.25),)
    assert matrix.feedback_at(places[1]) == (("click", 1.0), ("long_view", 1.0), ("play", 9.0))
    assert matrix.places("nobody", ["2"]) == [-1]


def test_a_pair_answers_once_under_an_arm_at_the_time_of_the_request(matrix: Matrix) -> None:
    outcomes = DenseOutcomes(matrix)
    first = outcomes.of(ASKED, "a", ["3", "10", "2"])
    assert list(first) == ["3", "2"]
    assert first["2"].ts == 900
    assert list(outcomes.of(replace(ASKED, ts=1_000), "a", ["2"])) == []
    assert list(outcomes.of(replace(ASKED, ts=1_000), "b", ["2"])) == ["2"]
    assert list(outcomes.of(replace(ASKED, unit="8"), "a", ["2"])) == ["2"]
    assert outcomes.left_out == {"pair_not_observed": 1, "pair_met": 1, "repeat_of_pair": 1}
    assert outcomes.basis() == {
        "rows": 5, "density": 4 / 6, "asked_pairs": {"a": 5, "b": 1}, "answered_pairs": {"a": 3, "b": 1},
    }  # fmt: skip


def test_rows_without_a_time_come_last(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG + "7,10,,1,0,700\n7,3,,1,1,900\n,3,,1,1,900\n8,3,,1,1,-5\n")
    found = read_matrix(open_log([path]), 200)
    assert (found.rows, found.untimed, len(found.pairs)) == (7, 2, 5)
    own, met = found.places("7", ["10", "3"])
    assert found.feedback_at(own) == (("click", 1.0), ("play", 0.7))
    assert found.feedback_at(met) == (("play", 0.25),)
    assert DenseOutcomes(found).left_out == {"pair_without_time": 2, "repeat_of_pair": 2}


def test_no_rows_answer_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    empty = read_matrix(open_log([path]), 10_000)
    assert (empty.density, empty.places("7", ["2"])) == (0.0, [-1])
