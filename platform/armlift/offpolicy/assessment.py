"""An off-policy evaluation put together: estimates, what the log supports, and which estimate to trust."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any

import numpy as np

from armlift.errors import InputError
from armlift.offpolicy.logged_rows import LoggedRows
from armlift.offpolicy.policies import Policy, TablePolicy
from armlift.offpolicy.reward_model import predict
from armlift.offpolicy.slate_rows import slates_of
from armlift.stats.ope import PolicyMethod, PolicyValue, Rows, policy_value, totals_of, weights_of
from armlift.stats.slate_ope import SLATE_METHODS, SlateMethod, Slates, SlateValue, slate_totals, slate_value
from armlift.stats.weights import Weights, describe_weights

ROW_METHODS: tuple[PolicyMethod, ...] = ("replay", "ips", "snips", "doubly_robust")
METHODS: tuple[str, ...] = (*ROW_METHODS, *SLATE_METHODS)
LEAST_EFFECTIVE = 100
"""Below so many effective rows no estimate is to be trusted."""
MOST_CLIPPED = 0.05
"""Above this part of all weight cut off, none is either."""
MOST_Z = 1.96
"""Two estimates further apart, in standard errors, do not agree."""
SELDOM = 0.1
"""An item is given seldom where its share of a position's rows is below this part of 1 / items."""


@dataclass(frozen=True)
class Support:
    """How much of what the policy shows the log tells of: parts of the policy's probability.

    `never` on items that the log never gave at that position, `seldom` on those of which it gave less than
    `threshold` of its rows there.
    """

    never: float
    seldom: float
    threshold: float


@dataclass(frozen=True)
class Assessment:
    """What a log says of a policy.

    `logged` is what the log's own policy earned a row, `own` what the evaluated one earned in a log of its
    own, if there is one. `trusted` is the estimate to go by, None where none is; `advice` says why, in
    sentences.
    """

    source: str
    unit: str
    policy: str
    rows: int
    units: int
    items: int
    positions: tuple[int, ...]
    clip: float | None
    logged: PolicyValue
    own: PolicyValue | None
    values: tuple[PolicyValue, ...]
    slates: tuple[SlateValue, ...]
    weights: Weights
    support: Support
    trusted: str | None
    advice: tuple[str, ...]
    notes: tuple[str, ...]
    dropped: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain data."""
        return asdict(self) | {
            "values": [asdict(one) | {"assumption": one.assumption} for one in self.values],
            "slates": [asdict(one) | {"assumption": one.assumption} for one in self.slates],
        }


def assess(
    rows: LoggedRows,
    policy: Policy,
    *,
    own: LoggedRows | None = None,
    methods: Sequence[str] = METHODS,
    clip: float | None = None,
    alpha: float = 0.05,
) -> Assessment:
    """Evaluate a policy on the rows of a log; slate methods where the rows name their requests.

    `own` are rows that the evaluated policy logged itself, to hold the estimates against.

    Raises InputError for a method there is none of, and where no row is left.
    """
    if wrong := [method for method in methods if method not in METHODS]:
        raise InputError(f"--method {wrong[0]}: must be one of {', '.join(METHODS)}")
    if not len(rows):
        reasons = ", ".join(f"{reason} {count}" for reason, count in (rows.dropped or {}).items())
        raise InputError(f"no row of the log can be used: {reasons or 'it has none'}")
    plain, made = Rows(rows.units, rows.rewards, rows.logged, policy.target(rows)), None
    if rows.requests is not None and isinstance(policy, TablePolicy):
        made = slates_of(rows, policy)
        plain = plain._replace(logged=made.logged, target=made.target)
    model = predict(rows, policy) if "doubly_robust" in methods else None
    full = plain if model is None else plain._replace(predicted=model.predicted, expected=model.expected)
    totals = totals_of(full, clip=clip)
    values = tuple(policy_value(totals, method, alpha=alpha) for method in ROW_METHODS if method in methods)
    slates = () if made is None else _slates(made.slates, methods, clip, alpha)
    weights = describe_weights(rows.units, weights_of(plain), clip=clip, alpha=alpha)
    support = _support(rows, policy)
    logged = _mean_reward(rows, alpha)
    on_policy = _mean_reward(own, alpha) if own is not None and len(own) else None
    trusted = _trusted(values, weights)
    advice = _advice(values, weights, support, trusted)
    return Assessment(
        source=rows.source,
        unit=rows.unit,
        policy=policy.name,
        rows=len(rows),
        units=weights.units,
        items=len(rows.catalogue),
        positions=rows.positions,
        clip=clip,
        logged=logged,
        own=on_policy,
        values=values,
        slates=slates,
        weights=weights,
        support=support,
        trusted=trusted,
        advice=(*advice, *_against(values, trusted, logged, on_policy)),
        notes=(*rows.notes, *policy.notes, *(() if made is None else made.notes)),
        dropped=dict(rows.dropped or {}),
    )


def _slates(
    slates: Slates, methods: Sequence[str], clip: float | None, alpha: float
) -> tuple[SlateValue, ...]:
    wanted: list[SlateMethod] = [method for method in SLATE_METHODS if method in methods]
    totals = slate_totals(slates, clip=clip)
    return tuple(slate_value(totals, method, alpha=alpha) for method in wanted)


def _support(rows: LoggedRows, policy: Policy) -> Support:
    """Add up the policy's probability by what the log gave there, in the mean over rows."""
    threshold = SELDOM / len(rows.catalogue)
    counts = rows.rows_by_cell()
    given, seldom = counts > 0, (counts > 0) & (counts < threshold * counts.sum(axis=1, keepdims=True))
    every = np.arange(len(rows))
    told, thin = (policy.expected(cells.astype(np.float64), rows, every).mean() for cells in (given, seldom))
    return Support(max(0.0, 1.0 - float(told)), float(thin), threshold)


def _trusted(values: Sequence[PolicyValue], weights: Weights) -> str | None:
    """Name the narrower of SNIPS and doubly robust, where the log can tell of the policy at all."""
    few = (weights.effective_rows or 0.0) < LEAST_EFFECTIVE
    if few or weights.off_one or weights.clipped_share > MOST_CLIPPED:
        return None
    known = [
        one for one in values if one.method in ("snips", "doubly_robust") and one.standard_error is not None
    ]
    return min(known, key=lambda one: one.standard_error or 0.0).method if known else None


def _mean_reward(rows: LoggedRows, alpha: float) -> PolicyValue:
    """Give what a log's own policy earned a row."""
    own = Rows(rows.units, rows.rewards, rows.logged, rows.logged)
    return policy_value(totals_of(own), "snips", alpha=alpha)


def _against(
    values: Sequence[PolicyValue], trusted: str | None, logged: PolicyValue, own: PolicyValue | None
) -> list[str]:
    """Hold the trusted estimate against the rates that are known."""
    said: list[str] = []
    for one in values:
        if one.method != trusted or one.value is None or one.low is None or one.high is None:
            continue
        if own is not None and own.value is not None and own.standard_error is not None:
            error = hypot(one.standard_error or 0.0, own.standard_error)
            z = (one.value - own.value) / error if error else 0.0
            word = "agrees" if abs(z) < MOST_Z else "does not agree"
            said.append(
                f"{trusted} {word} with what the policy earned itself, {own.value:.4g} "
                f"(a difference of {z:+.2f} standard errors, of independent logs)"
            )
        if logged.value is not None and one.low <= logged.value <= one.high:
            said.append(
                f"what the log's own policy earned, {logged.value:.4g}, lies in the interval of {trusted} "
                "too: these rows do not tell the two apart"
            )
    return said


def _advice(
    values: Sequence[PolicyValue],
    weights: Weights,
    support: Support,
    trusted: str | None,
) -> list[str]:
    """Say in sentences which estimate to trust, and why not another."""
    said: list[str] = []
    if trusted is not None:
        both = {"snips", "doubly_robust"} <= {one.method for one in values}
        why = ": of snips and doubly_robust it has the narrower interval" if both else ""
        said.append(f"go by {trusted}{why}")
    else:
        said.append("trust no estimate; the reasons follow")
    effective = weights.effective_rows or 0.0
    if effective < LEAST_EFFECTIVE:
        said.append(
            f"the log is worth {effective:.0f} rows of the policy's own, below {LEAST_EFFECTIVE}: a few rows "
            "decide, and intervals are too narrow"
        )
    if weights.off_one and weights.mean is not None:
        cause = "or the log never gives what the policy shows" if weights.mean < 1 else "or too small"
        said.append(
            f"the weights' mean is {weights.mean:.3g}, and its interval leaves out 1: propensities are "
            f"wrong, {cause}"
        )
    if support.never > 0.0005:
        said.append(
            f"{support.never:.1%} of what the policy shows the log never gave: ips counts it as 0, snips as "
            "the rest, doubly_robust as its model says"
        )
    if support.seldom > 0.0005:
        said.append(
            f"{support.seldom:.1%} of what the policy shows the log gave seldom (below "
            f"{support.threshold:.2g} of its rows): few rows with large weights stand for it"
        )
    if weights.top_share is not None and weights.top_share > 0.25:
        said.append(f"1% of the rows hold {weights.top_share:.0%} of all weight: see what --clip changes")
    if weights.clipped:
        said.append(
            f"{weights.clipped:,} weights are cut to {weights.maximum:g}, {weights.clipped_share:.1%} of all "
            "weight: ips is too low by what they earned, snips leans to the log's policy, doubly_robust to "
            "its model"
        )
    if any(one.method == "replay" and one.status == "no_data" for one in values):
        said.append("replay says nothing: the policy is sure of no logged item")
    return said
