"""The command that takes in data of your own: import."""

from pathlib import Path
from typing import Annotated

import typer

from armlift.commands.options import DatabaseOption, JsonOption, LabOption, check_html, open_lab
from armlift.commands.progress import progress_bar
from armlift.commands.reports import Experiment, HtmlOption, show

app = typer.Typer()

FORMS = "FILE.csv, FILE.parquet, FILE.duckdb#TABLE or URL#TABLE; TABLE may be a query."


@app.command("import")
def import_(
    experiment: Experiment,
    exposures: Annotated[
        str, typer.Option("--exposures", metavar="SOURCE", help=f"Who met which arm: {FORMS}")
    ],
    events: Annotated[
        str, typer.Option("--events", metavar="SOURCE", help="What units did, of the same forms.")
    ],
    mapping: Annotated[
        Path | None, typer.Option("--map", help="A YAML file that names the columns, arms and kinds.")
    ] = None,
    html: HtmlOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in exposures and events of an experiment that ran elsewhere, and report its lift."""
    from armlift.imports import Import
    from armlift.mapping import Mapping
    from armlift.reproduction import take_report
    from armlift.store.database import open_database
    from armlift.tabular import open_table

    check_html(html)
    opened = open_lab(lab, database)
    found = opened.experiment(experiment)
    work = Import(opened, found, open_table(exposures), open_table(events), Mapping(mapping))
    engine = open_database(opened, create=True)
    with progress_bar(f"importing {experiment}") as tell:
        run = work.run(engine, tell)
    show(take_report(engine, run, opened.calendar), as_json=as_json, html=html)
