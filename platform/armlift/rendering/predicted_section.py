"""The section of the HTML report on predicted lifts, beside the observed ones."""

from armlift.predictions import LEAST_EFFECTIVE, Predicted
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.words import between, count, plain, signed
from armlift.report import Report

_NUMBERS = ("Predicted lift", "Interval", "Effective rows", "Observed lift", "Observed interval", "z")
_MEANT = (
    "What each challenger would have earned on the control's own requests, weighted by the control's "
    "propensities, against what was observed. Where the two differ, propensities, routing or rewards are not "
    "what they should be."
)


def predicted_section(report: Report) -> Markup:
    """Write each challenger's predicted and observed lift; nothing where none was to be predicted."""
    if not report.predicted:
        return Markup("")
    metric = report.predicted[0].metric
    table = scrolling(
        f"{metric}: predicted from {count(report.predicted[0].requests)} requests of the control",
        heads("Arm", *_NUMBERS, "Reading", numbers=frozenset(_NUMBERS)),
        tag("tbody", *map(_row, report.predicted)),
    )
    return titled("Predicted against observed", tag("p", _MEANT), table, name="predicted")


def _row(one: Predicted) -> Markup:
    cells = join(
        numbers(signed(one.lift), between(one.lift_low, one.lift_high), f"{one.effective_rows:,.0f}"),
        numbers(signed(one.observed_lift), between(one.observed_low, one.observed_high), plain(one.z)),
        tag("td", reading_of(one) if one.lift is not None else statement_of(one), class_="wrap"),
    )
    return tag("tr", tag("th", one.arm, scope="row"), cells)


def reading_of(one: Predicted) -> str:
    """Say whether prediction and observation agree."""
    if one.z is None or one.agrees is None:
        return "nothing to hold it against"
    return f"{'agree' if one.agrees else 'differ'} (z = {one.z:.2f})"


def statement_of(one: Predicted) -> str:
    """Say why there is no prediction."""
    if one.status == "not_estimable":
        return "not_estimable: the control does not explore, so that its requests tell of nothing else"
    if one.status == "too_few":
        return f"too_few: {one.effective_rows:,.0f} effective rows, must be {LEAST_EFFECTIVE} or more"
    return f"{one.status}: the control's requests do not tell of it"
