from pathlib import Path

import pytest

from armlift.logs import kuairand
from armlift.logs.survey import Extent, LogFile, Survey

HEADER = "user_id,video_id,time_ms,is_click"


def survey_of(folder: Path, *times: list[int]) -> Survey:
    layout = kuairand.layout(HEADER.split(","))
    survey = Survey(layout)
    for index, part in enumerate(times):
        path = folder / f"{index}.csv"
        path.write_text("\n".join([HEADER, *(f"1,2,{ts},{0 if ts >= 0 else 9}" for ts in part)]))
        survey.take(LogFile(path, layout))
    return survey


@pytest.mark.parametrize(
    ("times", "chain"),
    [
        ([[1, 2, 2, 5]], [0]),
        ([[2, 1]], None),
        ([[5, 6], [1, 5]], [1, 0]),
        ([[5, 6], [1, 5], [6, 6], [5, 5]], [1, 3, 0, 2]),
        ([[1, 6], [5, 7]], None),
        ([[5, 6], [2, 1]], None),
        ([[5, 6], [-1], [1, 2]], [2, 0]),
        ([[5, -1, 6]], [0]),
    ],
)
def test_files_that_need_no_sorting_are_chained(
    tmp_path: Path, times: list[list[int]], chain: list[int] | None
) -> None:
    assert survey_of(tmp_path, *times).chain() == chain


def test_extents_and_hours_are_of_usable_rows(tmp_path: Path) -> None:
    survey = survey_of(tmp_path, [3_600_000, 7, -1, 8])
    assert survey.extents == [Extent(7, 3_600_000, ordered=False)]
    assert survey.hours == {0: 2, 1: 1}
    assert (survey.rows, survey.dirty) == (4, {"bad_time": 1})
