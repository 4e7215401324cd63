"""Experiments over HTTP: how they stand, and start, ramp, pause, resume, stop, each in the audit log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Body, Path, Request
from sqlalchemy import Connection

from armlift import running
from armlift.api.errors import RefusedError
from armlift.api.models import ExperimentAnswer, ExperimentsAnswer, RampRequest, Reason
from armlift.api.samples import RAMP, REASON, errors
from armlift.arm import Name
from armlift.days import utc_now
from armlift.errors import InputError
from armlift.running import RunningExperiment
from armlift.serving.service import Service
from armlift.splitter import generations
from armlift.store.database import writing

BY = "api"
"""Who changes an experiment where no keys are asked for."""
Told = Annotated[Reason, Body(openapi_examples=REASON)]
_NAME = Path(description="The experiment.")
_ERRORS = (401, 403, 404, 409, 413, 422, 429, 503)


def routes(service: Service) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/experiments", tags=["experiments"])

    def change(name: str, action: Callable[[Connection], RunningExperiment]) -> ExperimentAnswer:
        if name not in service.live.all:
            service.live.refresh()
        if name not in service.live.all:
            raise RefusedError(404, "not_found", f"experiment {name!r} was not started")
        with _told(), writing(service.engine) as connection:
            made = action(connection)
        service.live.refresh()
        return stands(made)

    @router.get("", responses=errors(401, 403, 429))
    async def experiments() -> ExperimentsAnswer:
        """List all experiments that were ever started."""
        return ExperimentsAnswer(experiments=[stands(one.running) for one in service.live.all.values()])

    @router.get("/{name}", responses=errors(401, 403, 404, 422, 429))
    async def experiment(name: Annotated[Name, _NAME]) -> ExperimentAnswer:
        """Tell how an experiment stands."""
        found = service.live.all.get(name)
        if found is None:
            raise RefusedError(404, "not_found", f"experiment {name!r} was not started")
        return stands(found.running)

    @router.post("/{name}/start", responses=errors(*_ERRORS))
    def start(name: Annotated[Name, _NAME], told: Told, request: Request) -> ExperimentAnswer:
        """Start an experiment of the lab's files, or take up what may change in its file."""
        with _told():
            lab = service.lab.again()
        if name not in lab.experiment_names():
            raise RefusedError(404, "not_found", f"the lab has no experiment {name!r}")
        with _told(), writing(service.engine) as connection:
            done = running.start(connection, lab, name, reason=told.reason, by=_who(request), at=utc_now())
        service.live.refresh()
        return stands(done.running, done.changes)

    @router.post("/{name}/ramp", responses=errors(*_ERRORS))
    def ramp(
        name: Annotated[Name, _NAME],
        told: Annotated[RampRequest, Body(openapi_examples=RAMP)],
        request: Request,
    ) -> ExperimentAnswer:
        """Begin a new phase now; units that met an arm keep it."""
        who, at = _who(request), utc_now()
        return change(
            name,
            lambda connection: running.ramp(
                connection, name, told.traffic, told.weights, reason=told.reason, by=who, at=at
            ),
        )

    def turn(
        name: str, told: Reason, request: Request, action: Callable[..., RunningExperiment]
    ) -> ExperimentAnswer:
        who, at = _who(request), utc_now()
        return change(name, lambda one: action(one, name, reason=told.reason, by=who, at=at))

    @router.post("/{name}/pause", responses=errors(*_ERRORS))
    def pause(name: Annotated[Name, _NAME], told: Told, request: Request) -> ExperimentAnswer:
        """Let nobody meet the arms until it is resumed."""
        return turn(name, told, request, running.pause)

    @router.post("/{name}/resume", responses=errors(*_ERRORS))
    def resume(name: Annotated[Name, _NAME], told: Told, request: Request) -> ExperimentAnswer:
        """Let a paused experiment go on."""
        return turn(name, told, request, running.resume)

    @router.post("/{name}/stop", responses=errors(*_ERRORS))
    def stop(name: Annotated[Name, _NAME], told: Told, request: Request) -> ExperimentAnswer:
        """End an experiment for good."""
        return turn(name, told, request, running.stop)

    return router


def stands(one: RunningExperiment, changes: list[str] | None = None) -> ExperimentAnswer:
    """Say how an experiment stands now."""
    experiment, phase = one.experiment, one.phase_at(utc_now())
    last = phase or 0
    return ExperimentAnswer(
        experiment=one.name,
        run=one.run,
        state=one.state,
        version=one.version,
        hash=one.hash,
        arms=dict(generations(experiment)[last][1]),
        control=experiment.control,
        layer=experiment.layer.name,
        phase=phase,
        traffic=experiment.phases[last].traffic,
        changes=changes or [],
    )


@contextmanager
def _told() -> Iterator[None]:
    """Say that a change does not fit how things stand: the experiment, its file, the lab."""
    try:
        yield
    except InputError as error:
        raise RefusedError(409, "conflict", str(error).removeprefix("--")) from error


def _who(request: Request) -> str:
    key = request.state.key
    return BY if key is None else str(key.name)
