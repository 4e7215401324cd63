"""The monitor: looks at every running experiment, and acts where the guard finds a breach."""

from typing import Any

from sqlalchemy import Engine

from armlift import running
from armlift.guard import Act, Breach, act, inspect
from armlift.lab import Lab
from armlift.nightly import MonitorSettings
from armlift.started import RunningExperiment
from armlift.store.database import reading, writing


def monitor(lab: Lab, engine: Engine, *, now_ms: int) -> dict[str, Any]:
    """Look once, as of a time (UTC milliseconds), and act as `nightly.yaml` says under `monitor`.

    Gives `experiments` (each with its run, how many breaches it has, and the error where it could not be
    looked at, which keeps no other from being looked at), `breaches` and `actions`, all as plain data. It is
    meant to be called every few minutes, and alerts to be sent of `breaches`.
    """
    settings = lab.nightly.monitor
    with reading(engine) as connection:
        found = running.running(connection)
    looked: dict[str, dict[str, Any]] = {}
    breaches: list[Breach] = []
    actions: list[Act] = []
    for one in found:
        own, error = _look(lab, engine, one, settings, now_ms)
        looked[one.name] = {"run": one.run, "breaches": len(own), "error": error}
        breaches += own
        with writing(engine) as connection:
            actions += act(connection, own, settings.action, at=now_ms)
    return {
        "experiments": looked,
        "breaches": [{**breach._asdict(), "details": dict(breach.details)} for breach in breaches],
        "actions": [one._asdict() for one in actions],
    }


def _look(
    lab: Lab, engine: Engine, one: RunningExperiment, settings: MonitorSettings, now_ms: int
) -> tuple[list[Breach], str | None]:
    """Look at one experiment; what keeps it from being looked at is told."""
    try:
        with reading(engine) as connection:
            run = running.run_of(connection, one)
        return inspect(engine, one, run, lab.calendar, settings, now_ms), None
    except Exception as error:  # noqa: BLE001 (others must be looked at all the same)
        return [], f"{type(error).__name__}: {error}"
