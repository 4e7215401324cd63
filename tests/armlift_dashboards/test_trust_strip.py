"""The trust strip: failures first and open, each check explained, those that do not apply named."""

import re

from armlift.check import Check
from armlift.rendering.html import CHECKS
from armlift_dashboards.trust_strip import EXPLAINED, trust_strip

FOUND = [
    Check("srm", "ok", 0.5, "the arms hold 5 : 5 units"),
    Check("event_loss", "warn", 0.02, "exposed units without an impression since"),
    Check("several_exposures", "fail", 0.2, "units that met more than one arm"),
    Check("stale_model", "not_applicable", None, "only a live run's models grow old"),
]


def test_failures_come_first_and_are_open() -> None:
    strip = trust_strip(FOUND)
    assert re.findall(r'data-check="(\w+)"', strip) == ["several_exposures", "event_loss", "srm"]
    assert strip.count("<details open") == 2
    assert "several_exposures = 0.2" in strip
    assert "Do not apply to this run: Age of the models." in strip


def test_every_check_says_what_it_means() -> None:
    assert set(CHECKS) <= set(EXPLAINED)
    assert strip_of("srm").count("What it means:") == 1


def strip_of(name: str) -> str:
    return trust_strip([one for one in FOUND if one.name == name])
