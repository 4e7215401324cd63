"""Trials: the settings of a study, tried with every seed, and the findings that come of it."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from armlift.arm import Arm, ArmConfig
from armlift.artefacts import definition_of, list_artefacts, read_weights, write_weights
from armlift.errors import ArmliftError, InputError
from armlift.evaluation import Floats, Interval, evaluate
from armlift.findings import Findings, Row, Section
from armlift.heldout import HeldOut
from armlift.pooling import difference, mean_interval, stopping_point, unit_means
from armlift.studies import Bench, Changes, Grouping, Outcome, Setting, Study, study_of


class NoDataError(ArmliftError):
    """A setting cannot be tried on these data or in this lab; the text says why."""


def run_study(
    name: str, config: ArmConfig, bench: Bench, seeds: Sequence[int], groupings: Sequence[Grouping] = ()
) -> Findings:
    """Try every setting of a study with every seed, and put together what comes of it.

    Raises InputError for a study the arm does not answer, and for data that tell nothing of the arm's kinds.
    """
    study = study_of(config, name)
    data = bench.source.data(config.history_kinds)
    if data is None:
        raise InputError(f"arm {config.name}: the data tell nothing of its history_kinds, {_listed(config)}")
    trials = [_Trial(setting) for setting in study.settings(bench.source)]
    for seed in seeds:
        first: Arm | None = None
        for trial in trials:
            first = trial.run(study, config, bench, seed, first)
    groups = [group for sort in groupings for group in sort(data, config.history_kinds)]
    named = {trial.setting.name: trial for trial in trials}
    sections = [_section("all units", study, named, None)]
    if study.grouped:
        sections += [_section(group.name, study, named, group.units) for group in groups]
    return Findings(
        study=name,
        question=study.question,
        arm=config.name,
        metric=study.metric,
        split=data.split,
        file_hash=data.file_hash,
        seeds=tuple(seeds),
        sections=tuple(sections),
        lower_is_better=study.lower_is_better,
        notes=(*study.notes, *bench.source.notes),
    )


def _listed(config: ArmConfig) -> str:
    return ", ".join(config.history_kinds)


class _Trial:
    """One setting, and its outcomes so far; `reason` says why it has none."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.reason = ""
        self.outcomes: list[Outcome] = []

    def run(self, study: Study, own: ArmConfig, bench: Bench, seed: int, first: Arm | None) -> Arm | None:
        """Try the setting with a seed; gives the arm of the study's first setting that has one."""
        if self.reason:
            return first
        try:
            config, data = self._prepared(own, bench, seed)
            if self.setting.measure is not None:
                bench.tell(f"{self.setting.name}, seed {seed}")
                self.outcomes.append(self.setting.measure(config, data))
                return first
            trained = self._trained(config, data, bench)
        except NoDataError as error:
            self.reason = str(error)
            return first
        bench.tell(f"{self.setting.name}: evaluating {config.name}, seed {seed}")
        arm = redefined(trained, self.setting.serve) if self.setting.serve else trained
        self.outcomes.append(self._evaluated(arm, data, first or arm))
        if study.figures is not None:
            last, manifest = self.outcomes[-1], _figures(trained, bench.fitted.url)
            self.outcomes[-1] = last._replace(figures={**last.figures, **study.figures(manifest)})
        return first or arm

    def _prepared(self, own: ArmConfig, bench: Bench, seed: int) -> tuple[ArmConfig, HeldOut]:
        """Give the definition to train by, and the data."""
        setting = self.setting
        if setting.arm is not None and setting.arm not in bench.arms:
            raise NoDataError(f"the lab has no arm {setting.arm}")
        config = own if setting.arm is None else bench.arms[setting.arm]
        changes: dict[str, object] = {**setting.train, "seed": seed}
        if setting.kind is not None:
            changes["history_kinds"] = (setting.kind,)
        return changed(config, changes), self._data(own, bench)

    def _data(self, own: ArmConfig, bench: Bench) -> HeldOut:
        """Give the data of the arm's kinds, which run_study has asked for before, or of the setting's own."""
        kind = self.setting.kind
        try:
            data = bench.source.data(own.history_kinds if kind is None else [kind])
        except InputError as error:  # the kind is known, but nobody can be tested on it
            raise NoDataError(str(error)) from error
        if data is None:
            raise NoDataError(f"the data tell nothing of {kind}")
        return data

    def _trained(self, config: ArmConfig, data: HeldOut, bench: Bench) -> Arm:
        known = bench.fitted.known(config, data.data_hash)
        if known is not None:
            return known
        bench.tell(f"{self.setting.name}: training {config.name}, seed {config.seed}")
        try:
            return bench.fitted.fit(config, data)
        except InputError as error:
            if self.setting.may_lack:
                raise NoDataError(str(error)) from error
            raise

    def _evaluated(self, arm: Arm, data: HeldOut, first: Arm) -> Outcome:
        setting = self.setting
        observer = setting.observe(arm, data, first) if setting.observe is not None else None
        asked = data.asked() if setting.view is None else setting.view(data.asked())
        found = evaluate(arm, data, asked=asked, watch=observer.see if observer is not None else None)
        measures, figures = observer.outcome() if observer is not None else ({}, {})
        coverage = {"coverage@10": found.coverage, "novelty@10": found.novelty}
        return Outcome(found.units, {**found.gains, **measures}, {**coverage, **figures}, arm.version)

    def means(self, measure: str, units: frozenset[str] | None) -> Floats:
        """Give each unit's mean over seeds; of some units, or of all."""
        found = unit_means([outcome.measures[measure] for outcome in self.outcomes])
        if units is None:
            return found
        return found[np.array([unit in units for unit in self.outcomes[0].units], dtype=np.bool_)]


def _figures(trained: Arm, url: str) -> Mapping[str, float]:
    """Read what the fit of an arm recorded."""
    manifests = list_artefacts(url, trained.config.name)
    return {manifest.version: manifest.figures for manifest in manifests}.get(trained.version, {})


def changed(config: ArmConfig, changes: Changes) -> ArmConfig:
    """Give a definition with changes made and checked; raises NoDataError for a key it cannot have."""
    for key in changes:
        if key not in type(config).model_fields:
            raise NoDataError(f"the definition of model {config.model} has no {key}")
    return type(config).model_validate({**definition_of(config), **changes})


def redefined(arm: Arm, changes: Changes) -> Arm:
    """Give an arm of the same weights whose definition has changes that training has no part in."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        arm.save(folder)
        config, tensors = read_weights(folder, type(arm.config))
        write_weights(folder, changed(config, changes), tensors)
        return type(arm).load(folder)


def _section(name: str, study: Study, trials: Mapping[str, _Trial], units: frozenset[str] | None) -> Section:
    """Put the outcomes of all settings together; of a group of units the study's metric alone."""
    rows = tuple(_row(trial, study, trials, units) for trial in trials.values())
    known = [row for row in rows if row.status == "ok" and study.metric in row.values]
    way = -1.0 if study.lower_is_better else 1.0
    best = max(known, key=lambda row: way * row.values[study.metric].value).setting if known else None
    stops = None
    if study.ordered and known:
        means = [trials[row.setting].means(study.metric, units) for row in known]
        stops = known[stopping_point(means, lower_is_better=study.lower_is_better)].setting
    count = max((row.units for row in rows), default=0)
    return Section(name, count, rows, best, stops, study.answer(study.metric, rows, best, stops))


def _row(trial: _Trial, study: Study, trials: Mapping[str, _Trial], units: frozenset[str] | None) -> Row:
    setting = trial.setting
    if not trial.outcomes:
        return Row(setting.name, setting.base, "no_data", trial.reason)
    first = trial.outcomes[0]
    measures = [study.metric] if units is not None else list(first.measures)
    means = {measure: trial.means(measure, units) for measure in measures if measure in first.measures}
    base = trials[setting.base] if setting.base is not None else None
    differences = {}
    if base is not None and base.outcomes:
        if base.outcomes[0].units != first.units:
            raise ArmliftError(f"{setting.name} and {setting.base} were asked for different units")
        for measure in means.keys() & base.outcomes[0].measures.keys():
            differences[measure] = difference(means[measure], base.means(measure, units))
    figures = {name for outcome in trial.outcomes for name in outcome.figures} if units is None else set()
    return Row(
        setting=setting.name,
        base=setting.base,
        units=len(first.units) if units is None else len(next(iter(means.values()), ())),
        versions=tuple(outcome.version for outcome in trial.outcomes),
        values=_known({measure: mean_interval(values) for measure, values in means.items()}),
        differences=_known({name: differences[name] for name in means if name in differences}),
        figures={
            name: _spread([o.figures[name] for o in trial.outcomes if name in o.figures])
            for name in sorted(figures)
        },
    )


def _known(found: Mapping[str, Interval | None]) -> dict[str, Interval]:
    return {name: interval for name, interval in found.items() if interval is not None}


def _spread(values: Sequence[float]) -> Interval:
    """Give the median over seeds, with the least and the greatest."""
    return Interval(float(np.median(values)), min(values), max(values))
