"""The report as one HTML file that needs nothing else: no network, no script, styles and plot inside."""

import os
from importlib.resources import files
from pathlib import Path

from armlift.check import Check
from armlift.errors import InputError
from armlift.rendering.forest_plot import figure
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.novelty_section import novelty_section
from armlift.rendering.predicted_section import predicted_section
from armlift.rendering.reading import gain_of
from armlift.rendering.tables import comparisons, left_out, origin
from armlift.rendering.truth_section import truth_section
from armlift.rendering.verdict_section import verdict_section
from armlift.rendering.words import count, kind_of, percent, plain
from armlift.report import Report
from armlift.trust import BIASING, LEAST_DIFFERING, LEAST_MATCHED

BADGES = {
    "ok": ("✓", "ok"),
    "warn": ("!", "warning"),
    "fail": ("✕", "failed"),
    "no_data": ("?", "no data"),
    "not_applicable": ("–", "not applicable"),
}
CHECKS = {
    "random_exposure": "Random exposure",
    "srm": "Sample ratio",
    "srm_always_valid": "Sample ratio, at every look",
    "several_exposures": "Units in several arms",
    "exclusions": "Units that rules leave out",
    "heavy_tails": "Units enough for heavy tails",
    "pre_exposure_bias": "Alike before exposure",
    "event_loss": "Exposed units without impressions",
    "stale_model": "Age of the models",
    "symbiosis": "Arms learning from each other",
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
TELLS = "tells only how units met what its policy chose for them"
BY_ARM = ("Matched impressions", "Requests with another slate", "Smallest detectable lift")


def write_html(report: Report, path: Path) -> None:
    """Write a report to a file, which appears whole or not at all; raises InputError if it cannot."""
    write_page(render(report), path)


def write_page(page: str, path: Path) -> None:
    """Write a page to a file, which appears whole or not at all; raises InputError if it cannot."""
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    # The name of a log file may hold bytes that are no text; they become question marks.
    content = page.encode("utf-8", "replace")
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be written: it is not a file")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def render(report: Report) -> str:
    """Give a report as the text of an HTML file."""
    title = f"Lift report: {report.experiment.name}"
    body = tag(
        "body",
        banner() if report.run.synthetic else "",
        note() if report.run.modelled else "",
        tag(
            "main",
            _header(report, title),
            verdict_section(report),
            *(bias(check) for check in report.checks if check.name in BIASING),
            resolution(report),
            _checks(report),
            titled(
                f"{gain_of(report).capitalize()} against {report.experiment.control}",
                figure(report),
                name="lift",
            ),
            comparisons(report),
            truth_section(report),
            predicted_section(report),
            novelty_section(report),
            left_out(report),
            origin(report),
        ),
    )
    shown = f"SYNTHETIC: {title}" if report.run.synthetic else title
    return f"<!DOCTYPE html>\n{tag('html', head(shown), body, lang='en')}\n"


def head(title: str) -> Markup:
    """Write the head of a page, with the styles."""
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing is fetched or run, whatever a name in the report holds.
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup((files("armlift.rendering") / "report.css").read_text(encoding="utf-8"))),
    )


def banner() -> Markup:
    """Say that users are simulated."""
    text = ": users are simulated, these figures say nothing of real ones."
    return tag("p", tag("strong", "SYNTHETIC DATA"), text, class_="synthetic", role="note")


def note() -> Markup:
    """Say that a model answered in the units' place."""
    text = ": units did what a model says, so the lift is the model's, not the log's."
    return tag("p", tag("strong", "MODELLED OUTCOMES"), text, class_="synthetic", role="note")


def _header(report: Report, title: str) -> Markup:
    run, described = report.run, report.experiment.description
    facts = f"Run {run.run} · {kind_of(run)} · as of {report.as_of}"
    paragraph = tag("p", described) if described else ""
    return tag("header", tag("h1", title), paragraph, tag("p", facts, class_="facts"))


def bias(check: Check) -> Markup:
    """Warn of lifts that the log's own policy may have made; nothing where exposure was random."""
    if check.status not in ("warn", "fail"):
        return Markup("")
    tells = "knows only part of what arms chose" if check.name == "answered_pairs" else TELLS
    text = (
        f"{_capital(check.meaning)}. Such a log {tells}, so "
        "an arm may look better or worse here than it would in front of users."
    )
    return titled("Warning: these lifts may be biased", tag("p", text), name="bias", class_="bias")


def resolution(report: Report) -> Markup:
    """Say how finely the run can tell arms apart."""
    found, first = report.resolution, report.experiment.metrics.primary[0]
    detectable = _card(
        "Smallest detectable lift",
        percent(found["mde"]),
        f"Of {first}; a lift of this size is found in 80% of such runs, a smaller one less often.",
    )
    title = "Resolution: what this run can tell apart"
    if found["matched"] is None and not found["compared_requests"]:
        return titled(title, tag("dl", detectable, class_="cards"), name="resolution")
    differing = _card(
        "Requests on which slates differ",
        percent(found["differing_requests"]),
        f"Of {count(found['compared_requests'])} compared requests. Where slates are the same, arms "
        f"cannot differ; below {LEAST_DIFFERING:.0%} nothing can be told.",
    )
    cards = tag("dl", differing, _matched(report), _answered(report), detectable, class_="cards")
    return titled(title, cards, _by_arm(report), name="resolution")


def _matched(report: Report) -> Markup:
    """Say how many impressions count; nothing where users saw all that arms chose."""
    matched = report.resolution["matched"]
    if matched is None:
        return Markup("")
    meaning = f"Of the arm with fewest. {_counting(report)}; below {LEAST_MATCHED} nothing can be told."
    return _card("Matched impressions", count(matched), meaning)


def _counting(report: Report) -> str:
    if report.run.modelled:
        return "All that the arm chose counts, for a model answered"
    return "Only what the log shows and the arm chose counts"


def _answered(report: Report) -> Markup:
    """Say what share of the pairs asked of a matrix it answered; nothing in other modes."""
    share = report.resolution.get("answered")
    if share is None:
        return Markup("")
    meaning = "Of those asked for by the arm that was answered least; the rest is not in the log, or was met."
    return _card("Pairs answered", percent(share), meaning)


def _card(name: str, value: str, meaning: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", meaning))


def _by_arm(report: Report) -> Markup:
    rows = []
    matching = report.resolution["matched"] is not None
    for arm, own in report.resolution["by_arm"].items():
        compared = (percent(own["differing_requests"]), percent(own["mde"]))
        figures = ("control", "control") if arm == report.experiment.control else compared
        matched = [count(own["matched"])] if matching else []
        rows.append(tag("tr", tag("th", arm, scope="row"), numbers(*matched, *figures)))
    told = BY_ARM if matching else BY_ARM[1:]
    columns = heads("Arm", *told, numbers=frozenset(told))
    return scrolling("Resolution by arm", columns, tag("tbody", *rows))


def _checks(report: Report) -> Markup:
    return titled("Trust checks", tag("ul", *map(_check, report.checks), class_="checks"), name="checks")


def _check(check: Check) -> Markup:
    symbol, words = BADGES[check.status]
    badge = tag("span", tag("span", f"{symbol} ", aria_hidden="true"), words, class_=f"badge {check.status}")
    value = "" if check.value is None else f" = {plain(check.value)}"
    title = join(
        tag("strong", CHECKS.get(check.name, _capital(check.name.replace("_", " ")))),
        " ",
        tag("code", f"{check.name}{value}", class_="muted"),
    )
    return tag("li", badge, tag("div", tag("p", title), tag("p", f"{_capital(check.meaning)}.")))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
