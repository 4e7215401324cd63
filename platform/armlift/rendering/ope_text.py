"""An off-policy evaluation as text for the terminal; it fits 80 columns."""

from collections.abc import Iterator
from textwrap import wrap

from armlift.offpolicy.assessment import Assessment
from armlift.rendering.words import count, plain
from armlift.stats.ope import PolicyValue
from armlift.stats.slate_ope import SlateValue

WIDTH = 80
_ROW = "  {:<21}{:>11}{:>23}{:>13}{:>10}"


def text_of(found: Assessment) -> Iterator[str]:
    """Write an assessment line by line."""
    positions = f", {len(found.positions)} positions" if len(found.positions) > 1 else ""
    yield from wrap(f"Policy {found.policy}, from a log of {found.source}", WIDTH, subsequent_indent="  ")
    yield from wrap(
        f"{count(found.rows)} rows, {count(found.items)} items{positions}; "
        f"{count(found.units)} units ({found.unit})",
        WIDTH,
    )
    interval = f"{100 * (1 - found.logged.alpha):g}% interval"
    yield ""
    yield "Reward a row"
    yield _ROW.format("", "value", interval, "half-width", "eff. rows").rstrip()
    yield _values("the log's own policy", found.logged, found.logged.effective_rows)
    if found.own is not None:
        yield _values("the policy's own log", found.own, found.own.effective_rows)
    for one in found.values:
        mark = " *" if one.method == found.trusted else ""
        yield _values(one.method + mark, one, one.effective_rows)
    if found.slates:
        yield "Reward a slate"
        for slate in found.slates:
            yield _values(slate.method, slate, slate.effective_slates)
    yield ""
    yield from _diagnostics(found)
    yield ""
    for number, sentence in enumerate(found.advice):
        start = "* " if not number and found.trusted else "- "
        yield from wrap(sentence, WIDTH, initial_indent=start, subsequent_indent="  ")
    for note in found.notes:
        yield from wrap(f"Note: {note}", WIDTH, subsequent_indent="  ")
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in found.dropped.items() if number)
    yield from wrap(f"Rows left out: {dropped or 'none'}", WIDTH, subsequent_indent="  ")


def _values(name: str, one: PolicyValue | SlateValue, effective: float | None) -> str:
    """Write a row; where there is no interval, the status stands in its place."""
    if one.low is None or one.high is None or one.value is None:
        return _ROW.format(name, plain(one.value), one.status, "", "").rstrip()
    interval = f"{plain(one.low)} .. {plain(one.high)}"
    half = plain((one.high - one.low) / 2)
    rows = "-" if effective is None else f"{effective:,.0f}"
    return _ROW.format(name, plain(one.value), interval, half, rows)


def _diagnostics(found: Assessment) -> Iterator[str]:
    weights, support = found.weights, found.support
    yield "Weights and support"
    known = weights.mean_low is not None and weights.mean_high is not None
    between = f" ({plain(weights.mean_low)} .. {plain(weights.mean_high)})" if known else ""
    yield f"  mean weight {plain(weights.mean)}{between}, 1 where the log supports the policy"
    effective = "-" if weights.effective_rows is None else f"{weights.effective_rows:,.0f}"
    top = "-" if weights.top_share is None else f"{weights.top_share:.1%}"
    yield f"  effective rows {effective}; largest weight {plain(weights.maximum)}; top 1% of rows hold {top}"
    yield f"  of the policy: never logged {support.never:.1%}, seldom logged {support.seldom:.1%}"
    if found.clip is not None:
        yield f"  weights cut to {found.clip:g}: {count(weights.clipped)}, {weights.clipped_share:.1%} of all"
