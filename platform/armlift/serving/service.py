"""Everything an API answers from, put together, started and ended in order."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from armlift.complaints import choices
from armlift.events import Codec
from armlift.ingest import stored_offsets
from armlift.keys import KeyRing
from armlift.lab import Lab
from armlift.serving.arm_process import ArmProcess
from armlift.serving.arms import Arms, Key
from armlift.serving.asking import ArmAsker
from armlift.serving.catalogue import Catalogue
from armlift.serving.figures import ServeFigures
from armlift.serving.follower import Follower
from armlift.serving.forgetting import Forgetting
from armlift.serving.live import LiveExperiments
from armlift.serving.outbox import Outbox
from armlift.serving.recommender import Recommender
from armlift.serving.told import ToldAttributes
from armlift.serving.units import Units
from armlift.streams.opening import stream_opener

SPILL = "spill"
"""The folder of a lab that keeps events while the stream is away."""
FLUSH_SECONDS = 30.0
"""Seconds that ending may take to bring events away."""


class Service:
    """A lab's live experiments, units, arms and stream; `start` and `close` on one event loop."""

    def __init__(self, lab: Lab, engine: Engine) -> None:
        """Check what does not change while it runs; raises InputError for settings that do not fit."""
        self.lab, self.engine, self.settings = lab, engine, lab.settings.serve
        self.default_arm = lab.settings.default_arm
        self.fallback_arm = self.settings.fallback_arm or self.default_arm
        for key, arm in (("default_arm", self.default_arm), ("serve", self.fallback_arm)):
            if arm not in lab.arm_names():
                raise lab.setting_error(key, f"{arm!r} is not an arm, {choices(arm, lab.arm_names())}")
        kinds = lab.settings.kinds.names
        self.codec = Codec(kinds)
        self.figures = ServeFigures(CollectorRegistry())
        self.live = LiveExperiments(lab, engine)
        self.catalogue = Catalogue(lab, engine)
        self.keys = KeyRing(engine) if self.settings.require_keys else None
        self.units = Units(engine, limit=lab.settings.history_limit, most=self.settings.units_in_memory)
        self.forgetting = Forgetting(engine, self.units)
        self.told = ToldAttributes(engine)
        opener = stream_opener(lab)
        spill_bytes = self.settings.spill_megabytes * 1_000_000
        self.outbox = Outbox(opener, lab.folder / SPILL, most_bytes=spill_bytes)
        self.follower = Follower(
            opener, kinds, self.units.apply, missed=self.units.forget_read, ingested=self._ingested
        )
        self._running = ExitStack()
        self.failure: Exception | None = None
        """Why it could not start."""

    async def start(self) -> None:
        """Read what answers rest on, load arms, open the stream."""
        try:
            await self._start()
        except Exception as error:
            self.failure = error
            self._running.close()
            raise

    async def _start(self) -> None:
        await asyncio.to_thread(self._start_readers)
        here = Arms(self.lab, self.engine, filters=lambda: self.catalogue.filters)
        self.arms = ArmAsker(
            ArmProcess(self.lab), here,
            fallback=self.fallback_arm, wanted=self.wanted, figures=self.figures,
        )  # fmt: skip
        self.recommender = Recommender(
            self.arms, self.units, self.outbox, self.told,
            default_arm=self.default_arm, settings=self.settings, codec=self.codec, figures=self.figures,
        )  # fmt: skip
        self._running.callback(self.recommender.close)
        self._running.callback(self.arms.close)
        await asyncio.to_thread(self.arms.start)

    async def close(self) -> None:
        """End it all; what was accepted is in the stream, or kept on disk, when this returns."""
        await asyncio.to_thread(self._running.close)

    def wanted(self) -> Sequence[Key]:
        """Name the arms to have ready: those of live experiments, the default arm and the fallback."""
        common = [self.default_arm, self.fallback_arm]
        found: list[Key] = [(None, arm) for arm in common]
        for one in [*self.live.all.values()]:
            if one.running.state != "stopped":
                found += [(one.name, arm) for arm in [*one.split.arms, *common]]
        return list(dict.fromkeys(found))

    def reasons(self) -> list[str]:
        """Say what is amiss."""
        # Each is asked once: it may be well again a moment later.
        failures = {
            "experiments": self.live.failure,
            "units": self.recommender.failure,
            "items": self.catalogue.failure,
            "forgotten units": self.forgetting.failure,
        }
        found = [f"{part}: {failure}" for part, failure in failures.items() if failure]
        if self.live.read and not self.live.all:
            found.append("no experiment was started; `armlift experiment start NAME` starts one")
        arms = self.arms.standing
        found += list(dict.fromkeys(arms.missing.values()))
        found += [f"arm {name}: {line}" for name, line in arms.failures.items()]
        figures = self.outbox.figures
        if not figures.stream_up:
            found.append(f"stream: {figures.last_error or 'not open yet'}; events are kept on disk")
        return found

    def _ingested(self, stream_id: str) -> Mapping[int, int]:
        with self.engine.connect() as connection:
            return stored_offsets(connection, stream_id)

    def _start_readers(self) -> None:
        # What begins last ends first: events come from all the others.
        self.outbox.start()
        self._running.callback(self.outbox.close, FLUSH_SECONDS)
        self.told.start()
        self._running.callback(self.told.stop)
        if self.keys is not None:
            self._running.enter_context(self.keys)
        self._running.enter_context(self.forgetting)
        self._running.enter_context(self.live)
        self._running.enter_context(self.catalogue)
        self.follower.start()
        self._running.callback(self.follower.stop)
