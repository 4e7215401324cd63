"""Walkers: units that go round a circle of items, and a small lab whose nights learn from them."""

from datetime import date
from pathlib import Path

from sqlalchemy import Engine

from armlift.days import DAY_MS
from armlift.hashing import key_of
from armlift.lab import init_lab
from armlift.store.database import writing
from armlift.store.sink import insert_new
from armlift.store.tables import feedback

FIRST = date(2026, 1, 5)
"""The first day of the events, in UTC, unless another is asked for."""
ITEMS = 40


def define(folder: Path, *arms: str, more: str = "") -> None:
    """Let the experiment `e` be the lab's only one, of some arms."""
    for path in (folder / "experiments").glob("*.yaml"):
        path.unlink()
    (folder / "experiments" / "e.yaml").write_text(
        f"name: e\narms: {{{', '.join(f'{arm}: 1' for arm in arms)}}}\ncontrol: {arms[0]}\n"
        f"metrics: {{primary: [click_rate]}}\n{more}"
    )


NIGHTLY = """
gate:
  {minimum_units: 20, minimum_behaviours: 100, margin: 0.9, alpha: 0.01,
   most_prompt_gap: 1, most_forgetting: 5}
steps:
  retrain: {retries: 0, backoff: 1s}
"""
TINY = """
name: tiny
model: recgpt
dim: 16
pretraining_epochs: 1
epochs: 2
negatives: 32
recall: [3, 2]
"""


def walk(unit: int, days: int, first: date = FIRST) -> list[tuple[object, ...]]:
    """Let a unit go round a circle of items, three clicks a day, with one on what is popular."""
    start = first.toordinal() - date(1970, 1, 1).toordinal()
    rows: list[tuple[object, ...]] = []
    for step in range(4 * days):
        day = start + step // 4
        ts = day * DAY_MS + 3_600_000 * (8 + step % 4) + unit
        item = f"item{(unit * 7 + step) % ITEMS:02}"
        if step % 4 == 0:
            luck = key_of(f"{unit}|{day}")
            item = f"hot{min((luck & -luck).bit_length(), 9)}"
        identity = f"{unit:08x}{step:08x}".ljust(32, "0")
        rows.append((day, day, identity, "live", ts, identity, f"u{unit}", item, "click", 1.0, 0))
    return rows


def fill(engine: Engine, *, units: int = 60, days: int = 7, first: date = FIRST) -> None:
    """Store the events of some days."""
    with writing(engine) as connection:
        for unit in range(units):
            insert_new(connection, feedback, walk(unit, days, first))


def make_lab(folder: Path) -> None:
    """Make a lab in UTC of two arms, one of them a tiny RecGPT."""
    init_lab(folder)
    settings = (folder / "armlift.toml").read_text().replace('"Asia/Shanghai"', '"UTC"')
    (folder / "armlift.toml").write_text(settings)
    (folder / "arms" / "tiny.yaml").write_text(TINY)
    (folder / "nightly.yaml").write_text(NIGHTLY)
    define(folder, "popularity", "tiny")
