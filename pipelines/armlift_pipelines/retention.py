"""Retention: what nights delete: old events, models, prompts, data sets and logs, and nothing else."""

import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, select

from armlift.archive.archive import Archive
from armlift.archive.safety import expire_archived
from armlift.artefacts import delete_artefact, stored_versions
from armlift.days import utc_day
from armlift.durations import milliseconds
from armlift.errors import InputError
from armlift.lab import Lab
from armlift.nightly import RetentionSettings
from armlift.store.database import writing
from armlift.store.partitions import expire
from armlift.store.tables import models, prompts, runs

DATASETS, LOGS = "datasets", "logs"
"""Folders of a lab: a folder a night, and what jobs wrote."""
_NIGHT = re.compile(r"\d{4}-?\d{2}-?\d{2}.*")
"""How the name of a night's folder begins: by its date, so that names sort by time."""


def retain(
    lab: Lab, engine: Engine, settings: RetentionSettings, *, now_ms: int, archived: bool = False
) -> dict[str, Any]:
    """Delete what is kept no longer at a time (UTC milliseconds); gives how much of each.

    With `archived` events stay from the first day on that is not in the archive, row for row: `waiting_days`
    counts those that do. `events` counts the rows of each table, `models` the artefacts (their rows in
    `models` stay), `prompts` rows, `datasets` folders, and `logs` files. Done again, or after it was killed
    half-way, it deletes what is left, and in the end the same. Raises InputError where artefacts or files
    cannot be removed, or the archive cannot be read.
    """
    events, waiting = _events(lab, engine, settings, now_ms, archived)
    return {
        "events": events,
        "waiting_days": waiting,
        "models": _artefacts(lab, engine, settings.models),
        "prompts": _prompts(engine),
        "datasets": _datasets(lab.folder / DATASETS, settings.datasets),
        "logs": _logs(lab.folder / LOGS, now_ms - milliseconds(settings.logs)),
    }


def _events(
    lab: Lab, engine: Engine, settings: RetentionSettings, now: int, archived: bool
) -> tuple[dict[str, int], int]:
    if settings.events is None:
        return {}, 0
    before = max(0, utc_day(now - milliseconds(settings.events)))
    if archived:
        return expire_archived(engine, Archive(lab.resolve(lab.settings.archive_url)), before)
    return expire(engine, before), 0


def _artefacts(lab: Lab, engine: Engine, newest: int) -> int:
    """Remove the model files that no scope keeps; what the database does not know is left alone."""
    url = lab.resolve(lab.settings.artefact_url)
    with engine.connect() as connection:
        arms = sorted(connection.execute(select(models.c.arm).distinct()).scalars())
    removed = 0
    for arm in arms:
        there = stored_versions(url, arm)
        with engine.connect() as connection:
            surplus = _surplus(connection, arm, newest)
        removed += sum(delete_artefact(url, arm, version) for version in there if version in surplus)
    return removed


def _surplus(connection: Connection, arm: str, newest: int) -> set[str]:
    """Find the versions of an arm that nothing asks for any more.

    Kept are, in every scope, the promoted one, its parent and the `newest` others, and what a run was run
    with. The newest is the one whose data end last.
    """
    m = models.c
    asked = select(m.scope, m.version, m.state, m.parent, m.data_until, m.promoted).where(m.arm == arm)
    others = defaultdict(list)
    known: set[str] = set()
    kept = {used[arm] for used in connection.execute(select(runs.c.arms)).scalars() if arm in used}
    for scope, version, state, parent, until, promoted in connection.execute(asked):
        known.add(version)
        if state == "promoted":
            kept |= {version, parent}
        else:
            others[scope].append((until, promoted or 0, version))
    for versions in others.values():
        kept |= {version for _, _, version in sorted(versions, reverse=True)[:newest]}
    return known - kept


def _prompts(engine: Engine) -> int:
    """Delete the prompts of versions that neither serve nor served last, a version at a time."""
    p = prompts.c
    with engine.connect() as connection:
        stored = connection.execute(select(p.arm, p.version).distinct()).all()
        serving = _serving(connection)
    deleted = 0
    for arm, version in sorted((arm, version) for arm, version in stored):
        if (arm, version) not in serving:
            with writing(engine) as connection:
                if (arm, version) not in _serving(connection):  # a rollback may have come in between
                    these = delete(prompts).where(p.arm == arm, p.version == version)
                    deleted += connection.execute(these).rowcount
    return deleted


def _serving(connection: Connection) -> set[tuple[str, str]]:
    """Give the (arm, version) that are promoted in some scope, or were retired there last."""
    m = models.c
    found: set[tuple[str, str]] = set()
    retired: dict[tuple[str, str], tuple[int, int, str]] = {}
    asked = select(m.arm, m.scope, m.version, m.state, m.promoted, m.data_until)
    for arm, scope, version, state, promoted, until in connection.execute(asked):
        if state == "promoted":
            found.add((arm, version))
        elif state == "retired":
            one = (promoted or 0, until, version)
            retired[arm, scope] = max(retired.get((arm, scope), one), one)
    return found | {(arm, version) for (arm, _), (_, _, version) in retired.items()}


def _datasets(folder: Path, newest: int) -> int:
    """Remove the data sets of all but the newest nights; what is not named by a night is left alone."""
    if not folder.is_dir():
        return 0
    nights = [one for one in folder.iterdir() if _NIGHT.fullmatch(one.name)]
    folders = sorted(one for one in nights if one.is_dir() and not one.is_symlink())
    surplus = folders[:-newest]
    for one in surplus:
        _removing(one)
    return len(surplus)


def _removing(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:  # somebody else removes it too
        return
    except OSError as error:
        raise _not_ours(folder, error) from error


def _logs(folder: Path, before: int) -> int:
    """Remove files that were last written before a time (UTC milliseconds); folders stay."""
    removed = 0
    for one in sorted(folder.rglob("*")) if folder.is_dir() else []:
        try:
            if one.is_symlink() or not one.is_file() or one.stat().st_mtime_ns >= before * 1_000_000:
                continue
            one.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(
                f"{one}: cannot be removed: {error.strerror}, must be yours to remove"
            ) from error
        removed += 1
    return removed


def _not_ours(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be removed ({error.strerror}), must be yours to remove")
