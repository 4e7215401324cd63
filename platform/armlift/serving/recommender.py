"""Answers to live units: who meets which arm, its slate within a time budget, and the exposure."""

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

from armlift.arm import Request, Slate
from armlift.errors import ArmliftError
from armlift.events import Codec, Exposure, exposure_identity
from armlift.hashing import key_of, mix
from armlift.refreshing import line_of
from armlift.runs import LIVE
from armlift.serving.arms import Key, Served
from armlift.serving.asking import ArmAsker
from armlift.serving.batching import Batcher, BusyError
from armlift.serving.figures import ServeFigures
from armlift.serving.live import NONE, Live
from armlift.serving.outbox import Outbox
from armlift.serving.told import ToldAttributes
from armlift.serving.units import Unit, Units
from armlift.serving.waiting import OutboxFullError
from armlift.settings import ServeSettings
from armlift.splitter import Assignment
from armlift.store.database import DATABASE_ERRORS

logger = logging.getLogger("armlift.serve")
TOGETHER = 64
"""Units read from the database together."""
READ_AGAIN = 1.0
"""Seconds for which a database that failed is not asked."""
LAST_RESORT = 1.0
"""Seconds the fallback may take at least: where it does not answer, nobody does."""
NO_VERSION = "none"
"""The version of an arm that could not be loaded."""


class UnavailableError(ArmliftError):
    """Neither the arm nor the fallback can answer."""


class Wanted(NamedTuple):
    """A unit asks for at most `k` items at a time (UTC ms); `live` is None without an experiment."""

    unit: str
    live: Live | None
    request_id: str
    ts: int
    k: int
    context: Mapping[str, str | int | float | bool]
    forced: str | None = None

    @property
    def run(self) -> str:
        """Name the run its events bear."""
        return LIVE if self.live is None else self.live.running.run


class Answer(NamedTuple):
    """What a unit is told: the arm, its version, the slate; why the fallback answered, if it did.

    `exposure` is the event that was accepted: at the first meeting, of a forced answer, of a fallback.
    """

    wanted: Wanted
    assignment: Assignment
    version: str
    slate: Slate
    fallback: str | None
    exposure: Exposure | None


class Recommender:
    """Answers requests on one event loop."""

    def __init__(
        self, arms: ArmAsker, units: Units, outbox: Outbox, told: ToldAttributes, *,
        default_arm: str, settings: ServeSettings, codec: Codec, figures: ServeFigures,
    ) -> None:  # fmt: skip
        self._arms, self._units, self._outbox, self._told = arms, units, outbox, told
        self._default_arm = default_arm
        self._budget = settings.budget_ms / 1_000
        self._rehearsed = int(settings.rehearsed_fallbacks * (1 << 64))
        self._codec, self._figures = codec, figures
        self._reading = Batcher("units", units.read, most=TOGETHER, waiting=10_000)
        self._read_after = 0.0
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Say why no unit is read now: the database failed, and is not asked for a while."""
        return self._failure if monotonic() < self._read_after else None

    def close(self) -> None:
        """Read no more."""
        self._reading.close()

    async def assign(
        self, unit: str, live: Live, ts: int, context: Mapping[str, object], *, forced: str | None = None
    ) -> Assignment:
        """Assign a unit, without exposing it."""
        known: Unit | None = None
        asks = live.looks_up(ts)
        if asks:
            known = await self._know(live.running.run, unit)
        attributes = _attributes(known, context)
        return self._assigned(unit, live, ts, attributes, known, forced=forced, asked=asks)

    async def recommend(self, wanted: Wanted) -> Answer:
        """Answer a request; raises UnavailableError where neither the arm nor the fallback can."""
        unit, live = wanted.unit, wanted.live
        known = await self._know(wanted.run, unit)
        attributes = _attributes(known, wanted.context)
        request = Request(
            wanted.request_id, unit, wanted.ts, wanted.k, () if known is None else known.history,
            context=wanted.context, attributes=attributes,
        )  # fmt: skip
        if live is None:
            assignment = Assignment(self._default_arm, False, NONE, 0, 0)
        else:
            assignment = self._assigned(
                unit, live, wanted.ts, attributes, known, forced=wanted.forced, asked=True
            )
        answer = await self._slate(wanted, assignment, request)
        if not assignment.exposed or live is None:
            self._figures.unexposed.labels(assignment.rule).inc()
            return answer
        try:
            return await self._expose(answer, live, known)
        except OutboxFullError as error:
            # Whoever is shown an arm without a trace of it would be missing in the comparison.
            logger.warning("an exposure cannot be kept, the default arm answers: %s", error)
            aside = assignment._replace(arm=self._default_arm, exposed=False, rule="not_kept")
            self._figures.unexposed.labels(aside.rule).inc()
            return await self._slate(wanted, aside, request)

    async def _know(self, run: str, unit: str) -> Unit | None:
        """Give what is known of a unit; None where the database cannot tell in time."""
        found = self._units.known(run, unit)
        if found is None and self.failure is None:
            try:
                found = await self._reading.ask((run, unit), self._budget)
            except (TimeoutError, BusyError):
                pass
            except DATABASE_ERRORS as error:
                line = line_of(error)
                if self.failure is None:  # of many that were asked for together, one tells
                    logger.warning("units cannot be read: %s", line)
                self._failure, self._read_after = line, monotonic() + READ_AGAIN
        if found is None:
            self._figures.unknown.inc()
        return found

    def _assigned(
        self, unit: str, live: Live, ts: int, attributes: Mapping[str, object], known: Unit | None,
        *, forced: str | None, asked: bool,
    ) -> Assignment:  # fmt: skip
        stored = None if known is None else known.exposed.get(live.name)
        sure = known is not None or not asked
        return live.assign(unit, ts, attributes, stored, forced=forced, known=sure)

    async def _slate(self, wanted: Wanted, assignment: Assignment, request: Request) -> Answer:
        """Let the arm answer, or else the fallback."""
        experiment = None if wanted.live is None else wanted.live.name
        key = (experiment, assignment.arm)
        served, reason = await self._by_arm(key, request)
        if served is None:
            assert reason is not None
            served = await self._by_fallback(key, request, reason)
        if reason is not None:
            self._figures.fallbacks.labels(assignment.arm, reason).inc()
        self._count(experiment, assignment.arm, served, wanted.k)
        return Answer(wanted, assignment, served.version, served.slate, reason, None)

    async def _by_arm(self, key: Key, request: Request) -> tuple[Served | None, str | None]:
        """Give an arm's answer, or why there is none; of an arm's own fallback both."""
        if mix(key_of(request.request_id)) < self._rehearsed:
            return None, "rehearsed"
        try:
            served = await self._arms.ask(key, request, self._budget)
        except TimeoutError:
            return None, "timeout"
        except BusyError:
            return None, "busy"
        except Exception as error:  # noqa: BLE001  (an arm may raise anything; the unit is answered)
            logger.warning("arm %s cannot answer: %s: %s", key[1], type(error).__name__, error)
            return None, "failed"
        return served, "arm" if served.slate.fallback else None

    async def _by_fallback(self, key: Key, request: Request, reason: str) -> Served:
        """Let the fallback answer in an arm's name."""
        try:
            seconds = max(self._budget, LAST_RESORT)
            served = await self._arms.ask_fallback(key[0], request, seconds)
        except Exception as error:
            told = self._arms.standing.missing.get(key, reason)
            raise UnavailableError(
                f"arm {key[1]} cannot answer ({told}), nor can the fallback ({type(error).__name__}: {error})"
            ) from error
        version = self._arms.standing.versions.get(key, NO_VERSION)
        return served._replace(version=version, slate=served.slate._replace(fallback=True))

    def _count(self, experiment: str | None, arm: str, served: Served, k: int) -> None:
        self._figures.slates.labels(experiment or "", arm).inc()
        for rule, count in served.removed.items():
            self._figures.filtered.labels(rule).inc(count)
        if len(served.slate.items) < k:
            self._figures.short.labels(arm).inc()

    async def _expose(self, answer: Answer, live: Live, known: Unit | None) -> Answer:
        """Publish an exposure, where there is something new to tell; returns when it is kept."""
        wanted, given = answer.wanted, answer.assignment
        first = known is None or live.name not in known.exposed
        if not (first or given.forced or answer.slate.fallback):
            return answer
        ts, run, unit = wanted.ts, wanted.run, wanted.unit
        exposure = Exposure(
            exposure_identity(ts, run, unit, live.name, given.arm), run, ts, unit, live.name,
            given.generation, given.phase, given.arm, answer.version, given.forced, answer.slate.fallback,
        )  # fmt: skip
        await asyncio.wrap_future(self._outbox.send([(unit, self._codec.encode([exposure]))]))
        self._units.apply([exposure])
        self._figures.events.labels("exposure").inc()
        if first:
            segments = live.running.experiment.analysis.segments
            self._told.add(run, unit, ts, wanted.context, segments)
        return answer._replace(exposure=exposure)


def _attributes(known: Unit | None, context: Mapping[str, object]) -> Mapping[str, object]:
    """Give a unit's attributes: what a request brings wins over what is stored."""
    return context if known is None else {**known.attributes, **context}
