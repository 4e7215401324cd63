"""Trust: what the verdict looks at besides lifts: checks, resolution, and how far the plan has come."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

LEAST_DIFFERING = 0.01
"""Share of requests on which slates must differ."""
LEAST_MATCHED = 100
"""Matched impressions each arm must have."""
NO_LIFT = "an interleaved run tells a preference, and no lift: an A/B test of the two arms would"
CHECK_ORDER = (
    "srm",
    "several_exposures",
    "exclusions",
    "pre_exposure_bias",
    "event_loss",
    "fallbacks",
    "stale_model",
    "symbiosis",
)
"""Which failed check is named first; others follow in the order given."""

BIASING = ("random_exposure", "answered_pairs")
"""The checks by which a log's policy may have made the lift: it chose what units met, or what is known."""


class Checked(Protocol):
    """A trust check as the verdict sees it."""

    @property
    def name(self) -> str:
        """Name the check."""

    @property
    def status(self) -> str:
        """Say ok, warn, fail, no_data or not_applicable."""

    @property
    def meaning(self) -> str:
        """Say what it found, in a line."""


class Trust(NamedTuple):
    """What the verdict looks at besides the evidence.

    `differing` is None and `matched` empty where there is nothing to match. `planned` says whether the
    planned units are reached (None: none were planned), `power_reached` whether the units there are suffice
    to detect `smallest_lift`, the smallest lift of interest (a fraction), and `days_left` in how many days
    the units will be there that are missing for either. `data` is the word for what a run that is over
    rests on. `preferences` says what an interleaved run found, which is no lift; `modelled` that a model
    answered in the units' place.
    """

    checks: Sequence[Checked]
    replay: bool
    differing: float | None
    matched: Mapping[str, int]
    alpha: float
    planned: bool | None = None
    power_reached: bool | None = None
    days_left: int | None = None
    smallest_lift: float | None = None
    data: str = "log"
    preferences: Sequence[str] = ()
    modelled: bool = False

    @property
    def early(self) -> bool:
        """Tell whether the experiment is read before a fixed end, so that always-valid intervals decide."""
        return not self.replay and self.planned is not True

    @property
    def intervals(self) -> str:
        """Say which intervals decide, and why."""
        if self.replay:
            return f"intervals at the end of the {self.data}, which was fixed beforehand"
        if self.planned:
            return "intervals at the planned number of units"
        unplanned = "no number of units was planned" if self.planned is None else "the plan is not fulfilled"
        return f"always-valid intervals, for {unplanned}"

    @property
    def failed(self) -> list[Checked]:
        """List the checks that failed, the most important first."""
        order = {name: place for place, name in enumerate(CHECK_ORDER)}
        failed = [check for check in self.checks if check.status == "fail"]
        return sorted(failed, key=lambda check: order.get(check.name, len(order)))

    @property
    def warned(self) -> list[Checked]:
        """List the checks that warn."""
        return [check for check in self.checks if check.status == "warn"]

    @property
    def blind(self) -> list[str]:
        """Say what keeps the run from telling arms apart."""
        found = []
        if self.differing is not None and self.differing < LEAST_DIFFERING:
            least = f"{LEAST_DIFFERING:.0%}"
            found.append(f"slates differ on {self.differing:.2%} of the requests, needed is {least} or more")
        for arm, count in self.matched.items():
            if count < LEAST_MATCHED:
                found.append(f"{arm} has {count} matched impressions, at least {LEAST_MATCHED} are needed")
        return found

    @property
    def bias(self) -> str | None:
        """Name the check that says that a log's policy may have made the lift, if one does."""
        found = (check.name for check in self.warned if check.name in BIASING)
        return next(found, None) if self.replay else None

    @property
    def biased(self) -> bool:
        """Tell whether a log's policy may have made the lift."""
        return self.bias is not None
