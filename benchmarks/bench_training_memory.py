"""The memory of training: what an item of the catalogue takes, and that behaviours take none.

Each fit is in a process of its own, of the arm `sasrec` at dim 64: the most memory it had, and the seconds of
a step. Weights are trained as in any fit, on units whose items are drawn at random.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from figures import Figure, show

from armlift.arm import Behaviour, History, ItemTable

DIM = 64
CATALOGUES = (10_000, 100_000, 1_000_000)
UNITS = (2_000, 20_000)
"""Units with `LENGTH` behaviours each, over 1,000 items."""
LENGTH = 50
BYTES = 28
"""Bytes that training holds of a weight: seven numbers of four bytes."""


class Fit(NamedTuple):
    """What a fit took: megabytes at most, and those before it, milliseconds a step."""

    megabytes: float
    before: float
    step: float


def main() -> None:
    """Measure and print."""
    by_items = {items: fit(items, 200) for items in CATALOGUES}
    for items, found in by_items.items():
        print(f"{items:>9,} items: {found.megabytes:,.0f} MB, {found.step:,.0f} ms a step")
    few, many = (fit(1_000, units) for units in UNITS)
    for units, found in zip(UNITS, (few, many), strict=True):
        print(f"{units * LENGTH:>9,} behaviours: {found.megabytes:,.0f} MB")
    show(figures(by_items, few, many))


def figures(by_items: dict[int, Fit], few: Fit, many: Fit) -> list[Figure]:
    """Compare what fits took with what is said of them."""
    *_, middle, largest = by_items
    grown = (by_items[largest].megabytes - by_items[middle].megabytes) * 1e6
    a_weight = grown / (largest - middle) / DIM
    growth = many.megabytes / few.megabytes
    return [
        Figure(
            "memory a weight", a_weight, "bytes", "computed", BYTES, a_weight / BYTES,
            "at most 2 x computed", a_weight <= 2 * BYTES,
        ),
        Figure(
            f"memory, {UNITS[1] // UNITS[0]} times the units", many.megabytes, "MB", "few units",
            few.megabytes, growth, "at most 1.1 x", growth <= 1.1,
        ),
    ]  # fmt: skip


def fit(items: int, units: int) -> Fit:
    """Fit in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, str(items), str(units)], check=True, stdout=subprocess.PIPE, text=True
    )
    return Fit(*json.loads(done.stdout))


def in_this_process(items: int, units: int) -> Fit:
    """Fit an arm and say what it took."""
    from armlift.fitting import Epoch, fitting
    from armlift_arms import loop  # noqa: F401 (torch is imported before memory is measured)
    from armlift_arms.sasrec import DecoderConfig, SasRec

    config = DecoderConfig(
        name="arm", model="sasrec", dim=DIM, length=LENGTH, epochs=1, patience=1,
        batch_tokens=512 if units < 1_000 else 2_048,
    )  # fmt: skip
    arm, told, before = SasRec(config), list[Epoch](), peak()
    with fitting(told.append):
        arm.fit(histories(items, units), ItemTable([f"{item:07}" for item in range(items)]), until=LENGTH)
    steps = units * LENGTH / config.batch_tokens
    return Fit(peak(), before, 1000 * told[0].seconds / steps)


def histories(items: int, units: int) -> Iterator[History]:
    """Give units one by one, with items at random."""
    random = np.random.default_rng(0)
    for unit in range(units):
        drawn = random.integers(0, items, LENGTH).tolist()
        met = [Behaviour(f"{item:07}", "click", 1.0, at) for at, item in enumerate(drawn)]
        yield History(f"{unit:07}", met)


def peak() -> float:
    """Give the most memory this process has had, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(in_this_process(*map(int, sys.argv[1:]))))
    else:
        main()
