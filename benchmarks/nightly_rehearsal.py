"""A week of nights with all stock arms: is everything done every night, and what does it cost?

`python benchmarks/nightly_rehearsal.py [USERS [DAYS [FOLDER]]]` runs this part by itself; with a folder the
lab is kept there.
"""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from figures import Figure, show
from nightly_held_out import served_bias
from nightly_lab import ARMS, SMALLER, Met, Week, live, make_lab
from nightly_warm import warm_starts
from sqlalchemy import Engine, func, select

from armlift.promotions import history
from armlift.reproduction import take_report
from armlift.simulation.laboratory import Size
from armlift.store.tables import impressions
from armlift_pipelines.job_runs import SUCCEEDED, JobRun, Record
from armlift_pipelines.next_day import RERANKED
from armlift_pipelines.night import JOB, name_of, served_after

USERS, DAYS = 800, 7
PROMPTED = ("recgpt1", "recgpt")
EPOCH = date(1970, 1, 1)


class Night(NamedTuple):
    """What a night came to: its steps that succeeded, by step and arm; what served after it, by arm."""

    day: str
    steps: Mapping[tuple[str, str], JobRun]
    served: Mapping[str, str | None]
    seconds: float

    def told(self, step: str, arm: str, name: str) -> Any:
        """Give an output of a step."""
        return self.steps[step, arm].outputs.get(name)


def main(users: int = USERS, days: int = DAYS, folder: str | None = None) -> None:
    """Let users live, then measure and print."""
    with TemporaryDirectory() as scratch:
        lab = make_lab(Path(folder or scratch), smaller=SMALLER)
        week = live(lab, Size(users, days, 10, 0))
        show([*looked_at(week), *served_bias(week), *warm_starts(week)])
        week.engine.dispose()


def looked_at(week: Week) -> list[Figure]:
    """Print tables of what was done, and give the checks as figures."""
    nights = list(nights_of(week.engine, week.run.run))
    print(f"\n{len(nights)} nights and the days between in {week.seconds / 60:.1f} minutes")
    figures = [*done(nights), learned(nights), parents(week, nights), served(week, nights)]
    figures += prompted(week)
    rulings(nights)
    costs(nights)
    lifts(week)
    return figures


def nights_of(engine: Engine, run: str) -> Iterator[Night]:
    """Read a run's nights, in their order."""
    runs = [one for one in Record(engine).runs(job=JOB, limit=100_000) if one.status == SUCCEEDED]
    whole = {one.subject: one for one in runs if not one.step and one.subject.startswith(f"{run}/")}
    for subject in sorted(whole):
        steps = {(one.step, one.arm): one for one in runs if one.subject == subject and one.step}
        day = subject.rpartition("/")[2]
        after = served_after(engine, run, day)
        versions = {arm: after.get(name_of(arm, run)) for arm in ARMS}
        yield Night(day, steps, versions, whole[subject].seconds or 0.0)


def done(nights: list[Night]) -> Iterator[Figure]:
    """Say how long a night takes, and that every arm was trained, judged and prompted in each."""
    seconds = median(one.seconds for one in nights)
    yield Figure("a night of seven arms", seconds, "s, median", "none", None, None, "<= 240", seconds <= 240)
    wanted = len(nights) * len(ARMS)
    found = sum(("write_prompts", arm) in one.steps for one in nights for arm in ARMS)
    yield share("all steps done", found, wanted, "of arms and nights")


def learned(nights: list[Night]) -> Figure:
    """Tell in how many nights an arm became another version."""
    pairs = list(pairwise(nights))
    fresh = sum(
        before.told("retrain", arm, "candidate") != after.told("retrain", arm, "candidate")
        for before, after in pairs
        for arm in ARMS
    )
    return share("retrained: another artefact", fresh, len(pairs) * len(ARMS), "of arms and nights")


def parents(week: Week, nights: list[Night]) -> Figure:
    """Tell for how many models the parent is what served when they were trained."""
    right = 0
    with week.engine.connect() as connection:
        rows = {(arm, one.version): one.parent for arm in ARMS for one in history(connection, arm)}
    for before, after in zip([None, *nights], nights, strict=False):
        for arm in ARMS:
            expected = None if before is None else before.served[arm]
            right += rows[arm, str(after.told("retrain", arm, "candidate"))] == expected
    return share("parent: the last promoted", right, len(nights) * len(ARMS), "of arms and nights")


def served(week: Week, nights: list[Night]) -> Figure:
    """Tell how many impressions of a day carry the version that served after the night before it.

    A session that goes on past midnight is answered by the version of the evening.
    """
    i = impressions.c
    query = (
        select(i.day, i.arm, i.arm_version, func.count())
        .where(i.run == week.run.run, i.arm.in_(ARMS))
        .group_by(i.day, i.arm, i.arm_version)
    )
    after = {one.day: one.served for one in nights}
    right = total = 0
    with week.engine.connect() as connection:
        for day, arm, version, count in connection.execute(query):
            total += count
            right += count * (after[str(EPOCH + timedelta(days=day))][arm] == version)
    return share("impressions of the night's version", right, total, "of impressions", least=0.99)


def prompted(week: Week) -> Iterator[Figure]:
    """Tell how many units' first slate of a day had prompts of the night before in view."""
    for arm in PROMPTED:
        right = total = 0
        for day in range(int(str(week.run.log["days"]))):
            own = units_of(week, arm, day)
            met: Iterable[Met] = week.first.get((day, arm), {}).values()
            mine = [one for one in met if one.unit in own]
            right, total = right + sum(one.prompted for one in mine), total + len(mine)
        yield share(f"{arm}: stored prompts in first slates", right, total, "of unit-days", least=0.9)


def units_of(week: Week, arm: str, day: int) -> set[str]:
    """Name the units that an arm served on a day of the experiment."""
    i, first = impressions.c, week.lab.experiment(week.run.experiment).simulation.first_day
    number = (first - EPOCH).days + day
    query = select(i.unit_id).where(i.run == week.run.run, i.arm == arm, i.day == number).distinct()
    with week.engine.connect() as connection:
        return set(connection.execute(query).scalars())


def rulings(nights: list[Night]) -> None:
    """Print what the gate said of each arm, night by night."""
    print(
        "\n| night | arm | NDCG@10 | lift of rerank_NDCG@10 over the promoted one | gate | prompts, units |\n"
        "|---|---|---|---|---|---|"
    )
    for night in nights:
        for arm in ARMS:
            evaluation = dict(night.told("evaluate", arm, "evaluation"))
            found = evaluation["compared"].get(RERANKED)
            lift = "" if found is None or found["lift"] is None else interval(found)
            reasons = night.told("gate", arm, "reasons")
            said = "passed" if night.told("gate", arm, "passed") else "; ".join(reasons)
            written, prompted = (night.told("write_prompts", arm, name) for name in ("prompts", "prompted"))
            units = f"{written}, {prompted}"
            metric = evaluation["metrics"].get("NDCG@10", 0.0)
            print(f"| {night.day} | {arm} | {metric:.4f} | {lift} | {said} | {units} |")
    print("\n| arm | passed | refused |\n|---|---|---|")
    for arm in ARMS:
        passed = sum(bool(one.told("gate", arm, "passed")) for one in nights[1:])
        print(f"| {arm} | {passed} | {len(nights) - 1 - passed} |")


def interval(found: Mapping[str, float | None]) -> str:
    """Write a lift with its interval."""
    low, high = (found["lift"] if found[end] is None else found[end] for end in ("low", "high"))
    return f"{found['lift']:+.1%} [{low:+.1%}, {high:+.1%}]"


def costs(nights: list[Night]) -> None:
    """Print seconds and memory of each step and arm: medians over nights."""
    seconds, megabytes = defaultdict(list), defaultdict(list)
    for night in nights:
        for key, one in night.steps.items():
            seconds[key].append(one.seconds or 0.0)
            megabytes[key].append(float(one.outputs.get("step_megabytes", 0.0)))
    print("\n| step | arm | seconds | the slowest | peak MB |\n|---|---|---|---|---|")
    for (step, arm), taken in seconds.items():
        row = f"{median(taken):.1f} | {max(taken):.1f} | {median(megabytes[step, arm]):,.0f}"
        print(f"| {step} | {arm} | {row} |")


def lifts(week: Week) -> None:
    """Print the report's lifts of the week."""
    report = take_report(week.engine, week.run, week.lab.calendar)
    print(
        f"\n{report.verdict.status}: {report.sentence}\n\n| arm | metric | lift | units |\n|---|---|---|---|"
    )
    for one in report.comparisons:
        found = {"lift": one.lift, "low": one.lift_low, "high": one.lift_high}
        lift = "" if one.lift is None else interval(found)
        print(f"| {one.arm} | {one.metric} | {lift} | {one.units} |")


def share(name: str, found: int, of: int, unit: str, least: float = 1.0) -> Figure:
    """Give a share that is to be at least so large."""
    rate = found / max(1, of)
    return Figure(name, rate, unit, "none", None, None, f">= {least:g} ({of:,})", rate >= least)


if __name__ == "__main__":
    users, days, *folder = [*sys.argv[1:], *map(str, (USERS, DAYS)[len(sys.argv) - 1 :])]
    main(int(users), int(days), *folder)
