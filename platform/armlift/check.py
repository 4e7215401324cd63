"""A trust check's answer."""

from typing import NamedTuple

from armlift.stats.results import CheckStatus


class Check(NamedTuple):
    """A trust check: its status, the number it rests on, and what it means."""

    name: str
    status: CheckStatus
    value: float | None
    meaning: str


def level(share: float | None, warn: float, fail: float) -> CheckStatus:
    """Give the status of a share of units that should be small: from when it warns, from when it fails."""
    if share is None:
        return "no_data"
    if share >= fail:
        return "fail"
    return "warn" if share >= warn else "ok"
