"""Checks of the log behind a replay: whether its policy may have made the lift."""

from armlift.check import Check
from armlift.runs import DENSE, Run
from armlift.stats.results import CheckStatus

ANSWERED_WARN = 0.9
"""Share of the pairs asked of a matrix that it must answer, of the arm it answers fewest of."""


def random_exposure(run: Run) -> Check:
    """Check that what outcomes rest on was shown at random: rows replayed, or those a model learned from."""
    if run.live:
        return Check("random_exposure", "not_applicable", None, "the splitter chose what units met")
    if run.imported or run.simulated:
        return Check(
            "random_exposure", "not_applicable", None, "no log was replayed: arms chose what was shown"
        )
    if run.mode == DENSE:
        return Check(
            "random_exposure", "not_applicable", None, "the matrix answers whatever its policy showed"
        )
    rows, random = run.resolution["rows"], run.resolution["random_rows"]
    share = None if random is None or not rows else random / rows
    status: CheckStatus = "ok" if share == 1.0 else "warn"
    which = "rows the model was fitted on" if run.modelled else "replayed rows"
    if share is None:
        meaning = "the log does not say which rows were shown at random: lifts may be biased by its policy"
    elif status == "warn":
        meaning = f"{share:.1%} of the {which} were shown at random: lifts may be biased by the log's policy"
    else:
        meaning = f"all {which} were shown uniformly at random"
    if run.modelled:
        meaning += "; units did what a model fitted on the log draws: the lift is the model's, not the log's"
    return Check("random_exposure", status, share, meaning)


def answered_shares(run: Run) -> dict[str, float]:
    """Give the share of the pairs asked of a matrix that it answered, by arm; nothing in other modes."""
    asked, answered = run.resolution.get("asked_pairs", {}), run.resolution.get("answered_pairs", {})
    return {arm: answered.get(arm, 0) / asked[arm] for arm in run.arms if asked.get(arm)}


def answered_pairs(run: Run) -> list[Check]:
    """Check that a matrix answered nearly all that arms asked of it; no other run has such a check."""
    if run.mode != DENSE:
        return []
    shares = answered_shares(run)
    if len(shares) < len(run.arms):
        return [Check("answered_pairs", "no_data", None, "an arm was asked nothing")]
    least = min(shares, key=lambda arm: shares[arm])
    share = shares[least]
    meaning = (
        f"{share:.1%} of the pairs that {least} asked for were answered, of every other arm as many or more"
    )
    if share < ANSWERED_WARN:
        meaning += "; sums per unit reward likeness to the log, and lifts may be biased by what it holds"
    return [Check("answered_pairs", "warn" if share < ANSWERED_WARN else "ok", share, meaning)]
