"""Replay: the impressions of a log, routed through an experiment as if its arms had been asked.

Rows before the cut are history and training, later ones are replayed. A request is a unit's session. In
`rerank` its candidates are the items the log shows in that session, and the first k of the arm's order
count; in `match` (Li et al. 2011) the arm recalls k of its catalogue, and what the log shows too counts.
In `interleaved` two arms order the candidates, and a slate of k is drafted of both orders (`interleaving`).
In each an item counts with its logged outcome, once a session. The arms know nothing from the cut on but
each unit's own earlier sessions.

In `dense` and `simulate` the arm recalls, and units answer to all of it: with what the log holds of the pair
anywhere from the cut on, or with what a response model draws that was fitted on the rows before the cut. From
the cut on a unit's history is then what its arm showed it, for the log's own is of another life.

Where a metric is adjusted by the past (`cuped`), a unit's earlier sessions
are published with its first exposure.

A replay is a pure function of its inputs: every message has the same bytes and the same place in the order.
So a replay that was killed starts again, leaves out what the stream already has, and ends with the same
tables.
"""

from collections.abc import Iterator, Mapping

from sqlalchemy import Engine, select

from armlift.arm import Arm
from armlift.asked import Asked, Asking, Progress, ReplayOptions
from armlift.errors import InputError
from armlift.experiment import Experiment
from armlift.fitted import Watch
from armlift.lab import Lab
from armlift.logs.reader import Log
from armlift.logs.response_fit import check_log, fit_response
from armlift.logs.users import UserTable
from armlift.matrix import DenseOutcomes, read_matrix
from armlift.outcomes import LoggedOutcomes, ModelledOutcomes, Outcomes
from armlift.publishing import Publisher, fewer_collections
from armlift.replayer import Replayer
from armlift.rollup import rebuild
from armlift.rollup_rows import Subject
from armlift.runs import INTERLEAVED, Run, begin, definition_of, finish, run_identity
from armlift.segments import check_values, tell
from armlift.store.database import writing
from armlift.store.tables import exposures
from armlift.streams.stream import EventStream
from armlift.training import Trainer

BATCH = 4_096
"""Items that the requests answered, published and ingested at a time may bring: it bounds the memory."""


def default_cut(log: Log, lab: Lab) -> int:
    """Give the moment (UTC milliseconds) after the first half, rounded up, of the log's days.

    A log of one day is replayed whole.
    """
    first, last = (lab.calendar.day(ts) for ts in (log.summary.first_ts, log.summary.last_ts))
    if first == last:
        return log.summary.first_ts
    return lab.calendar.start_of(first + (last - first + 2) // 2)


def cut_of(experiment: Experiment, log: Log, lab: Lab) -> int:
    """Give the experiment's cut, or the default one; raises InputError when nothing is left to replay."""
    until = experiment.replay.train_until
    cut = default_cut(log, lab) if until is None else lab.calendar.parse(until)
    if cut > log.summary.last_ts:
        last = lab.calendar.show(log.summary.last_ts)
        raise InputError(
            f"replay.train_until: {lab.calendar.show(cut)} is after the log's last row, must be before {last}"
        )
    return max(cut, log.summary.first_ts)


def replay(
    lab: Lab,
    experiment: Experiment,
    log: Log,
    engine: Engine,
    stream: EventStream,
    options: ReplayOptions,
    *,
    users: UserTable | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Run:
    """Replay a log through an experiment and give the finished run; `watch` is told how arms are fitted.

    The same inputs give the same run: a finished one is not run again, a broken-off one is completed.
    Raises InputError where the experiment has one arm, or more than two and is interleaved, or an audience or
    segments and no `users` that say who is in them; in `simulate` where the log has no row before the cut, or
    no outcome to fit a model of.
    """
    if not experiment.challengers:
        raise InputError(
            f"experiment {experiment.name}: has one arm, {experiment.control}; a replay compares two or more"
        )
    if options.mode == INTERLEAVED:
        options = options._replace(paired=True)
        if len(experiment.challengers) > 1:
            raise InputError(
                f"experiment {experiment.name}: has {len(experiment.arms)} arms, "
                f"{', '.join(experiment.arms)}; an interleaved replay takes two"
            )
    if experiment.audience is not None and users is None:
        raise InputError(f"experiment {experiment.name}: its audience needs attributes, give --users FILE")
    told = _segments(experiment, users)
    cut = cut_of(experiment, log, lab)
    if options.mode == "simulate":
        check_log(log, cut)
    with fewer_collections():
        arms = _fitted_arms(lab, experiment, log, engine, cut, watch)
        run = _describe(lab, experiment, log, cut, arms, options, users)
        with writing(engine) as connection:
            stored = begin(connection, run)
            if stored.finished:
                return stored
            for attribute, values in told.items():
                tell(connection, run.run, attribute, ((unit, cut, value) for unit, value in values.items()))
            if connection.scalar(select(exposures.c.run).where(exposures.c.run == run.run).limit(1)):
                # Its events may have come before it was known, with a stream older than the database.
                rebuild(connection, Subject(run.run, run.experiment, run.parsed()[1], run.paired))
        outcomes = _outcomes(lab, experiment, log, options, cut)
        asking = Asking(lab, experiment, log, options, cut, users)
        replayer = Replayer(experiment, run.parsed()[1], log, run.run, arms, options, asking, outcomes)
        publisher = Publisher(engine, stream, lab.settings.kinds.names, lab.calendar, run.run)
        for batch in _batches(replayer, progress):
            publisher.publish(replayer.messages(batch))
        publisher.drain()
    with writing(engine) as connection:
        return finish(connection, run, resolution=replayer.resolution(), dropped=replayer.dropped())


def _segments(experiment: Experiment, users: UserTable | None) -> dict[str, dict[str, str]]:
    """Give units' values of the attributes that the experiment is compared by."""
    asked = experiment.analysis.segments
    if asked and users is None:
        raise InputError(f"experiment {experiment.name}: its segments need attributes, give --users FILE")
    told = {attribute: users.values(attribute) for attribute in asked} if users is not None else {}
    check_values({attribute: set(values.values()) for attribute, values in told.items()})
    return told


def _fitted_arms(
    lab: Lab, experiment: Experiment, log: Log, engine: Engine, cut: int, watch: Watch | None
) -> dict[str, Arm]:
    trainer = Trainer(lab, engine, log, cut, watch=watch)
    versions = experiment.replay.versions
    try:
        return {name: trainer.arm(lab.arm(name), version=versions.get(name)) for name in experiment.arms}
    finally:
        trainer.close()


def _outcomes(lab: Lab, experiment: Experiment, log: Log, options: ReplayOptions, cut: int) -> Outcomes:
    """Make what answers to the arms; it reads the log where a session of it is not enough."""
    if options.mode == "dense":
        return DenseOutcomes(read_matrix(log, cut))
    if options.mode == "simulate":
        gap = round(experiment.replay.session_gap * 60_000)
        return ModelledOutcomes(fit_response(log, cut, calendar=lab.calendar, gap_ms=gap), options.seed)
    return LoggedOutcomes()


def _describe(
    lab: Lab,
    experiment: Experiment,
    log: Log,
    cut: int,
    arms: Mapping[str, Arm],
    options: ReplayOptions,
    users: UserTable | None,
) -> Run:
    metrics = lab.metrics_of(experiment)
    definition = definition_of(experiment, metrics)
    versions = {name: arm.version for name, arm in arms.items()}
    summary = log.summary
    identity = {
        "definition": definition,
        "experiment": experiment.content_hash,  # the order of arms too, which the sorted keys here lose
        "holdout": lab.settings.holdout.model_dump(mode="json"),
        "timezone": lab.settings.timezone,
        "history_limit": lab.settings.history_limit,
        "arms": versions,
        "log": summary.sha256,
        "cut": cut,
        "users": users.sha256 if users is not None else None,
        **options._asdict(),
    }
    described = {
        "files": list(summary.files),
        "format": summary.format,
        "sha256": summary.sha256,
        "rows": summary.rows,
        "first_ts": summary.first_ts,
        "last_ts": summary.last_ts,
        "kinds": sorted(summary.kinds),
        "random_rows": summary.random_rows,
        "cut": cut,
    }
    return Run(
        run=run_identity(identity),
        number=0,
        experiment=experiment.name,
        state="running",
        synthetic=summary.synthetic,
        definition=definition,
        arms=versions,
        log=described,
        resolution={},
        dropped={},
        **options._asdict(),
    )


def _batches(replayer: Replayer, progress: Progress | None) -> Iterator[list[Asked]]:
    """Group requests so that their slates show `BATCH` items at most, or one request more."""
    batch: list[Asked] = []
    items = 0
    for asked in replayer.asked(progress):
        batch.append(asked)
        items += replayer.most_shown(asked)
        if items >= BATCH:
            yield batch
            batch, items = [], 0
    if batch:
        yield batch
