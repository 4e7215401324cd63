"""Micro-batching: who comes while a batch is answered is answered with the next, within its time."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from armlift.serving.batching import Batcher, BusyError


class Doubler:
    """Answers twice what is asked, when it is let; keeps what it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.let = threading.Event()
        self.let.set()

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        self.let.wait(10)
        if 13 in asked:
            raise ValueError("thirteen")
        return [2 * one for one in asked]


def test_who_comes_meanwhile_is_answered_together() -> None:
    async def asks() -> tuple[list[int], list[tuple[int, float]]]:
        told: list[tuple[int, float]] = []
        batcher = Batcher("x", double, most=4, on_batch=lambda size, seconds: told.append((size, seconds)))
        double.let.clear()
        first = asyncio.create_task(batcher.ask(0, 10))
        while not double.batches:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(one, 10)) for one in range(1, 7)]
        await asyncio.sleep(0.01)
        double.let.set()
        found = await asyncio.gather(first, *rest)
        batcher.close()
        return list(found), told

    double = Doubler()
    found, told = asyncio.run(asks())
    assert found == [0, 2, 4, 6, 8, 10, 12]
    assert double.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [size for size, _ in told] == [1, 4, 2]


def test_time_and_room_are_bounded() -> None:
    async def asks() -> None:
        batcher = Batcher("x", double, most=4, waiting=2)
        double.let.clear()
        first = asyncio.create_task(batcher.ask(0, 10))
        while not double.batches:
            await asyncio.sleep(0.001)
        began = time.monotonic()
        late = [asyncio.create_task(batcher.ask(one, 0.05)) for one in (1, 2)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError, match="2 wait already"):
            await batcher.ask(3, 10)
        for one in late:
            with pytest.raises(TimeoutError):
                await one
        assert time.monotonic() - began < 5
        fourth = asyncio.create_task(batcher.ask(4, 10))  # there is room again, before anything was answered
        await asyncio.sleep(0.01)
        double.let.set()
        assert await first == 0
        assert await fourth == 8
        batcher.close()
        with pytest.raises(BusyError):
            await batcher.ask(5, 10)

    double = Doubler()
    asyncio.run(asks())
    assert double.batches == [[0], [4]], "who does not wait any more is not answered"


def test_what_is_raised_is_raised_for_all_of_a_batch_and_no_more() -> None:
    async def asks() -> None:
        batcher = Batcher("x", double, most=4)
        with pytest.raises(ValueError, match="thirteen"):
            await batcher.ask(13, 10)
        assert await batcher.ask(14, 10) == 28
        batcher.close()

    double = Doubler()
    asyncio.run(asks())
