"""The sentences that answer the studies of the arms here, where the default one does not say enough."""

from collections.abc import Mapping, Sequence
from functools import partial

from armlift.evaluation import Interval
from armlift.findings import Answer, Row, default_answer, signed


def forgotten(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Compare with and without pre-training, then the decoder's loss before and after fine-tuning."""
    said = default_answer(metric, rows, best, stops).rstrip(".")
    values = rows[0].values
    if "forgotten" not in values:
        return f"{said}; no loss before fine-tuning is known."
    gap = values["forgotten"]
    told = "changes nothing beyond chance"
    if gap.low > 0 or gap.high < 0:
        told = "forgets" if gap.low > 0 else "goes on learning"
    losses = f"{values['loss before'].value:.4f} to {values['loss after'].value:.4f}"
    return f"{said}; fine-tuning {told}: the decoder's own loss goes from {losses} ({signed(gap)})."


def of_prompts(several: int) -> Answer:
    """Give the answer that compares sources of `several` prompts, and tells how the gap goes with K."""
    return partial(_of_prompts, several)


def _of_prompts(several: int, metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    sources = [row for row in rows if "K = " not in row.setting]
    known = [row for row in sources if metric in row.values]
    said = [default_answer(metric, sources, _top(metric, known), None).rstrip(".")]
    taken = [f"{row.setting} {row.values['taken'].value:.4f}" for row in known if "taken" in row.values]
    said += [f"taken next: {', '.join(taken)}"] if taken else []
    own = [row for row in rows if row.setting.startswith("generated") and "gap" in row.figures]
    gaps = {
        int(row.setting.split("K = ")[1]) if "K = " in row.setting else several: row.figures["gap"].value
        for row in own
    }
    listed = ", ".join(f"{gaps[number]:+.4f} at K = {number}" for number in sorted(gaps))
    said += [f"train-test gap {listed}"] if gaps else []
    said += [f"no data of {row.setting}" for row in sources if row.status == "no_data"]
    return "; ".join(said) + "."


def timed(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Compare quality, then time."""
    said = default_answer(metric, rows, best, stops).rstrip(".")
    times = [f"{row.setting} {row.figures['ms a user'].value:.3g}" for row in rows if row.figures]
    return f"{said}; ms a user: {', '.join(times)}."


def costs(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Say how each cost goes from the first setting to the last."""
    first, last = rows[0], rows[-1]
    said = []
    for name in first.figures.keys() & last.figures.keys():
        low, high = first.figures[name].value, last.figures[name].value
        said.append(f"{name} {low:.3g} to {high:.3g} (x {high / low:.2g})")
    return f"From {first.setting} to {last.setting}: {', '.join(sorted(said))}."


def shortest(metric: str, rows: Sequence[Row], best: str | None, stops: str | None) -> str:
    """Say from which length on the arm's interval lies above that of the setting it is compared with."""
    values: Mapping[str, Interval] = {row.setting: row.values[metric] for row in rows if metric in row.values}
    pairs = [(row.setting, row.base) for row in rows if row.base is not None]
    known = [(own, base) for own, base in pairs if own in values and base in values]
    if not known:
        reasons = [row.reason for row in rows if row.reason]
        return f"No data: {reasons[0] if reasons else 'no unit has such a history'}."
    units = rows[0].units
    for own, base in known:
        if values[own].low > values[base].high:
            return (
                f"From the {own.split(':')[0]} behaviours on its {metric} interval lies above popularity's: "
                f"{_interval(values[own])} against {_interval(values[base])}, {units:,} units."
            )
    longest = known[-1][0].split(":")[0]
    return (
        f"At no length, up to the {longest}, does its {metric} interval lie above popularity's "
        f"({units:,} units)."
    )


def by_kind(kinds: Sequence[str]) -> Answer:
    """Give the answer that says for each kind which arm is best and which are worse beyond chance."""
    return partial(_by_kind, kinds)


def _by_kind(
    kinds: Sequence[str], metric: str, rows: Sequence[Row], best: str | None, stops: str | None
) -> str:
    said, lacking = [], []
    for kind in kinds:
        of_kind = [row for row in rows if row.setting.startswith(f"{kind}: ")]
        known = [row for row in of_kind if metric in row.values]
        if known:
            said.append(default_answer(metric, of_kind, _top(metric, known), None).rstrip("."))
        else:
            lacking.append(kind)
    if lacking:
        said.append(f"no data of {', '.join(lacking)}")
    return "; ".join(said) + "."


def _top(metric: str, known: Sequence[Row]) -> str | None:
    return max(known, key=lambda row: row.values[metric].value).setting if known else None


def _interval(found: Interval) -> str:
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
