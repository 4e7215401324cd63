"""The verdict in the HTML report: its sentence, what stands in the way of shipping, and its rules."""

from armlift.rendering.markup import Markup, join, tag, titled
from armlift.rendering.words import OUTCOMES, VERDICTS, decided, further_reasons
from armlift.report import Report
from armlift.verdict import Ruling

VERDICT_MEANINGS = {
    "ship": "An arm is better than the control beyond chance, and its guardrails stay within their margins.",
    "do_not_ship": "Every arm is worse than the control beyond chance, or past a guardrail, or has "
    "no lift worth having.",
    "keep_running": "No arm is proven better or worse yet.",
    "broken": "A trust check failed: something is wrong with the run, so its figures mean nothing.",
    "cannot_tell": "This run does not settle which arm is better. Read no winner into its figures.",
}
BADGES = {"passed": ("✓", "ok"), "decided": ("●", "decided"), "not_asked": ("–", "")}
"""The symbol of each outcome and the class that colours it."""


def verdict_section(report: Report) -> Markup:
    """Write the verdict: the sentence first, and below it what it rests on."""
    verdict = report.verdict
    return titled(
        f"Verdict: {VERDICTS[verdict.status]}",
        tag("p", report.sentence, class_="sentence"),
        tag("p", VERDICT_MEANINGS[verdict.status], " (", tag("code", verdict.status), ")", class_="muted"),
        _listed("Decisions", [decided(one) for one in report.decisions]),
        _listed("Reasons", further_reasons(verdict)),
        _listed("Why not ship", verdict.why_not_ship),
        tag("h3", "Rules, in the order they are asked"),
        tag("ol", *map(_ruling, verdict.trace), class_="rules"),
        name="verdict",
        class_=f"verdict {verdict.status}",
    )


def _listed(title: str, texts: list[str]) -> Markup:
    return join(tag("h3", title), tag("ul", *(tag("li", text) for text in texts))) if texts else Markup("")


def _ruling(ruling: Ruling) -> Markup:
    symbol, kind = BADGES[ruling.outcome]
    mark = tag("span", f"{symbol} ", aria_hidden="true")
    badge = tag("span", mark, OUTCOMES[ruling.outcome], class_=f"badge {kind}".strip())
    title = tag("strong", ruling.rule.replace("_", " ").capitalize())
    return tag("li", badge, tag("p", title, f": {ruling.sentence}."))
