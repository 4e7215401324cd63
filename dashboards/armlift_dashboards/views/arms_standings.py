"""What ratings of prompts say: means by source, the model against each, and how far raters agree."""

from collections.abc import Sequence

import altair as alt
import streamlit as st

from armlift.ratings import LEAST_UNITS, MODEL, SCALE, Rating, Source, Standing, Summary, summarise
from armlift.rendering.markup import Markup, heads, join, numbers, scrolling, tag, titled
from armlift.rendering.words import count
from armlift.stats.agreement import Agreement
from armlift.stats.results import Effect
from armlift_dashboards import parts

SOURCES_ARE: dict[Source, str] = {
    "model": "what the model says to the unit",
    "popular": "the most popular items that the unit had not met",
    "random": "items of the catalogue, drawn at random",
    "shuffled": "what the model says to another unit",
}
EVERY = "every version"
RELY, TENTATIVE = 0.8, 0.667
"""From these on an alpha is relied on, or allows tentative conclusions (Krippendorff 2004, chapter 11)."""


def show_standings(ratings: Sequence[Rating], arm: str) -> None:
    """Show what the ratings of an arm's prompts say."""
    if not ratings:
        parts.empty(f"Nobody has rated prompts of {arm} yet.")
        return
    versions = list(dict.fromkeys(one.version for one in reversed(ratings)))
    chosen = EVERY
    if len(versions) > 1:
        chosen = st.selectbox("Ratings of", [EVERY, *versions], key="rated", bind="query-params")
    some = [one for one in ratings if chosen in (EVERY, one.version)]
    summary = summarise(some)
    parts.section(means(summary, arm), key="standings")
    if any(one.mean.value is not None for one in summary.standings):
        text = "Mean rating of each source with its 95 % interval; the table above has the numbers"
        st.altair_chart(chart(summary), alt=text, key="standings-chart")
    agreed = titled("Do raters agree?", tag("p", agrees(summary.agreement)), name="agreement")
    parts.section(agreed, key="agreement")


def means(summary: Summary, arm: str) -> Markup:
    """Write out how many rated, and the means with what they say."""
    people = f"{count(summary.raters)} rater{'s' if summary.raters > 1 else ''}"
    units = f"{count(summary.units)} unit{'s' if summary.units > 1 else ''}"
    times = f"{count(summary.rated)} time{'s' if summary.rated > 1 else ''}"
    alone = (
        " One person's opinions say nothing of what others would say; the intervals are of units."
        if summary.raters == 1
        else ""
    )
    facts = tag("p", f"The lists of {units} were rated {times}, by {people}.{alone}")
    return titled(f"What people think of {arm}'s prompts", facts, _table(summary), name="means")


def _table(summary: Summary) -> Markup:
    columns = ("Source", "Ratings", "Mean (1 to 5)", "95 % interval", "Model less it", "its 95 % interval")
    head = heads(*columns, "Reading", numbers=frozenset(columns[1:]))
    caption = (
        "Ratings by source. Intervals are of units as clusters, each by itself 95 %; the model is compared "
        "with the others within units"
    )
    return scrolling(
        caption, head, tag("tbody", join(*(_row(one) for one in summary.standings))), class_="standings"
    )


def _row(one: Standing) -> Markup:
    mean, behind = one.mean, one.behind
    difference = None if behind is None else behind.difference
    ends = (None, None) if behind is None else (behind.difference_low, behind.difference_high)
    return tag(
        "tr",
        tag(
            "th",
            tag("strong", one.source),
            tag("span", f" {SOURCES_ARE[one.source]}", class_="muted"),
            scope="row",
        ),
        numbers(
            count(one.ratings),
            _number(mean.value),
            _ends(mean.low, mean.high),
            _number(difference, sign=True),
            _ends(*ends, sign=True),
        ),
        tag("td", reading(one), class_="reading"),
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:+.2f}" if sign else f"{value:.2f}"


def _ends(low: float | None, high: float | None, *, sign: bool = False) -> str:
    return "-" if low is None or high is None else f"{_number(low, sign=sign)} to {_number(high, sign=sign)}"


def reading(one: Standing) -> str:
    """Say in words what a source's ratings mean."""
    if one.mean.status == "too_few":
        return f"too few: {one.mean.n} of the {LEAST_UNITS} units it takes"
    if one.mean.status == "no_data":
        return "not rated"
    if one.source == MODEL or one.behind is None:
        return "-"
    return _against(one.behind)


def _against(behind: Effect) -> str:
    if behind.difference_low is None or behind.difference_high is None:
        return "the difference never varies, so nothing says how sure it is"
    if behind.difference_low > 0:
        return "the model is rated higher"
    if behind.difference_high < 0:
        return "the model is rated lower"
    return "cannot be told from the model"


def agrees(found: Agreement) -> str:
    """Say in words how far raters agree."""
    if found.status == "no_data":
        return "No list was rated by two people yet, so nothing is known of that."
    if found.status == "too_few":
        units = f"{found.clusters} unit{'s' if found.clusters > 1 else ''}"
        return f"Two people or more rated lists of {units}; it takes {LEAST_UNITS} units to tell."
    if found.alpha is None or found.low is None or found.high is None:
        return "All ratings are the same, so agreement cannot be told from chance."
    says = (
        "they agree well enough to rely on the means"
        if found.alpha >= RELY
        else "they agree well enough for tentative conclusions"
        if found.alpha >= TENTATIVE
        else "they agree too little: a mean is the opinion of these very raters"
    )
    return (
        f"Krippendorff's alpha is {found.alpha:.2f} ({found.low:.2f} to {found.high:.2f}, 95 %), of "
        f"{found.rated:,} lists that two people or more rated: {says}. It is 1 where raters always agree, "
        "and 0 where they agree as chance would have it."
    )


def chart(summary: Summary) -> alt.LayerChart | alt.FacetChart:
    """Draw the means with their intervals."""
    rows = [
        {"source": one.source, "mean": one.mean.value, "low": one.mean.low, "high": one.mean.high}
        for one in summary.standings
        if one.mean.value is not None
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("source:N", sort=list(SOURCES_ARE), title="Source of the list")
    )
    scale = alt.Scale(domain=[SCALE[0], SCALE[-1]])
    ends = base.transform_filter("isValid(datum.low)").mark_bar(size=3)
    layers = alt.layer(
        ends.encode(x=alt.X("low:Q", scale=scale, title="Mean rating (1 to 5)"), x2="high:Q"),
        base.mark_point(size=90, filled=True, opacity=1).encode(
            x=alt.X("mean:Q", scale=scale, title="Mean rating (1 to 5)"),
            shape=alt.condition("datum.source == 'model'", alt.value("diamond"), alt.value("circle")),
            tooltip=[
                alt.Tooltip("source:N", title="Source"),
                alt.Tooltip("mean:Q", title="Mean", format=".2f"),
                alt.Tooltip("low:Q", title="From", format=".2f"),
                alt.Tooltip("high:Q", title="To", format=".2f"),
            ],
        ),
    )
    return layers.properties(height=alt.Step(32))
