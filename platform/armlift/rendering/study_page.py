"""What a study found as one HTML file that needs nothing else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from armlift.evaluation import Interval
from armlift.findings import Findings, Row, Section
from armlift.rendering.html import head, write_page
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.study_plot import bars_of, interval_plot
from armlift.rendering.words import count, plain


def write_study(found: Findings, path: Path) -> None:
    """Write findings to a file, which appears whole or not at all; raises InputError if it cannot."""
    write_page(render(found), path)


def render(found: Findings) -> str:
    """Give findings as the text of an HTML file."""
    title = f"Study {found.study}: {found.arm}"
    facts = (
        f"Arm {found.arm} · split {found.split} · seeds {', '.join(map(str, found.seeds))} · "
        f"{found.metric} · 95 % intervals over units"
    )
    header = tag("header", tag("h1", title), tag("p", found.question), tag("p", facts, class_="facts"))
    answer = titled("Answer", tag("p", found.answer), name="answer", class_="verdict")
    sections = [_section(found, section, number) for number, section in enumerate(found.sections)]
    main = tag("main", header, answer, *sections, _notes(found))
    return f"<!DOCTYPE html>\n{tag('html', head(title), tag('body', main), lang='en')}\n"


def _section(found: Findings, section: Section, number: int) -> Markup:
    title, bars = bars_of(section.rows, found.metric, lower_is_better=found.lower_is_better)
    plot = interval_plot(title, bars, name=f"plot{number}")
    said = tag("p", section.answer) if number else ""
    name = f"{section.name} ({count(section.units)})"
    return titled(name, said, tag("figure", plot), *_tables(section.rows), name=f"section{number}")


def _tables(rows: Sequence[Row]) -> Iterator[Markup]:
    """Write all numbers: a table of means over units, one of other figures."""
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    if names:
        yield _table("Means over units, and differences to the base", rows, names, of_units=True)
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    if names:
        yield _table("Other figures: median of the seeds (least to greatest)", rows, names, of_units=False)


def _table(caption: str, rows: Sequence[Row], names: Sequence[str], *, of_units: bool) -> Markup:
    body = []
    for row in rows:
        cells = []
        for name in names:
            found = (row.values if of_units else row.figures).get(name)
            gap = row.differences.get(name) if of_units else None
            cells.append(_cell(found, gap) if row.status == "ok" else "no_data")
        reason = f" ({row.reason})" if row.reason else ""
        body.append(tag("tr", tag("th", f"{row.setting}{reason}", scope="row"), numbers(*cells)))
    head_row = heads("Setting", *names, numbers=frozenset(names))
    return scrolling(caption, head_row, tag("tbody", *body))


def _cell(found: Interval | None, gap: Interval | None) -> str:
    if found is None:
        return "-"
    text = f"{plain(found.value)} ({plain(found.low)} to {plain(found.high)})"
    return text if gap is None else f"{text}; {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"


def _notes(found: Findings) -> Markup:
    notes = [*found.notes, f"sha256 of the data: {found.file_hash}"]
    return titled("Notes", join(*(tag("p", note) for note in notes)), name="notes")
