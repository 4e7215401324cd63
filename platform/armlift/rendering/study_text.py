"""What a study found, as text for the terminal; it fits 80 columns."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from armlift.evaluation import Interval
from armlift.findings import Findings, Row, Section
from armlift.rendering.words import count, plain

WIDTH = 80
_ROW = "{:<24}{:>7} {:<17}{:>8} {:<19}"
_COLUMN = 14
_HEADED = ("HR@", "NDCG@")


def print_findings(found: Findings) -> None:
    """Print findings: the tables of all units, those of groups, notes, and the answer last."""
    for line in text_of(found):
        print(line)


def text_of(found: Findings) -> Iterator[str]:
    """Write findings line by line."""
    seeds = ", ".join(map(str, found.seeds))
    yield from wrap(f"{found.study}: {found.question}", WIDTH)
    yield f"arm {found.arm}, split {found.split}, seeds {seeds}, {found.metric}, 95 % intervals"
    for section in found.sections:
        yield ""
        yield f"{section.name} ({count(section.units)})"
        yield from _table(found.metric, section)
        if section is found.sections[0]:
            yield from _others(found.metric, section.rows)
        else:
            yield from wrap(section.answer, WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield ""
    for note in found.notes:
        yield from wrap(f"Note: {note}", WIDTH, subsequent_indent="  ")
    yield from wrap(f"Answer: {found.answer}", WIDTH, subsequent_indent="  ")


def _table(metric: str, section: Section) -> Iterator[str]:
    """Write each setting's value, and its difference to its base."""
    if not any(metric in row.values for row in section.rows):
        return
    yield _ROW.format("", metric, "", "against", "its base").rstrip()
    for row in section.rows:
        if row.status == "no_data":
            yield from _lack(row)
            continue
        value, gap = row.values.get(metric), row.differences.get(metric)
        cells = (*_cells(value, ""), *_cells(gap, "+"))
        yield _ROW.format(_name(row.setting), *cells).rstrip()


def _lack(row: Row) -> Iterator[str]:
    text = f"{_name(row.setting):<24}no_data: {row.reason}"
    yield from wrap(text, WIDTH, subsequent_indent=" " * 24, drop_whitespace=True) or [text]


def _cells(found: Interval | None, sign: str) -> tuple[str, str]:
    if found is None:
        return "", ""
    return f"{found.value:{sign}.4f}", f"[{found.low:{sign}.4f}, {found.high:{sign}.4f}]"


def _others(metric: str, rows: Sequence[Row]) -> Iterator[str]:
    """Write what else is known of the settings, four columns at a time."""
    names = [
        name
        for row in rows
        for name in (*row.values, *row.figures)
        if (name != metric or name in row.figures) and not name.startswith(_HEADED)
    ]
    names = list(dict.fromkeys(names))
    known = [row for row in rows if row.status == "ok"]
    for start in range(0, len(names), 4):
        part = names[start : start + 4]
        heads = [wrap(name, _COLUMN - 1) for name in part]
        yield ""
        for line in range(max(map(len, heads))):
            cells = [head[line] if line < len(head) else "" for head in heads]
            yield (" " * 24 + "".join(f"{cell:>{_COLUMN}}" for cell in cells)).rstrip()
        for row in known:
            found = {**row.figures, **row.values}
            cells = [plain(found[name].value) if name in found else "-" for name in part]
            yield f"{_name(row.setting):<24}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def _name(setting: str) -> str:
    return setting if len(setting) <= 23 else f"{setting[:22]}…"
