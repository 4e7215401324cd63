"""The lab: the user's folder of settings, arms, experiments and metrics."""

import json
import os
from datetime import date, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from armlift.arm import ArmConfig, arm_class, arm_classes
from armlift.complaints import Location, choices
from armlift.days import Calendar
from armlift.errors import InputError
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.metric import METRICS, Metric, Metrics, measures
from armlift.nightly import FILE as NIGHTLY_FILE
from armlift.nightly import Nightly
from armlift.serving.filters import FILE as SERVING_FILE
from armlift.serving.filters import FilterFile, read_filters
from armlift.settings import (
    FILE,
    PREFIX,
    Settings,
    SettingsFile,
    check_database_url,
    check_stream_url,
    read_settings,
    setting_error,
)
from armlift.splitter import Holdout, Split
from armlift.yamlfile import Source, read_yaml

METRICS_FILE = "metrics.yaml"
SCHEMAS = ".schemas"
EXPERIMENTS = ("demo", "baselines")
"""The experiments of a new lab."""
DEMO = "demo"
"""The lab that `armlift demo` makes where none is named."""
VARIABLE = f"{PREFIX}LAB"
"""The environment variable that names a lab, for commands that are not told one."""


class Lab:
    """A lab folder; definitions are read when asked for and checked as they are read."""

    def __init__(self, folder: Path, *, database: str | None = None, stream: str | None = None) -> None:
        if not (folder / FILE).is_file():
            raise InputError(f"{folder}: is not a lab (no {FILE}); make one with `armlift init {folder}`")
        self.folder = folder
        self._given = _given_urls(database, stream)
        self.settings: Settings = read_settings(folder).model_copy(update=self._given)
        self.calendar = Calendar(self.settings.timezone)

    def again(self) -> "Lab":
        """Read the lab anew, with the URLs that were given in place of its own."""
        return Lab(
            self.folder, database=self._given.get("database_url"), stream=self._given.get("stream_url")
        )

    @cached_property
    def metrics(self) -> Metrics:
        """Read `metrics.yaml`; raises InputError for a kind that `armlift.toml` does not declare."""
        source = read_yaml(self.folder / METRICS_FILE)
        known = (IMPRESSION_KIND, *self.settings.kinds.names)
        found: Metrics = source.validate(Metrics)
        for name, metric in found.items():
            for column, measure in measures(metric).items():
                if measure.event not in known:
                    part = {"num": "numerator", "den": "denominator"}[column]
                    place = (name, part if metric.kind == "ratio" else "of", "event")
                    raise source.error(place, f"{measure.event!r} {choices(measure.event, known)}")
        return found

    @cached_property
    def nightly(self) -> Nightly:
        """Read `nightly.yaml`, all defaults where it is not there; checked against arms and experiments."""
        path = self.folder / NIGHTLY_FILE
        if not path.is_file():
            return Nightly()
        source = read_yaml(path)
        found = source.validate(Nightly)
        for name in found.arms:
            if name not in self.arm_names():
                raise source.error(("arms", name), f"is not an arm, {choices(name, self.arm_names())}")
        for index, name in enumerate(found.experiments or ()):
            known = self.experiment_names()
            if name not in known:
                raise source.error(("experiments", index), f"{name!r} {choices(name, known)}")
        return found

    @cached_property
    def filters(self) -> FilterFile:
        """Read `serving.yaml`; nothing is filtered where it is not there."""
        return read_filters(self.folder)

    def nightly_error(self, location: Location, text: str) -> InputError:
        """Build the error of a key of `nightly.yaml` that only whoever uses it can judge."""
        path = self.folder / NIGHTLY_FILE
        if path.is_file():
            return read_yaml(path).error(location, text)
        return InputError(f"{path}: {'.'.join(map(str, location))}: {text}")

    def arm_names(self) -> list[str]:
        """List the arms of the lab by their files."""
        return self._names("arms")

    def experiment_names(self) -> list[str]:
        """List the experiments of the lab by their files."""
        return self._names("experiments")

    def arm(self, name: str) -> ArmConfig:
        """Read an arm definition with the configuration class of its model."""
        path = self._definition("arms", name, self.arm_names())
        source = read_yaml(path)
        model = source.validate(ModelName).model
        try:
            kind = arm_class(model)
        except InputError as error:
            raise source.error(("model",), str(error).removeprefix("model: ")) from error
        config = source.validate(kind.config_class)
        _same_name(source, config.name, name)
        known = self.settings.kinds.names
        for index, history_kind in enumerate(config.history_kinds):
            if history_kind not in known:
                raise source.error(
                    ("history_kinds", index), f"{history_kind!r} {choices(history_kind, known)}"
                )
        return config

    def experiment(self, name: str) -> Experiment:
        """Read an experiment and check it against the lab's arms, metrics and layers."""
        return self.experiment_of(read_yaml(self._definition("experiments", name, self.experiment_names())))

    def experiment_of(self, source: Source) -> Experiment:
        """Check what an experiment's file holds, or is to hold, against arms, metrics and layers."""
        experiment = source.validate(Experiment)
        _same_name(source, experiment.name, source.path.stem)
        for arm in experiment.arms:
            if arm not in self.arm_names():
                raise source.error(("arms", arm), f"is not an arm, {choices(arm, self.arm_names())}")
        for role in ("primary", "secondary", "guardrails"):
            for index, metric in enumerate(getattr(experiment.metrics, role)):
                if metric not in self.metrics:
                    raise source.error(
                        ("metrics", role, index), f"{metric!r} {choices(metric, self.metrics)}"
                    )
        for rule, one in experiment.analysis.exclusions.items():
            place = ("analysis", "exclusions", rule, "metric")
            means = [name for name, metric in self.metrics.items() if metric.kind == "mean"]
            if one.metric not in means:
                raise source.error(place, f"{one.metric!r} is not a mean, {choices(one.metric, means)}")
        self._check_times(source, experiment)
        self._check_layer(source, experiment)
        return experiment

    def split(self, experiment: Experiment, *, paused: bool = False) -> Split:
        """Prepare an experiment for assignment with the lab's default arm and holdout."""
        default, holdout = self.settings.default_arm, self.settings.holdout
        if default not in self.arm_names():
            raise self.setting_error(
                "default_arm", f"{default!r} is not an arm, {choices(default, self.arm_names())}"
            )
        return Split.of(
            experiment,
            default_arm=default,
            holdout=Holdout(holdout.name, holdout.share),
            paused=paused,
        )

    def check_parts(self, experiment: Experiment) -> None:
        """Check what an experiment needs of other files: its arms' definitions and the default arm."""
        for name in experiment.arms:
            self.arm(name)
        self.split(experiment)

    def metrics_of(self, experiment: Experiment) -> dict[str, Metric]:
        """Give the definitions of an experiment's metrics, in its order, and of those its rules look at."""
        asked = dict.fromkeys(one.metric for one in experiment.analysis.exclusions.values())
        return {name: self.metrics[name] for name in {**experiment.metrics.roles, **asked}}

    def resolve(self, url: str) -> str:
        """Make a relative artefact folder or `local://` path one inside the lab; leave other URLs alone."""
        return url if "://" in url else str(self.folder / url)

    def setting_error(self, key: str, text: str) -> InputError:
        """Build the error of a setting: with the option, the variable, or the file and line that gives it."""
        if key in self._given:
            return InputError(f"--{key.removesuffix('_url')}: {text}")
        return setting_error(self.folder, (key,), text)

    def _names(self, folder: str) -> list[str]:
        # A dot begins the names of what editors leave behind.
        found = (self.folder / folder).glob("*.yaml")
        return sorted(path.stem for path in found if not path.name.startswith("."))

    def _definition(self, folder: str, name: str, known: list[str]) -> Path:
        path = self.folder / folder / f"{name}.yaml"
        if name not in known:
            word = folder.removesuffix("s")
            raise InputError(f"{self.folder}: has no {word} {name!r}, {choices(name, known)}")
        return path

    def _check_times(self, source: Source, experiment: Experiment) -> None:
        latest: int | None = None
        for index, phase in enumerate(experiment.phases):
            start = self._time(source, ("phases", index, "start"), phase.start)
            if latest is not None and start is not None and start <= latest:
                raise source.error(
                    ("phases", index, "start"),
                    f"{self.calendar.show(start)} must be later than the phase before, "
                    f"{self.calendar.show(latest)}",
                )
            latest = start
        self._time(source, ("replay", "train_until"), experiment.replay.train_until)

    def _time(self, source: Source, location: Location, written: date | datetime | None) -> int | None:
        try:
            return self.calendar.parse(written) if written is not None else None
        except InputError as error:
            raise source.error(location, str(error)) from error

    def _check_layer(self, source: Source, experiment: Experiment) -> None:
        low, high = experiment.layer.slice
        for name in self.experiment_names():
            if name == experiment.name:
                continue
            other = read_yaml(self.folder / "experiments" / f"{name}.yaml").validate(Experiment)
            start, end = other.layer.slice
            if other.layer.name == experiment.layer.name and low < end and start < high:
                raise source.error(
                    ("layer", "slice"),
                    f"[{low}, {high}] overlaps [{start}, {end}] of experiment {name} in layer "
                    f"{other.layer.name}, must be apart",
                )


class ModelName(BaseModel):
    """The one key that says which configuration class reads an arm's file."""

    model: str


def find_lab(given: Path | None) -> Path:
    """Give the lab folder: the given one, else ARMLIFT_LAB's, else the nearest parent with an `armlift.toml`.

    Where no parent is a lab, `demo/` below is taken, which `armlift demo` makes.
    """
    named = os.environ.get(VARIABLE)
    if given is not None or named:
        return given or Path(str(named))
    here = Path.cwd()
    for folder in (here, *here.parents, here / DEMO):
        if (folder / FILE).is_file():
            return folder
    raise InputError(
        f"no lab in {here} or its parents (no {FILE}); make one with `armlift init LAB` or name it with --lab"
    )


def init_lab(folder: Path) -> list[Path]:
    """Make a lab with the stock arms, metrics, experiments, nights and filters; existing files are refused.

    Returns the files made.
    """
    if (folder / FILE).exists():
        raise InputError(f"{folder}: is a lab already ({FILE} is there), must be a new or empty folder")
    stock = files("armlift") / "stock"
    texts = {f"arms/{name}.yaml": text for name, text in stock_arms().items()}
    for name in EXPERIMENTS:
        texts[f"experiments/{name}.yaml"] = (stock / f"{name}.yaml").read_text(encoding="utf-8")
    for name in (METRICS_FILE, NIGHTLY_FILE, SERVING_FILE):
        texts[name] = (stock / name).read_text(encoding="utf-8")
    texts |= {f"{SCHEMAS}/{name}": text for name, text in _schema_texts().items()}
    # The last file makes the folder a lab, so that an init that was broken off can be done again.
    texts[FILE] = (stock / FILE).read_text(encoding="utf-8")
    for name, text in texts.items():
        path = folder / name
        if path.is_file() and path.read_bytes() != text.encode():
            raise InputError(f"{path}: is there already with other content, must not be: it is yours to move")
    return [_write(folder / name, text) for name, text in texts.items()]


def stock_arms() -> dict[str, str]:
    """Find the stock definitions that installed recommenders bring: `definitions/*.yaml` of their package."""
    found: dict[str, str] = {}
    packages = {kind.__module__.partition(".")[0] for kind in arm_classes().values()}
    for package in sorted(packages):
        folder = files(package) / "definitions"
        if folder.is_dir():
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if entry.name.endswith(".yaml"):
                    found[entry.name.removesuffix(".yaml")] = entry.read_text(encoding="utf-8")
    return found


def schemas() -> dict[str, dict[str, object]]:
    """Give the JSON Schema of each kind of file: experiments, metrics, nights, filters, settings, arms."""
    found = {
        "experiment": Experiment.model_json_schema(),
        "metrics": METRICS.json_schema(),
        "nightly": Nightly.model_json_schema(),
        "serving": FilterFile.model_json_schema(),
        "armlift": SettingsFile.model_json_schema(),
    }
    for model, kind in sorted(arm_classes().items()):
        found[f"arm-{model}"] = kind.config_class.model_json_schema()
    return {name: _closed(schema) for name, schema in found.items()}


def _closed(schema: Any) -> Any:
    """Refuse keys that are no names where keys must be names; pydantic's schemas let them through."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    return {**closed, "additionalProperties": False} if "patternProperties" in schema else closed


def write_schemas(folder: Path) -> list[Path]:
    """Write the JSON Schemas, so that editors complete and check definitions."""
    return [_write(folder / name, text) for name, text in _schema_texts().items()]


def _schema_texts() -> dict[str, str]:
    return {f"{name}.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}), the lab must be a folder that can be"
        ) from error
    return path


def _given_urls(database: str | None, stream: str | None) -> dict[str, str]:
    """Check the URLs that were given in place of the settings' own."""
    found = {}
    for option, url, check in (
        ("database", database, check_database_url),
        ("stream", stream, check_stream_url),
    ):
        if url is not None:
            try:
                found[f"{option}_url"] = check(url)
            except ValueError as error:
                raise InputError(f"--{option}: {error}") from error
    return found


def _same_name(source: Source, name: str, expected: str) -> None:
    if name != expected:
        raise source.error(("name",), f"{name!r} must equal the file's name, {expected!r}")
