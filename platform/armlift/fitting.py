"""What surrounds a fit: who is told how it goes, what it found, and where it may keep its state.

`Arm.fit` says what is learnt; these belong to whoever calls it, so they are set around the call:

    with fitting(tell, checkpoints=folder) as figures:
        arm.fit(...)

Outside of `fitting` nobody is told, nothing is kept, and figures are dropped.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Epoch(NamedTuple):
    """How a stage of a fit stands after an epoch, the `number`-th of at most `most`.

    `figures` are those of its validation, `best_figures` those of the best epoch so far, `best`; both are
    empty, and `best` is 0, where nothing is held out.
    """

    stage: str
    number: int
    most: int
    loss: float
    figures: Mapping[str, float]
    best: int
    best_figures: Mapping[str, float]
    seconds: float


Tell = Callable[[Epoch], None]


@dataclass
class _Surroundings:
    tell: Tell | None = None
    checkpoints: Path | None = None
    figures: dict[str, float] = field(default_factory=dict)


_current: ContextVar[_Surroundings | None] = ContextVar("fitting", default=None)


@contextmanager
def fitting(tell: Tell | None = None, checkpoints: Path | None = None) -> Iterator[dict[str, float]]:
    """Tell `tell` of every epoch and let stages keep their state in `checkpoints`; gives the figures found.

    The folder must be one of this definition and these data alone: a fit goes on from what stands there.
    """
    surroundings = _Surroundings(tell, checkpoints)
    token = _current.set(surroundings)
    try:
        yield surroundings.figures
    finally:
        _current.reset(token)


def tell_epoch(epoch: Epoch) -> None:
    """Tell whoever called the fit, if they want to know."""
    surroundings = _current.get()
    if surroundings is not None and surroundings.tell is not None:
        surroundings.tell(epoch)


def record_figures(figures: Mapping[str, float]) -> None:
    """Hand figures over that belong in the manifest of what is fitted."""
    surroundings = _current.get()
    if surroundings is not None:
        surroundings.figures.update(figures)


def recorded_figures() -> dict[str, float]:
    """Give the figures that were handed over so far."""
    surroundings = _current.get()
    return {} if surroundings is None else dict(surroundings.figures)


def checkpoint_file(stage: str) -> Path | None:
    """Name the file in which a stage may keep its state; None where nothing is to be kept."""
    surroundings = _current.get()
    if surroundings is None or surroundings.checkpoints is None:
        return None
    return surroundings.checkpoints / f"{stage}.safetensors"
