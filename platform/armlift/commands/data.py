"""Commands on events and logs: generate, ingest, dead letters."""

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from armlift.commands.options import (
    MAX_SEED,
    DatabaseOption,
    JsonOption,
    LabOption,
    StreamOption,
    open_lab,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar
from armlift.streams.opening import open_stream

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from armlift.ingest import Ingester
    from armlift.ingest_metrics import IngestMetrics
    from armlift.streams.stream import EventStream

app = typer.Typer()
dead_letters = typer.Typer(help="Look after events that could not be stored.")
app.add_typer(dead_letters, name="dead-letters")

ReasonOption = Annotated[
    str, typer.Option("--reason", help="Only those whose reason contains this; case does not matter.")
]


@app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    users: Annotated[int, typer.Option(min=1)] = 200,
    videos: Annotated[int, typer.Option(min=10)] = 3000,
    days: Annotated[int, typer.Option(min=1)] = 7,
    random_share: Annotated[float, typer.Option(min=0, max=1, help="Share of random exposure.")] = 0.0037,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED)] = 0,
    calibration: Annotated[bool, typer.Option(help="Compare it with Kuaishou's published figures.")] = True,
) -> None:
    """Generate a log in KuaiRand's columns, calibrated to the published figures, marked synthetic."""
    from armlift.logs import calibration as calibrated
    from armlift.logs.generator import GeneratorSettings
    from armlift.logs.generator import generate as generate_log

    settings = GeneratorSettings(users=users, videos=videos, days=days, random_share=random_share, seed=seed)
    with progress_bar("generating a log") as tell:
        made = generate_log(settings, file, progress=tell)
    say(f"wrote {file}: {made.rows:,} rows, {made.users:,} users, {made.videos:,} videos (synthetic)")
    if calibration:
        print(calibrated.render(calibrated.measure(file)))


@app.command()
def ingest(
    status: Annotated[
        bool, typer.Option("--status", help="Show progress, ingesters and dead letters, and stop.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything published is stored.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve metrics to Prometheus at this port.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address of --metrics-port.")] = "127.0.0.1",
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move events from the stream into the database until stopped, with the effect of exactly once."""
    from prometheus_client import CollectorRegistry

    from armlift.durations import milliseconds
    from armlift.events import Codec
    from armlift.ingest import Ingester
    from armlift.ingest_metrics import IngestMetrics
    from armlift.runs import Subjects
    from armlift.store.database import open_database

    opened = open_lab(lab, database, stream)
    engine = open_database(opened, create=True)
    with ExitStack() as stack:
        source = stack.enter_context(open_stream(opened))
        if status:
            _show_status(engine, source, as_json=as_json)
            return
        metrics = IngestMetrics(CollectorRegistry())
        if metrics_port is not None:
            stack.enter_context(metrics.serve(metrics_port, metrics_host))
        codec = Codec(opened.settings.kinds.names)
        ingester = Ingester(
            engine,
            source,
            codec,
            opened.calendar,
            Subjects(),
            metrics=metrics,
            lateness=milliseconds(opened.settings.lateness),
        )
        if once:
            ingester.drain()
        else:
            _until_stopped(engine, source.stream_id, ingester, metrics)
        done = {name: ingester.total[name] for name in ("records", "events", "bad", "forgotten")}
    if as_json:
        write_json(done)
    else:
        print(f"{done['records']:,} records, {done['events']:,} events, {done['bad']:,} dead letters")
        if done["forgotten"]:
            print(f"{done['forgotten']:,} events of forgotten units were not stored")


def _until_stopped(engine: "Engine", stream_id: str, ingester: "Ingester", metrics: "IngestMetrics") -> None:
    """Ingest until a signal ends it, and show meanwhile that this ingester lives."""
    from armlift.ingesters import Heartbeat

    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _frame: stopping.append(got))
    with Heartbeat(engine, stream_id, metrics) as heartbeat:
        say("ingesting; stop with Ctrl-C")
        while not stopping:
            ingester.step()
            if heartbeat.beat():
                metrics.lag(ingester.lag())


def _show_status(engine: "Engine", source: "EventStream", *, as_json: bool) -> None:
    from armlift import ingest_status

    with engine.connect() as connection:
        found = ingest_status.status(connection, source)
    if as_json:
        write_json(found.document())
    else:
        print(ingest_status.render(found))


@dead_letters.command("list")
def list_dead_letters(
    reason: ReasonOption = "",
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many reasons and letters.")] = 20,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what could not be stored: how many for which reason, then where, and how their bytes begin."""
    from armlift.dead_letters import listing, render
    from armlift.store.database import open_database

    with open_database(open_lab(lab, database), create=True).connect() as connection:
        found = listing(connection, reason=reason, limit=limit)
    if as_json:
        write_json(found.document())
    else:
        print(render(found))


@dead_letters.command("replay")
def replay_dead_letters(
    reason: ReasonOption = "",
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read dead letters again and bring in the events that are good now; exit code 1 if any are still bad."""
    from armlift.dead_letters import replay
    from armlift.events import Codec
    from armlift.runs import Subjects
    from armlift.store.database import open_database

    opened = open_lab(lab, database)
    engine = open_database(opened, create=True)
    codec = Codec(opened.settings.kinds.names)
    with progress_bar("reading dead letters again") as tell:
        done = replay(engine, codec, opened.calendar, Subjects(), reason=reason, progress=tell)
    if as_json:
        write_json(done._asdict())
    else:
        print(
            f"{done.letters:,} dead letters read again: {done.settled:,} settled, {done.events:,} events "
            f"brought in, {done.bad:,} remain as dead letters"
        )
    if done.bad:
        raise typer.Exit(1)
