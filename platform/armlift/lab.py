"""The lab: the user's folder of settings, arms, experiments and metrics."""

import difflib
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel

from armlift.arm import ArmConfig, arm_class, arm_classes
from armlift.days import Calendar
from armlift.errors import InputError
from armlift.events import IMPRESSION_KIND
from armlift.experiment import Experiment
from armlift.metric import METRICS, Metric, Metrics, measures
from armlift.settings import FILE, Settings, read_settings
from armlift.splitter import Holdout, Split
from armlift.yamlfile import Source, read_yaml

METRICS_FILE = "metrics.yaml"
SCHEMAS = ".schemas"


class Lab:
    """A lab folder; definitions are read when asked for and checked as they are read."""

    def __init__(self, folder: Path, *, database: str | None = None, stream: str | None = None) -> None:
        if not (folder / FILE).is_file():
            raise InputError(f"{folder}: is not a lab (no {FILE}); make one with `armlift init {folder}`")
        self.folder = folder
        given = {"database_url": database, "stream_url": stream}
        self.settings: Settings = read_settings(folder).model_copy(
            update={key: value for key, value in given.items() if value is not None}
        )
        self.calendar = Calendar(self.settings.timezone)

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
                    raise source.error(place, f"{measure.event!r} {_allowed(measure.event, known)}")
        return found

    def arm_names(self) -> list[str]:
        """List the arms of the lab by their files."""
        return sorted(path.stem for path in (self.folder / "arms").glob("*.yaml"))

    def experiment_names(self) -> list[str]:
        """List the experiments of the lab by their files."""
        return sorted(path.stem for path in (self.folder / "experiments").glob("*.yaml"))

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
                    ("history_kinds", index), f"{history_kind!r} {_allowed(history_kind, known)}"
                )
        return config

    def experiment(self, name: str) -> Experiment:
        """Read an experiment and check it against the lab's arms, metrics and layers."""
        source = read_yaml(self._definition("experiments", name, self.experiment_names()))
        experiment = source.validate(Experiment)
        _same_name(source, experiment.name, name)
        for arm in experiment.arms:
            if arm not in self.arm_names():
                raise source.error(("arms", arm), f"is not an arm, {_allowed(arm, self.arm_names())}")
        for role in ("primary", "secondary", "guardrails"):
            for index, metric in enumerate(getattr(experiment.metrics, role)):
                if metric not in self.metrics:
                    raise source.error(
                        ("metrics", role, index), f"{metric!r} {_allowed(metric, list(self.metrics))}"
                    )
        self._check_times(source, experiment)
        self._check_layer(source, experiment)
        return experiment

    def split(self, experiment: Experiment) -> Split:
        """Prepare an experiment for assignment with the lab's default arm and holdout."""
        holdout = self.settings.holdout
        return Split.of(
            experiment,
            default_arm=self.settings.default_arm,
            holdout=Holdout(holdout.name, holdout.share),
        )

    def metrics_of(self, experiment: Experiment) -> dict[str, Metric]:
        """Give the definitions of an experiment's metrics, in its order."""
        return {name: self.metrics[name] for name in experiment.metrics.roles}

    def resolve(self, url: str) -> str:
        """Make a relative artefact folder or `local://` path one inside the lab; leave other URLs alone."""
        return url if "://" in url else str(self.folder / url)

    def _definition(self, folder: str, name: str, known: list[str]) -> Path:
        path = self.folder / folder / f"{name}.yaml"
        if name not in known:
            word = folder.removesuffix("s")
            raise InputError(f"{self.folder}: has no {word} {name!r}, {_allowed(name, known)}")
        return path

    def _check_times(self, source: Source, experiment: Experiment) -> None:
        starts = [self.calendar.parse(p.start) if p.start is not None else -1 for p in experiment.phases]
        for index in range(1, len(starts)):
            if starts[index] <= starts[index - 1]:
                raise source.error(("phases", index, "start"), "must be later than the phase before")

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
    """Give the lab folder: the given one, else the nearest parent with an `armlift.toml`."""
    if given is not None:
        return given
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
    raise InputError(
        f"no lab in {here} or its parents (no {FILE}); make one with `armlift init LAB` or name it with --lab"
    )


def init_lab(folder: Path) -> list[Path]:
    """Make a lab with the stock arms, metrics and the experiment `demo`; existing files are refused.

    Returns the files made.
    """
    if (folder / FILE).exists():
        raise InputError(f"{folder}: is a lab already ({FILE} is there)")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, must be a folder to make or an empty one")
    stock = files("armlift") / "stock"
    made = {
        FILE: (stock / FILE).read_text(),
        METRICS_FILE: (stock / METRICS_FILE).read_text(),
        "experiments/demo.yaml": (stock / "demo.yaml").read_text(),
    }
    for name, text in stock_arms().items():
        made[f"arms/{name}.yaml"] = text
    written = []
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    written += write_schemas(folder / SCHEMAS)
    return written


def stock_arms() -> dict[str, str]:
    """Find the stock definitions that installed recommenders bring: `definitions/*.yaml` of their package."""
    found: dict[str, str] = {}
    packages = {kind.__module__.partition(".")[0] for kind in arm_classes().values()}
    for package in sorted(packages):
        folder = files(package) / "definitions"
        if folder.is_dir():
            for entry in folder.iterdir():
                if entry.name.endswith(".yaml"):
                    found[entry.name.removesuffix(".yaml")] = entry.read_text(encoding="utf-8")
    return found


def schemas() -> dict[str, dict[str, object]]:
    """Give the JSON Schema of each kind of definition: experiment, metrics, settings, and every arm model."""
    found = {
        "experiment": Experiment.model_json_schema(),
        "metrics": METRICS.json_schema(),
        "armlift": Settings.model_json_schema(),
    }
    for model, kind in sorted(arm_classes().items()):
        found[f"arm-{model}"] = kind.config_class.model_json_schema()
    return found


def write_schemas(folder: Path) -> list[Path]:
    """Write the JSON Schemas, so that editors complete and check definitions."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, schema in schemas().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        written.append(path)
    return written


def _same_name(source: Source, name: str, expected: str) -> None:
    if name != expected:
        raise source.error(("name",), f"{name!r} must equal the file's name, {expected!r}")


def _allowed(value: str, known: "list[str] | tuple[str, ...] | Mapping[str, object]") -> str:
    near = difflib.get_close_matches(value, list(known), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"must be one of {', '.join(known)}{hint}"
