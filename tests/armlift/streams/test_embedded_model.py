"""The embedded stream equals plain lists under any order of operations."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from armlift.streams.embedded import EmbeddedStream
from armlift.streams.stream import Partition, Record, partition_of


class Model:
    """The embedded stream beside the plain lists it must equal."""

    def __init__(self, folder: Path, segment_bytes: int, buffer_bytes: int) -> None:
        self.folder, self.sizes = folder, (segment_bytes, buffer_bytes)
        self.lists: list[list[tuple[str, bytes]]] = [[], []]
        self.next = [0, 0]
        self.open()

    def open(self) -> None:
        segment_bytes, buffer_bytes = self.sizes
        self.stream = EmbeddedStream(
            self.folder, 2, segment_bytes=segment_bytes, buffer_bytes=buffer_bytes, claim_seconds=0
        )
        self.stream.subscribe("model", self.assign, lambda _: None)
        assert self.stream.poll(1, 0) == []

    def assign(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            self.stream.seek(partition, len(self.lists[partition]))

    def publish(self, unit: int, size: int) -> None:
        pair = (f"unit-{unit}", bytes([unit]) * size)
        self.stream.publish(*pair)
        self.lists[partition_of(pair[0], 2)].append(pair)

    def flush(self) -> None:
        self.stream.flush()
        assert self.stream.end_offsets() == {part: len(pairs) for part, pairs in enumerate(self.lists)}

    def reopen(self) -> None:
        self.stream.close()
        self.open()

    def read(self, starts: tuple[float, float], limit: int) -> None:
        self.flush()
        expected = []
        for partition, pairs in enumerate(self.lists):
            offset = round(starts[partition] * len(pairs))
            self.stream.seek(partition, offset)
            expected += [Record(partition, n, *pair) for n, pair in enumerate(pairs)][offset:]
        records: list[Record] = []
        while part := self.stream.poll(limit, 0):
            assert len(part) <= limit
            records += part
        assert sorted(records) == expected
        for partition in range(2):
            offsets = [record.offset for record in records if record.partition == partition]
            assert offsets == sorted(offsets)


FRACTION = st.floats(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("publish"), st.integers(0, 9), st.integers(0, 60)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("read"), st.tuples(FRACTION, FRACTION), st.integers(1, 20)),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return (tmp_path_factory.mktemp("model") for _ in range(10_000))


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=40), st.integers(1, 400), st.integers(1, 300))
def test_any_order_of_operations_equals_plain_lists(
    folders: Iterator[Path], steps: list[tuple[str, ...]], segment_bytes: int, buffer_bytes: int
) -> None:
    model = Model(next(folders), segment_bytes, buffer_bytes)
    with ExitStack() as last:
        last.callback(lambda: model.stream.close())
        for name, *arguments in steps:
            getattr(model, name)(*arguments)
        model.read((0, 0), 7)
