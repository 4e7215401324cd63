"""Commands on events and logs: generate, ingest, dead letters."""

import signal
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
    open_stream,
    say,
    write_json,
)
from armlift.commands.progress import progress_bar

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer()


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
    status: Annotated[bool, typer.Option("--status", help="Show offsets and lag, and stop.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything published is stored.")] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move events from the stream into the database until stopped, with the effect of exactly once."""
    from armlift.durations import milliseconds
    from armlift.events import Codec
    from armlift.ingest import Ingester
    from armlift.runs import Subjects
    from armlift.store.database import open_database

    opened = open_lab(lab, database, stream)
    engine = open_database(opened, create=True)
    with open_stream(opened) as source:
        if status:
            _show_lag(opened_id=source.stream_id, ends=source.end_offsets(), engine=engine, as_json=as_json)
            return
        codec = Codec(opened.settings.kinds.names)
        ingester = Ingester(
            engine,
            source,
            codec,
            opened.calendar,
            Subjects(),
            lateness=milliseconds(opened.settings.lateness),
        )
        if once:
            ingester.drain()
        else:
            stopping: list[int] = []
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda got, _frame: stopping.append(got))
            say("ingesting; stop with Ctrl-C")
            while not stopping:
                ingester.step()
        done = {name: ingester.total[name] for name in ("records", "events", "bad")}
    if as_json:
        write_json(done)
    else:
        print(f"{done['records']:,} records, {done['events']:,} events, {done['bad']:,} dead letters")


def _show_lag(*, opened_id: str, ends: dict[int, int], engine: "Engine", as_json: bool) -> None:
    """Show, by partition, what is stored, what is published, and how many records lie between."""
    from sqlalchemy import func, select

    from armlift.store.tables import dead_letters, stream_offsets

    with engine.connect() as connection:
        rows = connection.execute(
            select(stream_offsets.c.partition, stream_offsets.c.next).where(
                stream_offsets.c.stream_id == opened_id
            )
        )
        stored = {row[0]: row[1] for row in rows}
        dead = connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()
    partitions = [
        {"partition": number, "stored": stored.get(number, 0), "end": end, "lag": end - stored.get(number, 0)}
        for number, end in sorted(ends.items())
    ]
    if as_json:
        write_json({"stream": opened_id, "partitions": partitions, "dead_letters": dead})
        return
    for one in partitions:
        print("partition {partition}: {stored:,} stored of {end:,}, lag {lag:,}".format(**one))
    print(f"{dead:,} dead letters")
