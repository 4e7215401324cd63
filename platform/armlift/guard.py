"""The guard of running experiments: what goes wrong, by tests that hold at every look, and what is done.

- **A guardrail** is past its margin by its always-valid interval; all guardrails and arms share one alpha.
- **The split** is off by the sequential test of the sample ratio.
- **Errors**: an arm's share of impressions that were fallbacks of another arm is above the allowed one, see
  `fallbacks`.

So whoever looks every minute for weeks stops a sound experiment no more often than these levels say.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Engine, select

from armlift import running
from armlift.answers import Answers
from armlift.checks import split_strata
from armlift.comparisons import compare_units, obstacle_of
from armlift.days import Calendar
from armlift.evidence import Evidence, Finding, cases
from armlift.experiment import Experiment
from armlift.fallbacks import Share, excess
from armlift.metric import Metric
from armlift.nightly import MonitorSettings
from armlift.rendering.words import probability
from armlift.report import question_of
from armlift.rollup import roll_up_all
from armlift.runs import Run, Subjects
from armlift.started import RunningExperiment
from armlift.stats.always_valid import always_valid
from armlift.stats.results import Effect, Rules
from armlift.stats.srm import sequential_sample_ratio_strata
from armlift.store.database import reading
from armlift.store.tables import audit_log

MONITOR = "monitor"
"""Who did what the guard does, in the audit log."""
Kind = Literal["guardrail", "srm", "error_rate"]


class Breach(NamedTuple):
    """Something that a running experiment should not go on with; `text` says it in a sentence, with numbers.

    `arm` and `metric` are None where it is of none; `details` are the numbers as plain data.
    """

    kind: Kind
    experiment: str
    arm: str | None
    metric: str | None
    text: str
    details: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """Say what is breached, whatever the numbers are."""
        return self.kind, self.arm, self.metric


class Act(NamedTuple):
    """What was done about an experiment: `pause` or `ramp_down`, and for which breach."""

    experiment: str
    action: str
    text: str


class _Past(NamedTuple):
    """What people went on with: breaches that they knew of, and when they last did (UTC ms, 0 never)."""

    accepted: frozenset[tuple[str, str | None, str | None]]
    since: int


def inspect(
    engine: Engine,
    one: RunningExperiment,
    run: Run,
    calendar: Calendar,
    settings: MonitorSettings,
    as_of: int,
) -> list[Breach]:
    """Look at a running experiment as of a time (UTC milliseconds), with all events stored by now."""
    roll_up_all(engine, Subjects())
    guards = {name: one.metrics[name] for name in one.experiment.metrics.guardrails}
    question = question_of(run, calendar, as_of)._replace(segments=())
    with reading(engine) as connection:
        answers = Answers.from_database(connection, question, guards)
        return [*judge(one, run, answers, settings), *_errors(connection, one, calendar, settings, as_of)]


def judge(one: RunningExperiment, run: Run, answers: Answers, settings: MonitorSettings) -> list[Breach]:
    """Test guardrails and the split by what is known of the units, wherever that comes from."""
    guards = {name: one.metrics[name] for name in one.experiment.metrics.guardrails}
    return [*_guardrails(one, run, guards, answers, settings), *_split(one.experiment, answers, settings)]


def _guardrails(
    one: RunningExperiment,
    run: Run,
    guards: Mapping[str, Metric],
    answers: Answers,
    settings: MonitorSettings,
) -> list[Breach]:
    experiment, found = one.experiment, []
    asked = [
        (name, arm)
        for name, metric in guards.items()
        for arm in experiment.challengers
        if obstacle_of(run, metric, "guardrail") is None
    ]
    for name, arm in asked:
        rules = Rules(alpha=settings.guardrail_alpha / len(asked), min_units=settings.minimum_units)
        effect = compare_units(name, guards[name], arm, experiment.control, answers, rules).effect
        finding = _finding(name, guards[name], arm, effect, experiment.analysis.always_valid_units)
        if finding.kind == "past":
            units = f"with {effect.n:,} and {effect.control_n:,} units"
            text = f"{experiment.name}, arm {arm}: {finding.text()} against {experiment.control}, {units}"
            details = {
                "lift": effect.lift, "low": finding.low, "high": finding.high, "margin": guards[name].margin,
                "units": effect.n, "control_units": effect.control_n, "alpha": rules.alpha,
            }  # fmt: skip
            found.append(Breach("guardrail", experiment.name, arm, name, text, details))
    return found


def _finding(name: str, metric: Metric, arm: str, effect: Effect, tuning: int) -> Finding:
    """Read a guardrail by its always-valid interval, as the verdict of an early look does."""
    always = always_valid(effect, tuning=tuning)
    evidence = Evidence(
        metric=name, role="guardrail", arm=arm, status=effect.status, lift=effect.lift,
        lift_low=effect.lift_low, lift_high=effect.lift_high, p=effect.p_value,
        good=1 if metric.direction == "increase" else -1, margin=metric.margin,
        always_low=always.lift_low, always_high=always.lift_high,
    )  # fmt: skip
    (case,) = cases([evidence], early=True, alpha=effect.alpha)
    return case.findings[0]


def _split(experiment: Experiment, answers: Answers, settings: MonitorSettings) -> list[Breach]:
    """Test the split, once the weights promise each arm enough units: one that lost all has none itself."""
    strata = split_strata(experiment, answers)
    found = sequential_sample_ratio_strata(strata) if strata else None
    if found is None or found.p_value is None or found.p_value >= settings.srm_alpha:
        return []
    observed = [sum(units) for units in zip(*(stratum.observed for stratum in strata), strict=True)]
    least = min((units for units in found.expected if units > 0), default=sum(observed))
    if least < settings.minimum_units:
        return []
    held = " : ".join(f"{units:,}" for units in observed)
    promised = " : ".join(f"{units:,.0f}" for units in found.expected)
    text = (
        f"{experiment.name}: arms {', '.join(experiment.arms)} hold {held} units where the weights promise "
        f"{promised} (p {probability(found.p_value)}, however often it is looked at)"
    )
    details = {"observed": observed, "expected": list(found.expected), "p_value": found.p_value}
    return [Breach("srm", experiment.name, None, None, text, details)]


def _errors(
    connection: Connection, one: RunningExperiment, calendar: Calendar, settings: MonitorSettings, as_of: int
) -> list[Breach]:
    """Test each arm's share of fallbacks; what came before people went on with it is no evidence any more."""
    since = max(one.starts[0], _past(connection, one.name).since)
    return [
        _error(one.name, share, calendar, settings)
        for share in excess(
            connection, one, as_of, since=since, allowed=settings.error_rate,
            alpha=settings.guardrail_alpha, minimum_units=settings.minimum_units,
        )
    ]  # fmt: skip


def _error(name: str, share: Share, calendar: Calendar, settings: MonitorSettings) -> Breach:
    text = (
        f"{name}, arm {share.arm}: {share.value:.1%} of its impressions since {calendar.show(share.since)} "
        f"were fallbacks, surely more than {share.low:.1%}, of {share.units:,} units; allowed are "
        f"{settings.error_rate:.1%}"
    )
    return Breach("error_rate", name, share.arm, None, text, share._asdict())


def act(connection: Connection, breaches: Sequence[Breach], action: str, *, at: int) -> list[Act]:
    """Pause experiments with breaches, or let no new unit in (`ramp_down`); `alert` does neither.

    It is done once: not where an experiment does not run, or lets nobody in any more. Nor again for a
    guardrail or a split that it was done for before, and people resumed or ramped after: they know. `at` is
    the time, in UTC milliseconds. Gives what was done, which the audit log has as well.
    """
    done: list[Act] = []
    if action == "alert" or not breaches:
        return done
    running.lock(connection)
    for name in dict.fromkeys(breach.experiment for breach in breaches):
        one = running.find(connection, name)
        accepted = _past(connection, name).accepted
        own = [b for b in breaches if b.experiment == name and b.key not in accepted]
        if one is None or one.state != "running" or not own:
            continue
        text, keys = own[0].text, [list(breach.key) for breach in own]
        if action == "pause":
            running.pause(connection, name, reason=text, by=MONITOR, at=at, breaches=keys)
        elif any(phase.traffic for phase in one.experiment.phases[one.phase_at(at) or 0 :]):
            running.ramp(connection, name, 0.0, reason=text, by=MONITOR, at=at, breaches=keys)
        else:
            continue
        done.append(Act(name, action, text))
    return done


def _past(connection: Connection, name: str) -> _Past:
    """Read from the audit log what the guard acted on, and people then went on with."""
    told = select(audit_log.c.at, audit_log.c.action, audit_log.c.details)
    own = told.where(audit_log.c.subject == f"experiment/{name}").order_by(audit_log.c.number)
    acted: set[tuple[str, str | None, str | None]] = set()
    past = _Past(frozenset(), 0)
    for at, action, details in connection.execute(own):
        if "breaches" in details:
            acted |= {
                (kind, arm, metric) for kind, arm, metric in details["breaches"] if kind != "error_rate"
            }
        elif action in ("resume", "ramp"):
            past = _Past(past.accepted | acted, at)
    return past
