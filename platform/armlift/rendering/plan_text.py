"""A plan as text for the terminal; it fits 80 columns."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from armlift.forecasts import Wait
from armlift.planning import Aim, Plan
from armlift.rendering.words import count, plain

WIDTH = 80
_ROW = "  {:<13}{:>8}{:>8}{:>9}{:>7}{:>10}{:>7}  {}"
_LONG = 10_000_000


def text_of(plans: Sequence[Plan], aim: Aim, alpha: float, per_day: str) -> Iterator[str]:
    """Write plans line by line; `per_day` says how units arrive."""
    head = (
        f"{aim.power:.0%} power, two-sided alpha {alpha:g} shared by the comparisons of a family; "
        f"{per_day}. Units are those of arm and control."
    )
    yield from wrap(head, WIDTH)
    later = "" if aim.days is None else f"in {aim.days} d"
    yield ""
    yield _ROW.format("", "units", "detects", later, "lift", "needs", "enough", "days left").rstrip()
    metric = None
    for one in plans:
        if one.metric != metric:
            metric = one.metric
            yield f"{one.metric} ({one.role}, {_control(one)})"[:WIDTH]
        yield _ROW.format(*_cells(one, aim)).rstrip()


def _control(one: Plan) -> str:
    if one.control_mean is None:
        return "control unknown"
    told = f"control {plain(one.control_mean)}"
    return told if one.remaining_variance == 1.0 else f"{told}, CUPED leaves {one.remaining_variance:.0%}"


def _cells(one: Plan, aim: Aim) -> tuple[str, ...]:
    units = _units(one.units or None)
    if one.units_needed is None and one.smallest_lift is None:
        return (one.arm[:13], units, "-", "-" if aim.days else "", _share(one.lift), "-", "-", one.status)
    return (
        one.arm[:13],
        units,
        _share(one.smallest_lift),
        _share(one.smallest_later) if aim.days is not None else "",
        _share(one.lift),
        _units(one.units_needed),
        {True: "yes", False: "no", None: "-"}[one.reached],
        _days(one.wait),
    )


def _units(value: int | None) -> str:
    return "-" if value is None else count(value) if value < _LONG else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}" if value < 0.1 else f"{value:.1%}"


def _days(wait: Wait | None) -> str:
    if wait is None or wait.status == "no_data":
        return "-"
    if wait.days is None:
        return "never" if wait.status == "never" else "> 365"
    if wait.low == wait.high:
        return str(wait.days)
    return f"{wait.days} ({wait.low}-{'' if wait.high is None else wait.high})"
