"""What an arm costs: time to answer, time of a training step, memory."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from armlift.arm import Arm, ArmConfig, Request, Slate, new_arm
from armlift.evaluation import Floats
from armlift.fitting import Epoch, fitting
from armlift.heldout import Asked, HeldOut
from armlift.studies import Outcome

UNITS = 2000
"""Units that a measurement trains on: what a step costs does not depend on their number."""
ASKED = 512
"""Units that are answered."""
MS_USER, MS_REQUEST, MS_STEP = "ms a user", "ms a request", "ms a training step"
MB_TRAINING, MB_ANSWERING = "peak MB, training", "peak MB, answering"
_ROUNDS = 3
_SINGLE = 30  # requests answered one by one
_SHORT = {"epochs": 1, "patience": 1, "pretraining_epochs": 1, "validation_share": 0.0}


class Timing:
    """Times how an evaluated arm answers: the figures `ms a user`, in a batch, and `ms a request`, alone."""

    def __init__(self, arm: Arm, data: HeldOut, first: Arm) -> None:
        self._arm = arm
        self._requests: list[Request] = []

    def see(self, asked: Sequence[Asked], slates: Sequence[Slate]) -> None:
        """Keep the first requests."""
        self._requests += [one.request for one in asked[: ASKED - len(self._requests)]]

    def outcome(self) -> tuple[Mapping[str, Floats], Mapping[str, float]]:
        """Answer them again, by the clock."""
        return {}, answer_times(self._arm, self._requests)


def measure(config: ArmConfig, data: HeldOut) -> Outcome:
    """Train an arm for one epoch a stage, on some units, and let it answer; nothing of it is kept.

    Peaks are of the whole process, so they hold the data too, and are known on Linux alone; the allocator may
    keep what was freed before, so measure what needs less first.
    """
    arm = new_arm(config.model_copy(update=_SHORT))
    figures: dict[str, float] = {}
    with _peak(figures, MB_TRAINING), _steps(figures):
        arm.fit(islice(data.histories(), UNITS), data.items, until=data.until)
    requests = [one.request for one in islice(data.asked(), ASKED)]
    with _peak(figures, MB_ANSWERING):
        figures |= answer_times(arm, requests)
    return Outcome(tuple(request.unit for request in requests), {}, figures, arm.version)


def answer_times(arm: Arm, requests: Sequence[Request]) -> dict[str, float]:
    """Time slates: the median of three rounds in a batch, and that of requests one by one, in ms."""
    arm.recommend(requests[:8])  # what is done once is done before
    rounds = [_milliseconds(arm, requests) / len(requests) for _ in range(_ROUNDS)]
    single = [_milliseconds(arm, [request]) for request in requests[:_SINGLE]]
    return {MS_USER: median(rounds), MS_REQUEST: median(single)}


def _milliseconds(arm: Arm, requests: Sequence[Request]) -> float:
    start = time.perf_counter()
    arm.recommend(requests)
    return 1000 * (time.perf_counter() - start)


@contextmanager
def _steps(figures: dict[str, float]) -> Iterator[None]:
    """Time the steps of the last stage, from one's end to the next's; their median is a figure."""
    ends: list[float] = []
    of_stage: list[float] = []

    def stepped(optimizer: Optimizer, args: object, kwargs: object) -> None:
        ends.append(time.perf_counter())

    def tell(epoch: Epoch) -> None:
        of_stage[:] = [later - earlier for earlier, later in pairwise(ends)]
        ends.clear()

    hook = register_optimizer_step_post_hook(stepped)
    try:
        with fitting(tell):
            yield
    finally:
        hook.remove()
    if of_stage:
        figures[MS_STEP] = 1000 * median(of_stage)


@contextmanager
def _peak(figures: dict[str, float], name: str) -> Iterator[None]:
    """Note the greatest memory of the process, in megabytes, where the system lets it be counted anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM: see proc(5)
    except OSError:
        yield
        return
    yield
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            figures[name] = int(line.split()[1]) / 1024
