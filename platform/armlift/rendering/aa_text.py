"""An A/A check as text for the terminal; it fits 80 columns."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from armlift.aa import Checked
from armlift.rendering.words import count, plain, probability

WIDTH = 80
_ROW = "{:<28}{:>9}{:>8}{:>17}{:>9}{:>9}"
VERDICTS = {
    "sound": "sound: its p-values are what they say, as far as new splits can tell",
    "too_often": "rejects too often: it would call differences real that are chance; take more units, cap "
    "the metric (winsorise), or split more evenly",
    "too_seldom": "rejects too seldom: a few units weigh so much that real differences go unseen; take more "
    "units, or cap the metric (winsorise)",
    "uneven": "uneven: about as many rejections as there should be, but small p-values are not what they "
    "say; few units, or few values, carry the metric",
}


def text_of(checked: Sequence[Checked], alpha: float) -> Iterator[str]:
    """Write the checks line by line."""
    yield _ROW.format("", "units", "splits", f"p below {alpha:g}", "distance", "its p").rstrip()
    for one in checked:
        found = one.found
        known = found.share is not None and found.error is not None
        share = f"{found.share:.1%} +- {found.error:.1%}" if known else "-"
        yield _ROW.format(
            one.metric[:27], count(one.units), count(found.n), share,
            plain(found.distance), probability(found.distance_p),
        ).rstrip()  # fmt: skip
        yield from wrap(said(one), WIDTH, initial_indent="  ", subsequent_indent="  ")


def said(one: Checked) -> str:
    """Say the verdict of a metric in words."""
    if one.verdict == "no_data":
        return f"not checked: {one.status if one.status != 'ok' else 'too few splits have a p-value'}"
    return VERDICTS[one.verdict]
