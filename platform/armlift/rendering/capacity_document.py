"""A capacity plan as plain data, for scripts."""

from dataclasses import asdict
from typing import Any

from armlift import capacity
from armlift.capacity import Figure, Limit, Plan, Step
from armlift.costs import Costs

ASSUMPTIONS = {
    "utilisation": capacity.UTILISATION,
    "replicas": capacity.REPLICAS,
    "broker_cores": capacity.BROKER_CORES,
    "broker_bytes": capacity.BROKER_BYTES,
    "server_cores": capacity.SERVER_CORES,
    "server_bytes": capacity.SERVER_BYTES,
    "executor_cores": capacity.EXECUTOR_CORES,
}


def document(made: Plan, costs: Costs) -> dict[str, Any]:
    """Give a plan with the costs it was made from."""
    asked = asdict(made.demand) | {
        "events": made.demand.events,
        "events_at_peak": made.demand.events_at_peak,
        "requests_at_peak": made.demand.requests_at_peak,
    }
    return {
        "demand": asked,
        "fits": made.fits,
        "labs": made.labs,
        "engine": made.engine,
        "figures": {one.name: _plain(one) for one in made.figures},
        "night": {"hours": made.night_hours, "steps": {one.name: _plain(one) for one in made.night}},
        "limits": {one.name: _plain(one) for one in made.limits},
        "assumptions": ASSUMPTIONS,
        "costs": {
            name: cost.model_dump(mode="json") | {"value": cost.value, "growth": cost.growth}
            for name, cost in costs.named()
            if name in made.costs
        },
    }


def _plain(part: Figure | Step | Limit) -> dict[str, Any]:
    """Give a part of a plan as plain data, without its name."""
    found = {name: value for name, value in part._asdict().items() if name != "name"}
    return found | {"extrapolated": part.beyond > 1.0} if isinstance(part, Figure | Step) else found
