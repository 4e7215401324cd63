"""What prompts of a night were worth on the day after: whether units took what the model had said to them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, case, exists, func, select

from armlift.store.tables import feedback, impressions, prompts
from armlift_pipelines.drift_counts import between


class PromptQuality(NamedTuple):
    """The prompts of one version that were there at a time, and what came of them until another (UTC ms).

    `units` have prompts, of which `active` did something in that time; `hit` is the share of all of them that
    took a prompted item. Of the prompts, `shown` is the share whose item the unit was shown, `distinct` that
    of different items, `score` the mean. All but counts are null where there are none.
    """

    arm: str
    version: str
    written: int
    until: int
    units: int
    active: int
    prompts: int
    hit: float | None
    shown: float | None
    distinct: float | None
    score: float | None

    def as_dict(self) -> dict[str, Any]:
        """Give it as plain data."""
        return self._asdict()


def prompt_quality(
    connection: Connection,
    run: str,
    arm: str,
    version: str,
    written_ms: int,
    until_ms: int,
    kinds: Sequence[str] | None = None,
) -> PromptQuality:
    """Measure the prompts that were stored by `written_ms` by the events of a run from then to `until_ms`.

    Those to a unit's last answered behaviour count: what the model said it would take next. `kinds` are the
    feedback that takes an item, all where none is named.
    """
    p = prompts.c
    of_version = and_(p.arm == arm, p.version == version, p.written <= written_ms)
    last = (
        select(p.unit_id, func.max(p.position).label("position"))
        .where(of_version)
        .group_by(p.unit_id)
        .subquery()
    )
    there = and_(p.unit_id == last.c.unit_id, p.position == last.c.position)
    said = select(p.unit_id, p.item_id, p.score).join(last, there).where(of_version).subquery()
    f, i = feedback.c, impressions.c
    acted = and_(between(feedback, run, written_ms, until_ms), f.unit_id == said.c.unit_id)
    if kinds is not None:
        acted = and_(acted, f.kind.in_(list(kinds)))
    met = and_(between(impressions, run, written_ms, until_ms), i.unit_id == said.c.unit_id)
    took = case((exists().where(acted, f.item_id == said.c.item_id), 1), else_=0)
    saw = case((exists().where(met, i.item_id == said.c.item_id), 1), else_=0)
    came = case((exists().where(acted), 1), else_=0)
    by_unit = (
        select(
            said.c.unit_id,
            func.count().label("said"),
            func.max(took).label("hit"),
            func.sum(saw).label("shown"),
            func.max(came).label("active"),
            func.sum(said.c.score).label("score"),
        )
        .group_by(said.c.unit_id)
        .subquery()
    )
    b = by_unit.c
    sums = (func.coalesce(func.sum(column), 0) for column in (b.active, b.said, b.hit, b.shown, b.score))
    units, active, total, hits, shown, score = connection.execute(select(func.count(), *sums)).one()
    items = connection.execute(select(func.count(said.c.item_id.distinct()))).scalar_one()
    per_unit = [int(hits) / units] if units else [None]
    per_prompt = [float(part) / int(total) for part in (shown, items, score)] if total else [None] * 3
    return PromptQuality(
        arm, version, written_ms, until_ms, units, int(active), int(total), *per_unit, *per_prompt
    )


def stored_versions(connection: Connection, before: int) -> list[tuple[str, str, int]]:
    """List the (arm, version) with prompts written before a time, each with when the last of those was."""
    p = prompts.c
    last = func.max(p.written)
    asked = select(p.arm, p.version, last).where(p.written < before).group_by(p.arm, p.version)
    return sorted((arm, version, written) for arm, version, written in connection.execute(asked))
