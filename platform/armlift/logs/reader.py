"""Open a log of impressions: one pass that tells what it is, and its rows in time order, as often as wanted.

Rows come by time, then user, then video (ids as numbers), then the remaining columns: one order, whatever the
order of files and rows and the size of batches. Memory is flat in the length of the log.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from armlift.errors import InputError
from armlift.logs import kuairand, kuairec
from armlift.logs.csvfile import read_header, shorten
from armlift.logs.layout import BLANK_TIME, ITEM, TS, USER, Layout
from armlift.logs.log import LogBatch
from armlift.logs.survey import LogFile, Survey, raw_frames, untimed_rows, usable_frames
from armlift.logs.timesort import bucket_bounds, regroup, settle, sort_externally

FORMATS = (kuairand.FORMAT, kuairec.FORMAT)
DUPLICATE = "duplicate"
"""The reason under which rows that equal an earlier one in every column are dropped."""


class Log:
    """A log that was read once, by `open_log`, and gives its rows in time order.

    `dropped` counts the rows left out by reason: dirty rows from the start, duplicates as `batches` meets
    them. `noted` counts oddities of rows that are kept, likewise. Both are complete at the end of an
    iteration, and begin anew with the next. `ignored` names the columns that the format does not know.
    """

    def __init__(
        self, files: Sequence[LogFile], survey: Survey, batch_rows: int, temporary: Path | None
    ) -> None:
        self.summary = survey.summary(files)
        self.ignored = survey.layout.extra
        self.dropped: dict[str, int] = dict(survey.dirty)
        self.noted: dict[str, int] = {}
        self._files = files
        self._survey = survey
        self._batch_rows = batch_rows
        self._temporary = temporary

    def batches(self) -> Iterator[LogBatch]:
        """Give the rows in time order in batches of about `batch_rows`; rows of one time share a batch.

        Raises InputError if a file has changed so that it cannot be read any more.
        """
        layout = self._survey.layout
        dropped, noted = Counter(self._survey.dirty), Counter[str]()
        self.dropped, self.noted = dropped, noted
        for group in regroup(self._in_time_order(), self._batch_rows):
            frame = settle(group, layout.order)
            if len(frame) < len(group):
                dropped[DUPLICATE] += len(group) - len(frame)
            noted.update(_count(frame, layout.oddities))
            yield _batch(frame, layout)

    def untimed(self) -> Iterator[LogBatch]:
        """Give the rows that lack their time and nothing else, in one batch; their `ts` is -1.

        `batches` drops them. Of KuaiRec's small matrix they are what users were shown by force, in the end,
        so that every pair was observed (its issue 1).
        """
        layout = self._survey.layout
        if not self._survey.dirty.get(BLANK_TIME):
            return
        frames = [untimed_rows(frame, layout) for frame in raw_frames(self._files)]
        yield _batch(settle(pl.concat(frames), layout.order), layout)

    def _in_time_order(self) -> Iterator[pl.DataFrame]:
        layout = self._survey.layout
        chain = self._survey.chain()
        if chain is not None:
            return usable_frames([self._files[index] for index in chain], layout)
        bounds = bucket_bounds(self._survey.hours)
        return sort_externally(usable_frames(self._files, layout), bounds, self._temporary)


def open_log(paths: Sequence[Path], *, batch_rows: int = 16_384, temporary: Path | None = None) -> Log:
    """Open the files of one log: recognise the format by the header and read everything once.

    All files must have the same columns (in any order). `batch_rows` is the size of batches, `temporary` the
    folder for sorting what is not in time order (about as large as the files, packed; default: the system's).
    Raises InputError for a file that is missing, empty, not a log, or has a line that cannot be read.
    """
    if not paths:
        raise InputError("log: no file is given, must be one or more CSV files")
    if batch_rows < 1:
        raise InputError(f"batch_rows: {batch_rows} is too small, must be 1 or more")
    if temporary is not None and not temporary.is_dir():
        raise InputError(f"{temporary}: no such folder, sorting needs one for its temporary files")
    files = [_recognise(path) for path in paths]
    for file in files[1:]:
        _check_alike(files[0], file)
    survey = Survey(files[0].layout)
    for file in files:
        survey.take(file)
    return Log(files, survey, batch_rows, temporary)


def _recognise(path: Path) -> LogFile:
    """Find the format of a file by its header; raises InputError that says what a log must have."""
    header = read_header(path)
    found = max(FORMATS, key=lambda known: len(known.marks & set(header)))
    if not found.marks & set(header):
        raise InputError(
            f"{path}: line 1: {shorten(','.join(header))} is not the header of a log, must have "
            + " or ".join(f"({known.name}) {known.needs}" for known in FORMATS)
        )
    if (missing := found.missing(header)) is not None:
        raise InputError(
            f"{path}: line 1: column {missing} is missing, a {found.name} log must have {found.needs}"
        )
    return LogFile(path, found.layout(header))


def _check_alike(first: LogFile, file: LogFile) -> None:
    if file.layout.format != first.layout.format:
        raise InputError(
            f"{file.path}: is a {file.layout.format} log and {first.path} a {first.layout.format} log, "
            "the files of one log must have one format"
        )
    if odd := sorted(file.layout.columns.keys() ^ first.layout.columns.keys()):
        raise InputError(
            f"{file.path}: line 1: only this file or only {first.path} has the columns {', '.join(odd)}; "
            "the files of one log must have the same columns"
        )


def _count(frame: pl.DataFrame, oddities: Mapping[str, pl.Expr]) -> dict[str, int]:
    counts = {name: int(frame.select(odd.sum()).item()) for name, odd in oddities.items()}
    return {name: count for name, count in counts.items() if count}


def _batch(frame: pl.DataFrame, layout: Layout) -> LogBatch:
    feedback = frame.select(value.alias(kind) for kind, value in layout.feedback.items())
    length = None if layout.duration is None else frame.select(layout.duration).to_series()
    return LogBatch(
        units=frame[USER].cast(pl.String).to_list(),
        items=frame[ITEM].cast(pl.String).to_list(),
        ts=frame[TS].to_numpy(),
        feedback={kind: feedback[kind].to_numpy() for kind in layout.feedback},
        random=None if layout.random is None else frame.select(layout.random).to_series().to_numpy(),
        duration=None if length is None else length.cast(pl.Float64).fill_null(float("nan")).to_numpy(),
    )
