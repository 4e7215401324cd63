"""The gate: what a new model must show before it serves, rule by rule."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from armlift.nightly import GateSettings

_RECALL = "NDCG@10"


class Ruling(NamedTuple):
    """A rule's answer; `passes` is None where the rule does not apply. `text` says it in a sentence."""

    rule: str
    passes: bool | None
    value: float | None
    allowed: float | None
    text: str


class Candidate(NamedTuple):
    """What is known of a new model.

    `figures` are those of its training, `evaluation` is what `steps.evaluate` gives, `megabytes` the size of
    its file; `finite` tells whether all its numbers are. It learned from data before `until` (UTC ms).
    """

    figures: Mapping[str, float]
    evaluation: Mapping[str, Any]
    megabytes: float
    finite: bool
    behaviours: int
    until: int


def judge(candidate: Candidate, settings: GateSettings) -> list[Ruling]:
    """Ask every rule; the model passes where none answers no."""
    return [
        *_of_the_model(candidate, settings),
        *_of_the_data(candidate, settings),
        _recall(candidate, settings),
        _not_worse(candidate, settings),
    ]


def refusals(rulings: list[Ruling]) -> list[str]:
    """Give the sentences of the rules that answered no."""
    return [one.text for one in rulings if one.passes is False]


def _of_the_model(candidate: Candidate, settings: GateSettings) -> Iterator[Ruling]:
    yield Ruling(
        "finite",
        candidate.finite,
        None,
        None,
        "all weights are numbers" if candidate.finite else "some weights are no numbers (NaN or infinite)",
    )
    metrics = candidate.evaluation["metrics"]
    yield _at_most("size", candidate.megabytes, settings.most_megabytes, "the model file has {} MB")
    yield _at_most(
        "latency",
        metrics.get("milliseconds"),
        settings.most_milliseconds,
        "a request takes {} ms (95th percentile)",
    )
    yield _at_most(
        "forgetting",
        candidate.figures.get("forgetting"),
        settings.most_forgetting,
        "fine-tuning added {} nats to the loss that pre-training brought down",
    )
    yield _at_most(
        "prompt_gap",
        metrics.get("prompt_gap"),
        settings.most_prompt_gap,
        "prompts are right more often on what was learned from than on new behaviours, by {} of them",
    )


def _of_the_data(candidate: Candidate, settings: GateSettings) -> Iterator[Ruling]:
    evaluation = candidate.evaluation
    seen = evaluation.get("promoted_until")
    if seen is not None and seen > candidate.until:
        text = "the promoted version has learned from what both are asked for: it is of a later night"
        yield Ruling("order", False, seen, candidate.until, text)
    yield _at_least("units", evaluation["units"], settings.minimum_units, "{} units can be asked")
    yield _at_least(
        "behaviours", candidate.behaviours, settings.minimum_behaviours, "{} behaviours were learned from"
    )
    yield _at_most(
        "short_histories",
        evaluation["short_histories"],
        settings.most_short_histories,
        f"{{}} of the units have under {settings.short_history} behaviours",
    )


def _at_most(rule: str, value: float | None, most: float, text: str) -> Ruling:
    if value is None:
        return Ruling(rule, None, None, most, "does not apply to this model")
    passes = value <= most
    return Ruling(
        rule, passes, value, most, f"{text.format(f'{value:,.6g}')}, {_limit(passes)}at most {most:g}"
    )


def _at_least(rule: str, value: float, least: float, text: str) -> Ruling:
    passes = value >= least
    return Ruling(
        rule, passes, value, least, f"{text.format(f'{value:,.6g}')}, {_limit(passes)}at least {least:g}"
    )


def _limit(passes: bool) -> str:
    return "" if passes else "must be "


def _not_worse(candidate: Candidate, settings: GateSettings) -> Ruling:
    """Ask whether a loss beyond the margin is ruled out, and none is sure: a test of non-inferiority, paired.

    Small losses that are sure must not pass either, for they would add up from night to night.
    """
    name, floor = "not_worse", -settings.margin
    compared = candidate.evaluation["compared"]
    if not compared:
        return Ruling(name, None, None, floor, "no version is promoted to compare it with")
    # Where no impression was stored, nobody knows what was shown.
    metric = settings.metric if settings.metric in compared else _RECALL
    found, what = compared[metric], f"{metric} against the promoted version"
    if not candidate.evaluation["neutral"]:
        what += " (of units that it served)"
    if found["status"] == "zero_control":
        # The promoted version never hits, so that a lift has no meaning.
        return Ruling(name, True, found["difference"], 0.0, f"{what}: {found['difference']:+.4g}, that is 0")
    if found["lift"] is None:
        return Ruling(name, False, None, floor, f"{what} cannot be estimated ({found['status']})")
    # Pairs that do not differ at all have a lift without an interval.
    low, high = (found["lift"] if found[end] is None else found[end] for end in ("low", "high"))
    told = f"{what}: {found['lift']:+.1%} [{low:+.1%}, {high:+.1%}]"
    if high < 0:
        return Ruling(name, False, high, 0.0, f"{told}: it is worse, the interval must reach 0")
    if low <= floor:
        return Ruling(
            name, False, low, floor, f"{told}: a larger loss than {-floor:.0%} is not ruled out, it must be"
        )
    return Ruling(name, True, low, floor, f"{told}, above {floor:.0%}")


def _recall(candidate: Candidate, settings: GateSettings) -> Ruling:
    """Ask whether recall from the whole catalogue has surely broken down."""
    found, floor = candidate.evaluation["compared"].get(_RECALL, {}), -settings.most_lost_recall
    high = found.get("high") if found.get("high") is not None else found.get("lift")
    if high is None:
        return Ruling("recall", None, None, floor, "there is nothing to compare it with")
    told = f"{_RECALL} against the promoted version: at best {high:+.1%}"
    passes = high > floor
    return Ruling("recall", passes, high, floor, told if passes else f"{told}, must be above {floor:.0%}")
