"""Asking arms on an event loop: those of a process of their own, and the fallback in this one."""

import logging
from collections.abc import Callable, Sequence

from armlift.arm import Request
from armlift.errors import ArmliftError
from armlift.refreshing import Refreshing
from armlift.serving.arm_process import ArmProcess
from armlift.serving.arms import Arms, Key, Served, Standing
from armlift.serving.batching import Batcher
from armlift.serving.figures import ServeFigures

logger = logging.getLogger("armlift.serve")
MOST = 32
"""Requests an arm answers together at most."""
PREPARE_EVERY = 1.0
"""Seconds between two looks for arms to load."""


class ArmAsker(Refreshing):
    """Lets arms answer, each behind a micro-batcher; made and asked on one event loop.

    `wanted` names those to have ready. The fallback is loaded in this process too, so that it answers
    whatever becomes of the other one.
    """

    def __init__(
        self,
        process: ArmProcess,
        here: Arms,
        *,
        fallback: str,
        wanted: Callable[[], Sequence[Key]],
        figures: ServeFigures,
    ) -> None:
        super().__init__("arms", PREPARE_EVERY)
        self._process, self._here, self._fallback = process, here, fallback
        self._wanted, self._figures = wanted, figures
        self._batchers: dict[tuple[bool, Key], Batcher[Request, Served]] = {}
        self._standing = Standing({}, {}, {})
        self._fallbacks = Standing({}, {}, {})

    @property
    def standing(self) -> Standing:
        """Say how the arms that are wanted stand."""
        there, here = self._standing, self._fallbacks
        return Standing(
            {**here.versions, **there.versions},
            {**here.missing, **there.missing},
            {**here.failures, **there.failures},
        )

    def close(self) -> None:
        """Answer nobody any more."""
        for batcher in self._batchers.values():
            batcher.close()
        self._process.close()  # first, so that nobody waits for what it loads
        self.stop()
        self._here.close()

    async def ask(self, key: Key, request: Request, seconds: float) -> Served:
        """Let an arm answer; raises TimeoutError, BusyError, or what the arm or its loading raises."""
        return await self._batcher(key, apart=True).ask(request, seconds)

    async def ask_fallback(self, experiment: str | None, request: Request, seconds: float) -> Served:
        """Let the fallback answer, in this process."""
        return await self._batcher((experiment, self._fallback), apart=False).ask(request, seconds)

    def _batcher(self, key: Key, *, apart: bool) -> Batcher[Request, Served]:
        found = self._batchers.get((apart, key))
        if found is None:
            arm, answer = key[1], self._process.answer if apart else self._here.answer

            def told(size: int, seconds: float) -> None:
                self._figures.batches.labels(arm).observe(size)
                self._figures.arm_seconds.labels(arm).observe(seconds)

            found = Batcher(f"arm-{arm}", lambda batch: answer(key, batch), most=MOST, on_batch=told)
            self._batchers[apart, key] = found
        return found

    def refresh(self) -> None:
        """Load what is wanted and not there."""
        wanted = self._wanted()
        self._fallbacks = self._here.prepare([key for key in wanted if key[1] == self._fallback])
        try:
            self._process.start()
            self._standing = self._process.prepare(wanted)
        except (ArmliftError, OSError) as error:
            if not self._process.closed:
                logger.warning("arms: %s", error)
                self._standing = self._standing._replace(failures={"process": str(error)})
