"""A lab whose arms serve: fitted on simulated users' past, promoted, its experiment started; and its API."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine

from armlift import promotions, running
from armlift.arm import Behaviour, History, ItemTable, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.client import Client
from armlift.days import utc_now
from armlift.experiment import Experiment
from armlift.lab import Lab, init_lab
from armlift.promotions import EVERY_EXPERIMENT
from armlift.simulation.laboratory import Size
from armlift.simulation.simulate import Simulation
from armlift.store.database import open_database, writing

NAME = "served"
ARMS = ("popularity", "covisitation")
_EXPERIMENT = """
name: {name}
arms: {{{arms}}}
control: {control}
metrics: {{primary: [click_rate], secondary: [long_view_rate, clicks, active_days]}}
simulation:
  history_days: 2
  training_users: {users}
  sessions_per_day: 1.5
  rows_per_session: 10
  videos: {videos}
  taste_categories: 12
"""


class Answering(NamedTuple):
    """An API that answers at a URL, its process, and the lines it wrote on stderr so far."""

    url: str
    process: subprocess.Popen[str]
    log: list[str]

    @property
    def port(self) -> int:
        """Give its port."""
        return int(self.url.rpartition(":")[2])


class Api(NamedTuple):
    """A lab, its database, its API, and a client."""

    lab: Lab
    engine: Engine
    answering: Answering
    client: Client


def make_lab(
    folder: Path, arms: Sequence[str] = ARMS, *, users: int = 300, videos: int = 400,
    serve: Mapping[str, object] | None = None, database: str | None = None, stream: str | None = None,
) -> Lab:  # fmt: skip
    """Make a lab with one experiment, whose settings of serve are changed."""
    init_lab(folder)
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    weights = ", ".join(f"{arm}: 1" for arm in arms)
    text = _EXPERIMENT.format(name=NAME, arms=weights, control=arms[0], users=users, videos=videos)
    (folder / "experiments" / f"{NAME}.yaml").write_text(text, encoding="utf-8")
    settings = folder / "armlift.toml"
    text = settings.read_text(encoding="utf-8")
    for key, value in (serve or {}).items():
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        text = re.sub(rf"(?m)^(?:# )?{key} = \S+", f"{key} = {shown}", text)
    for key, url in (("database_url", database), ("stream_url", stream)):
        if url is not None:
            text = re.sub(rf'(?m)^{key} = "[^"]*"', f'{key} = "{url}"', text)
    settings.write_text(text, encoding="utf-8")
    return Lab(folder)


def size_of(users: int, days: int) -> Size:
    """Give the size of its simulation."""
    return Size(users, days, 10, 0)


def begin(lab: Lab, engine: Engine, size: Size) -> Experiment:
    """Fit the arms on the past of its users, promote them, and start the experiment on its first day."""
    experiment = lab.experiment(NAME)
    simulation = Simulation(lab, experiment, size, engine)
    first = simulation.laboratory.course().start_of(0)
    versions = {name: arm.version for name, arm in simulation.arms.items()}
    with writing(engine) as connection:
        for name, version in versions.items():
            promotions.promote(
                connection, name, EVERY_EXPERIMENT, version, at=first, by="me", reason="first", override=True
            )
        running.start(connection, lab, NAME, reason="now", by="me", at=first)
    return experiment


def ready(folder: Path, size: Size, arms: Sequence[str] = ARMS, **more: object) -> Lab:
    """Make a lab and begin."""
    lab = make_lab(folder, arms, **more)  # type: ignore[arg-type]
    engine = open_database(lab, create=True)
    begin(lab, engine, size)
    engine.dispose()
    return lab


def promote_newer(lab: Lab, engine: Engine, items: Sequence[str]) -> str:
    """Fit and promote a popularity for which the first items are the most popular."""
    now = utc_now()
    definition = lab.arm("popularity").model_dump() | {"half_life_days": 3.0}
    made = new_arm(arm_class("popularity").config_class.model_validate(definition))
    units = [
        History(f"t{place}-{again}", [Behaviour(item, "click", 1.0, now - 1_000)])
        for place, item in enumerate(items) for again in range(len(items) - place)
    ]  # fmt: skip
    made.fit(units, ItemTable(sorted(items)), until=now)
    manifest = save_artefact(
        made, lab.resolve(lab.settings.artefact_url), data_hash="newer", data_until=now,
        created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    key = ("popularity", EVERY_EXPERIMENT, manifest.version)
    with writing(engine) as connection:
        promotions.add_candidate(
            connection, *key, data_hash="newer", data_until=now, definition_hash="newer", parent=None
        )
        promotions.promote(connection, *key, at=now, by="me", reason="newer", override=True)
    return manifest.version


@contextmanager
def serving(lab: Lab, *options: str) -> Iterator[Answering]:
    """Run `armlift serve` at a free port until the block ends; then it is told to end, and must."""
    words = ["serve", "--lab", str(lab.folder), "--port", "0", *options]
    program = [sys.executable, "-c", "from armlift.cli import main; main()", *words]
    log: list[str] = []
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        # All of it is read, as it is written: a full pipe would stop the API.
        reading = threading.Thread(target=_keep, args=(process.stderr, log))
        reading.start()
        try:
            yield Answering(_address(process, log), process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            finally:
                reading.join()


def _keep(lines: Iterable[str], log: list[str]) -> None:
    log.extend(lines)


def _address(process: subprocess.Popen[str], log: list[str]) -> str:
    """Wait until an API tells where it answers."""
    while True:
        ended = process.poll()
        for line in log:
            if found := re.search(r"answers at (\S+);", line):
                return found[1]
        if ended is not None:
            raise RuntimeError(f"armlift serve ended with {ended}: {''.join(log)}")
        time.sleep(0.02)


@contextmanager
def command(lab: Lab, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run an `armlift` command beside until the block ends."""
    program = [sys.executable, "-c", "from armlift.cli import main; main()", *words, "--lab", str(lab.folder)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait until something holds; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it did not happen")
        time.sleep(0.05)
