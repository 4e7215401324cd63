import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import pytest

from armlift.decisions import Decision
from armlift.rendering.verdict_section import VERDICT_MEANINGS, verdict_section
from armlift.rendering.words import VERDICTS
from armlift.report import Report
from armlift.verdict import Status

Element = ElementTree.Element


def said(element: Element) -> str:
    return "".join(element.itertext())


def section(report: Report) -> Element:
    return ElementTree.fromstring(verdict_section(report))


def lists(root: Element) -> dict[str, list[str]]:
    """Give the lists below their titles."""
    return {
        said(title): [said(item) for item in below] for title, below in pairwise(root) if title.tag == "h3"
    }


def test_the_sentence_comes_first_and_what_it_rests_on_below(report: Report) -> None:
    root = section(report)
    assert said(root[0]) == "Verdict: cannot tell"
    assert said(root[1]) == report.sentence
    assert lists(root) == {
        "Reasons": ["the log's exposure is not random"],
        "Why not ship": ["random: the lift of click_rate may be 0", "guardrail hate_rate is in doubt"],
        "Rules, in the order they are asked": [
            "✓ passedTrust checks: none of 3 checks failed.",
            "● decidedRandom exposure: the log's exposure is not random.",
            "– not askedBetter: random_exposure decided before.",
        ],
    }


def test_a_ship_has_nothing_against_it(report: Report) -> None:
    shipped = report.verdict._replace(status="ship", why_not_ship=[])
    found = lists(section(replace(report, verdict=shipped)))
    assert list(found) == ["Reasons", "Rules, in the order they are asked"]
    assert found["Reasons"] == report.verdict.reasons


@pytest.mark.parametrize("status", VERDICTS)
def test_every_verdict_is_explained(report: Report, status: Status) -> None:
    root = section(replace(report, verdict=report.verdict._replace(status=status)))
    assert said(root[0]) == f"Verdict: {VERDICTS[status]}"
    assert said(root[2]) == f"{VERDICT_MEANINGS[status]} ({status})"
    assert root.get("class") == f"verdict {status}"


def test_decisions_stand_first_below_the_sentence(report: Report) -> None:
    made = Decision(
        "d1", "baselines", "86346f41d52f424c", "random", "ship", "5ba9e5c0ffee0001", "we <believe>", "ada",
        1_650_556_315_790, "cannot_tell", True,
    )  # fmt: skip
    found = lists(section(replace(report, decisions=[made])))
    assert next(iter(found.items())) == (
        "Decisions",
        [
            "ship random, against the verdict cannot_tell, by ada, 2022-04-21T15:51:55+00:00, on snapshot "
            "5ba9e5c0ffee0001: we <believe>"
        ],
    )
