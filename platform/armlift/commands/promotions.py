"""Commands on the versions of an arm: arm promote, rollback, versions, lineage."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from armlift.commands.options import DatabaseOption, JsonOption, LabOption, open_lab, who, write_json
from armlift.days import utc_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

    from armlift.days import Calendar
    from armlift.lab import Lab
    from armlift.lineage import Origin
    from armlift.promotions import ModelRow

app = typer.Typer()

MAIN_FIGURES = ("NDCG@10", "HR@10")
"""What figures for people end with; --json has all."""

Name = Annotated[str, typer.Argument(help="The arm.")]
ScopeOption = Annotated[str, typer.Option("--scope", help="An experiment, or * for every one.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides; default: who is logged in.")]


@app.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Option("--version", help="The version that serves from now on.")],
    scope: ScopeOption = "*",
    reason: ReasonOption = "by hand",
    by: ByOption = None,
    override: Annotated[
        bool, typer.Option("--override", help="Promote a version that was refused; that is recorded.")
    ] = False,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Let a version of an arm serve; one whose artefact cannot be loaded is refused."""
    from armlift import promotions
    from armlift.store.database import open_database, reading, writing

    opened = open_lab(lab, database)
    engine = open_database(opened)
    with reading(engine) as connection:
        before = promotions.promoted(connection, name, scope)
        promotions.named(connection, name, scope, version)
    _check_artefact(opened, name, version)
    with writing(engine) as connection:
        changed = promotions.promote(
            connection, name, scope, version, at=utc_now(), by=who(by), reason=reason, override=override
        )
    if not changed:
        print(f"arm {name}: {version} serves {_where(scope)} already")
        return
    print(f"arm {name}: {version} serves {_where(scope)}{f', before it {before.version}' if before else ''}")


@app.command()
def rollback(
    name: Name,
    scope: ScopeOption = "*",
    reason: ReasonOption = "by hand",
    by: ByOption = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
) -> None:
    """Let the version that served before serve again; the one that does is refused from now on.

    Rolling back again goes one further.
    """
    from armlift import promotions
    from armlift.store.database import open_database, reading, writing

    opened = open_lab(lab, database)
    engine = open_database(opened)
    with reading(engine) as connection:
        back = promotions.predecessor(connection, name, scope).version
    _check_artefact(opened, name, back)
    with writing(engine) as connection:
        promotions.rollback(connection, name, scope, at=utc_now(), by=who(by), reason=reason, to=back)
    print(f"arm {name}: {back} serves {_where(scope)} again")


@app.command()
def versions(
    name: Name, lab: LabOption = None, database: DatabaseOption = None, as_json: JsonOption = False
) -> None:
    """List the versions of an arm, those of the newest data first."""
    from armlift.promotions import history
    from armlift.store.database import open_database, reading

    opened = open_lab(lab, database)
    with reading(open_database(opened)) as connection:
        rows = history(connection, name)
    if not rows:
        opened.arm(name)  # says that there is none of this name
    documents = [_document(opened, row) for row in rows]
    if as_json:
        write_json({"arm": name, "versions": documents})
        return
    lines = [_line(opened.calendar, one) for one in documents]
    print("\n".join(lines) or f"arm {name}: has no versions; `armlift train {name}` makes one")


@app.command()
def lineage(
    name: Name,
    version: Annotated[
        str | None, typer.Option("--version", help="Default: the one that serves every experiment.")
    ] = None,
    lab: LabOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which data, code and definition made a version, and the versions it goes back to."""
    from armlift.lineage import lineage as find
    from armlift.store.database import open_database, reading

    opened = open_lab(lab, database)
    engine = open_database(opened)
    asked = version or _serving(opened, engine, name)
    with reading(engine) as connection:
        origins = find(connection, _url(opened), name, asked)
    if as_json:
        write_json({"arm": name, "version": asked, "lineage": list(map(_origin_document, origins))})
        return
    print("\n".join(line for origin in origins for line in _origin_lines(opened.calendar, origin)))


def _url(lab: "Lab") -> str:
    return lab.resolve(lab.settings.artefact_url)


def _check_artefact(lab: "Lab", arm: str, version: str) -> None:
    """Load a version, so that what cannot be loaded is never promoted."""
    from armlift.artefacts import load_artefact

    load_artefact(_url(lab), arm, version)


def _where(scope: str) -> str:
    return "every experiment" if scope == "*" else f"experiment {scope}"


def _serving(lab: "Lab", engine: "Engine", arm: str) -> str:
    from armlift.errors import InputError
    from armlift.promotions import history, serving_version
    from armlift.store.database import reading

    with reading(engine) as connection:
        row = serving_version(connection, arm, None)
        known = [row.version for row in history(connection, arm)]
    if row is not None:
        return row.version
    if not known:
        lab.arm(arm)
    raise InputError(
        f"arm {arm}: has no promoted version in scope '*'; name one with --version"
        + (f", such as {known[0]}" if known else "")
    )


def _document(lab: "Lab", row: "ModelRow") -> dict[str, Any]:
    """Give all that is known of a version: its row, and its manifest's figures; None where that is lost."""
    from armlift.artefacts import read_manifest
    from armlift.errors import InputError

    try:
        manifest = read_manifest(_url(lab), row.arm, row.version)
    except InputError:
        manifest = None
    document = {key: value for key, value in row._asdict().items() if key != "arm"}
    return {
        **document,
        "created": manifest and manifest.created,
        "figures": None if manifest is None else manifest.figures,
    }


def _line(calendar: "Calendar", one: "Mapping[str, Any]") -> str:
    until = calendar.show(one["data_until"])
    facts = [f"{one['version']}  {one['state']:<9}  {one['scope']:<12}  data until {until}"]
    if one["promoted"] is not None:
        facts.append(f"promoted {calendar.show(one['promoted'])}")
    if one["parent"] is not None:
        facts.append(f"from {one['parent']}")
    if one["figures"] is None:
        facts.append("its artefact is lost")
    else:
        facts += _main(one["figures"])
    return "  ".join([*facts, *(one["reasons"] or ())])


def _main(figures: "Mapping[str, float]") -> list[str]:
    return [f"{name} {value:.4f}" for name, value in figures.items() if name.endswith(MAIN_FIGURES)]


def _origin_document(origin: "Origin") -> dict[str, Any]:
    return {
        "version": origin.version,
        "parent": origin.parent,
        "models": [row._asdict() for row in origin.rows],
        "manifest": None if origin.manifest is None else origin.manifest.model_dump(mode="json"),
        "lost": origin.lost,
        "jobs": [job._asdict() for job in origin.jobs],
    }


def _origin_lines(calendar: "Calendar", origin: "Origin") -> list[str]:
    lines = [f"{origin.version}" + (f", from {origin.parent} on" if origin.parent else ", from nothing")]
    manifest = origin.manifest
    if manifest is None:
        lines.append(f"  artefact    {origin.lost}")
    else:
        code = ", ".join(f"{name} {version}" for name, version in manifest.code.items())
        settings = {key: value for key, value in manifest.definition.items() if key != "description"}
        lines += [
            f"  data        {manifest.data_hash}, until {calendar.show(manifest.data_until)}",
            f"  code        {code or 'not recorded'}",
            "  definition  " + ", ".join(f"{key}: {value}" for key, value in settings.items()),
            f"  created     {manifest.created}",
        ]
        lines += [f"  figures     {', '.join(main)}" for main in [_main(manifest.figures)] if main]
    for row in origin.rows:
        since = f" on {calendar.show(row.promoted)}" if row.promoted is not None else ""
        lines.append(f"  {row.state:<11} in scope {row.scope}{since}")
    for job in origin.jobs:
        lines.append(f"  job         {job.job} {job.subject}, run {job.id}, {calendar.show(job.started)}")
    return lines
