"""The command that says what so many users need: capacity."""

from pathlib import Path
from typing import Annotated

import typer

from armlift.commands.options import JsonOption, write_json

app = typer.Typer()


@app.command()
def capacity(
    users: Annotated[int, typer.Option("--users", help="With an event in the last 30 days.")],
    events: Annotated[float, typer.Option("--events-per-day", help="Of ONE user, on average.")],
    requests: Annotated[
        float | None,
        typer.Option("--requests-per-day", help="Of ONE user; default: a request for 12 events."),
    ] = None,
    days_kept: Annotated[
        int | None,
        typer.Option("--days-kept", help="Days of events in SQL; default: the window, or 30 beside Spark."),
    ] = None,
    window: Annotated[int, typer.Option("--window", help="Days of events that arms learn from.")] = 90,
    peak: Annotated[float, typer.Option("--peak", help="The busiest second, times the mean.")] = 3.0,
    items: Annotated[int, typer.Option("--items", help="Of the catalogue.")] = 100_000,
    arms: Annotated[str, typer.Option("--arms", help="Trained every night, with commas.")] = "recgpt",
    epochs: Annotated[int, typer.Option("--epochs", help="Passes of a night's training.")] = 5,
    night_hours: Annotated[float, typer.Option("--night-hours", help="Hours a night may take.")] = 6.0,
    memory_gb: Annotated[float, typer.Option("--memory-gb", help="That one process may use.")] = 64.0,
    file: Annotated[
        Path | None, typer.Option("--costs", help="Costs measured on your machines; default: ours.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what so many users need: brokers, processes, cores, disk, and the hours of a night.

    Every figure names the measured costs it comes from, and how far it goes beyond what was measured.
    """
    from armlift.capacity import plan
    from armlift.costs import read_costs, stock_costs
    from armlift.demand import EVENTS_PER_REQUEST, Demand
    from armlift.rendering.capacity_document import document
    from armlift.rendering.capacity_text import text_of

    costs = stock_costs() if file is None else read_costs(file)
    demand = Demand(
        users, events, events / EVENTS_PER_REQUEST if requests is None else requests,
        days_kept=days_kept, window=window, peak=peak, items=items,
        arms=tuple(dict.fromkeys(arm.strip() for arm in arms.split(","))),
        epochs=epochs, night_hours=night_hours, memory=memory_gb * 1e9,
    )  # fmt: skip
    made = plan(demand, costs)
    if as_json:
        write_json(document(made, costs))
        return
    for line in text_of(made, costs):
        print(line)
