"""Frames of log rows brought into time order with flat memory.

A *time group* is all rows of one millisecond. Files that are in time order are only cut into batches of whole
time groups. Others go through an external bucket sort: each block of rows is scattered over files, one a
range of whole hours, and the files are read back one after the other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from armlift.logs.layout import TS

HOUR_MS = 3_600_000
BUCKET_ROWS = 1 << 17
_SIZE_BYTES = 8


def tally_hours(frame: pl.DataFrame) -> dict[int, int]:
    """Count rows by hour (hours since the epoch)."""
    hours, counts = np.unique(frame[TS].to_numpy() // HOUR_MS, return_counts=True)
    return dict(zip(hours.tolist(), counts.tolist(), strict=True))


def bucket_bounds(tally: Mapping[int, int], rows: int = BUCKET_ROWS) -> list[int]:
    """Cut time into buckets of about `rows` rows, each of whole hours.

    `tally` counts rows by hour. Returns the first millisecond of every bucket but the first.
    """
    bounds: list[int] = []
    filled = 0
    for hour in sorted(tally):
        if filled >= rows:
            bounds.append(hour * HOUR_MS)
            filled = 0
        filled += tally[hour]
    return bounds


def sort_externally(
    frames: Iterable[pl.DataFrame], bounds: Sequence[int], temporary: Path | None
) -> Iterator[pl.DataFrame]:
    """Bring frames of any order into time order: one frame a bucket, sorted by `TS`.

    Memory holds one incoming frame or one bucket. The rest lies in a folder inside `temporary` (default: the
    system's), which is removed at the end, also when the caller stops early. Nothing is written if all rows
    make one bucket.
    """
    if not bounds:
        yield from (pl.concat(held).sort(TS) for held in [list(frames)] if held)
        return
    with TemporaryDirectory(prefix="armlift-log-", dir=temporary) as folder:
        buckets = [Path(folder) / str(index) for index in range(len(bounds) + 1)]
        for frame in frames:
            _scatter(frame.sort(TS), bounds, buckets)
        for bucket in buckets:
            if bucket.exists():
                yield pl.concat(_gather(bucket)).sort(TS)
                bucket.unlink()


def regroup(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Cut frames in time order into frames of whole time groups with `rows` rows or the few more it takes."""
    held: pl.DataFrame | None = None
    for frame in frames:
        held = frame if held is None else pl.concat([held, frame], rechunk=True)
        ts = held[TS].to_numpy()
        start = 0
        while len(ts) - start > rows:
            stop = int(np.searchsorted(ts, ts[start + rows - 1], side="right"))
            # The group at the end may go on in the next frame.
            if stop == len(ts):
                break
            yield held[start:stop]
            start = stop
        held = held[start:]
    if held is not None and len(held):
        yield held


def settle(frame: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """Sort whole time groups by the columns `order` (all of them) and keep one of each set of equal rows."""
    return frame.sort(order).unique(maintain_order=True)


def _scatter(frame: pl.DataFrame, bounds: Sequence[int], buckets: Sequence[Path]) -> None:
    """Append the rows of each bucket to its file as one Arrow stream, led by its length."""
    cuts = np.searchsorted(frame[TS].to_numpy(), bounds).tolist()
    for start, stop, bucket in zip([0, *cuts], [*cuts, len(frame)], buckets, strict=True):
        if start == stop:
            continue
        stream = BytesIO()
        frame[start:stop].write_ipc_stream(stream, compression="lz4")
        with bucket.open("ab") as file:
            file.write(stream.tell().to_bytes(_SIZE_BYTES, "little"))
            file.write(stream.getbuffer())


def _gather(bucket: Path) -> list[pl.DataFrame]:
    frames: list[pl.DataFrame] = []
    with bucket.open("rb") as file:
        while size := file.read(_SIZE_BYTES):
            frames.append(pl.read_ipc_stream(BytesIO(file.read(int.from_bytes(size, "little")))))
    return frames
