"""Progress on stderr: bars on a terminal; elsewhere a line for each stage of a training that has ended."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from armlift import processes
from armlift.commands.options import say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, TaskID

    from armlift.arm import ArmConfig
    from armlift.fitting import Epoch, Tell


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, where that is a terminal; gives the function to tell (done, total).

    The bar appears when it is first told.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = _console()
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = progress.add_task(what, total=1)

    def tell(done: int, total: int) -> None:
        progress.start()
        progress.update(task, completed=done, total=max(total, 1))

    try:
        yield tell
    finally:
        progress.stop()


@contextmanager
def training_progress(config: "ArmConfig") -> "Iterator[Tell | None]":
    """Show how the training of an arm goes; gives the function to tell of every epoch, if it is wanted.

    On a terminal each stage has a bar with its last epoch and its best one. Of several processes one shows.
    """
    if not processes.is_first():
        yield None
    elif _console().is_terminal:
        with _bars(config.name) as tell:
            yield tell
    else:
        lines = _Lines(config.name)
        yield lines.tell
        lines.end()


def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _columns() -> "tuple[ProgressColumn, ...]":
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    said = TextColumn("{task.fields[said]}", markup=False)
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        said,
        TimeElapsedColumn(),
    )


@contextmanager
def _bars(arm: str) -> "Iterator[Tell]":
    """Show a bar a stage; one without a measure until the first epoch has ended."""
    from rich.progress import Progress

    with Progress(*_columns(), console=_console(), transient=True) as progress:
        first = progress.add_task(f"training {arm}", total=None, said="")
        bars: dict[str, TaskID] = {}

        def tell(epoch: "Epoch") -> None:
            progress.update(first, visible=False)
            if epoch.stage not in bars:
                bars[epoch.stage] = progress.add_task(f"{arm} {epoch.stage}", total=epoch.most, said="")
            progress.update(bars[epoch.stage], completed=epoch.number, said=shown(epoch))

        yield tell


class _Lines:
    """Says what each stage came to, once the next one begins or all have ended."""

    def __init__(self, arm: str) -> None:
        self._arm = arm
        self._last: Epoch | None = None

    def tell(self, epoch: "Epoch") -> None:
        if self._last is not None and self._last.stage != epoch.stage:
            self.end()
        self._last = epoch

    def end(self) -> None:
        if self._last is not None:
            say(f"{self._arm} {self._last.stage}: {shown(self._last)}")


def shown(epoch: "Epoch") -> str:
    """Write in a few words how a stage stands: its last epoch, and the best where epochs are validated."""
    words = [f"{epoch.number}/{epoch.most}", f"loss {epoch.loss:.3f}", *_figures(epoch.figures)]
    if epoch.best:
        words += [f"best {epoch.best}:", *_figures(epoch.best_figures)]
    return " ".join(words)


def _figures(figures: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4f}" for name, value in figures.items()]
