"""The trust strip: every check as a badge that opens, with what it found and what that means."""

from collections.abc import Sequence

from armlift.check import Check
from armlift.rendering.html import BADGES, CHECKS
from armlift.rendering.markup import Markup, tag
from armlift.rendering.words import plain
from armlift_dashboards.parts import badge

EXPLAINED = {
    "random_exposure": (
        "A log whose policy chose what users met tells only how they met that. Random exposure tells how "
        "they would meet anything."
    ),
    "answered_pairs": (
        "Of a matrix, what no row answers cannot count. Where arms are answered unlike, so are their lifts."
    ),
    "srm": (
        "The arms should hold users in the shares that their weights say. If they do not, users were lost "
        "or sent astray, and the groups can no longer be compared."
    ),
    "srm_always_valid": "The same question, by a test that may be looked at every day.",
    "several_exposures": (
        "A user who met two arms belongs to neither. A few are left out; many mean that routing does not "
        "hold."
    ),
    "exclusions": (
        "Rules that leave out users must leave out as many of each arm, or the arm itself decides who counts."
    ),
    "heavy_tails": (
        "A few users who do most of everything make means jump. With too few users the interval misses the "
        "truth more often than it says."
    ),
    "pre_exposure_bias": (
        "Before they met an arm, the groups should have been alike. If they were not, the lift may be "
        "theirs and not the arm's."
    ),
    "event_loss": "A user who met an arm should have been shown something. If not, events were lost.",
    "stale_model": (
        "A model that learned from old days recommends for them. Its lift is not that of a fresh one."
    ),
    "symbiosis": (
        "Where arms learn from one another's users, a weak arm lives on what a strong one found, and the "
        "lift looks smaller than it is."
    ),
    "lateness": (
        "Events that arrive late change figures afterwards. Days that are not complete may still grow."
    ),
    "fallbacks": (
        "Where an arm cannot answer in time, another one does in its name, and the comparison counts it."
    ),
    "merged_ids": (
        "Where two ids turn out to be one user, both count as one; in doubt the first merge counts."
    ),
}


def trust_strip(checks: Sequence[Check]) -> Markup:
    """Write the checks that apply as a strip, those that fail or warn first, and name those that do not."""
    order = {"fail": 0, "warn": 1, "no_data": 2, "ok": 3}
    asked = sorted((one for one in checks if one.status in order), key=lambda one: order[one.status])
    rest = [_title(one) for one in checks if one.status not in order]
    parts = [tag("ul", *map(_card, asked), class_="strip")]
    if rest:
        parts.append(tag("p", f"Do not apply to this run: {', '.join(rest)}.", class_="small"))
    return tag("div", *parts)


def _title(check: Check) -> str:
    return CHECKS.get(check.name, check.name.replace("_", " ").capitalize())


def _card(check: Check) -> Markup:
    symbol, words = BADGES[check.status]
    value = "" if check.value is None else f" = {plain(check.value)}"
    summary = tag("summary", badge(symbol, words, check.status), " ", _title(check))
    found = tag("p", f"{check.meaning[:1].upper()}{check.meaning[1:]}. ", tag("code", f"{check.name}{value}"))
    meant = EXPLAINED.get(check.name)
    means = [tag("p", tag("strong", "What it means: "), meant)] if meant else []
    state = {"open": ""} if check.status in ("fail", "warn") else {}
    return tag("li", tag("details", summary, found, *means, **state), data_check=check.name)
