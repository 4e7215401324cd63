"""The section of the HTML report on the truth: true lifts of a simulation beside the estimated ones."""

from armlift.rendering.markup import Markup, heads, numbers, scrolling, tag, titled
from armlift.rendering.words import WITHIN, between, count, signed, true_lift
from armlift.report import Report
from armlift.truth import Beside, beside

_COLUMNS = ("Metric", "Arm", "Estimated lift", "Interval", "True lift ± standard error", "Users", "Truth")
_TEXTS = frozenset({"Metric", "Arm", "Truth"})


def truth_section(report: Report) -> Markup:
    """Write the true lifts beside the estimates; nothing where they are not known."""
    pairs = beside(report.truth, report.comparisons)
    if not pairs:
        return Markup("")
    columns = heads(*_COLUMNS, numbers=frozenset(_COLUMNS) - _TEXTS)
    return titled(
        "The truth",
        tag(
            "p",
            "All simulated users met every arm, one after another and with the same luck. "
            "Some five of a hundred intervals miss the truth.",
        ),
        scrolling("True lifts beside the estimated ones", columns, tag("tbody", *map(_row, pairs))),
        name="truth",
    )


def _row(pair: Beside) -> Markup:
    truth, one = pair.truth, pair.comparison
    interval = one.status if pair.inside is None else between(one.lift_low, one.lift_high)
    cells = (signed(one.lift), interval, true_lift(truth), count(truth.users))
    return tag(
        "tr", tag("th", truth.metric, scope="row"), tag("td", truth.arm), numbers(*cells),
        tag("td", WITHIN[pair.inside]),
    )  # fmt: skip
