"""The lab: what init makes, what is read, and the JSON Schemas of it all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from armlift.arm import arm_classes
from armlift.errors import InputError
from armlift.lab import Lab, find_lab, init_lab, schemas, stock_arms
from armlift.serving.filters import FilterFile
from armlift.splitter import Holdout, Split, assign
from armlift.yamlfile import read_toml, read_yaml

POINTER = re.compile(r"# yaml-language-server: \$schema=(\S+)|#:schema (\S+)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a stock lab to look at."""
    folder = tmp_path_factory.mktemp("lab")
    init_lab(folder)
    return folder


def definitions(folder: Path) -> list[Path]:
    """List what users edit in a lab."""
    return [folder / "armlift.toml", *sorted(folder.rglob("*.yaml"))]


def data_of(path: Path) -> dict[str, Any]:
    """Read a definition as plain data."""
    return read_toml(path).data if path.suffix == ".toml" else read_yaml(path).data


def schema_of(path: Path) -> Draft202012Validator:
    """Read the schema that a definition's first line points at."""
    pointer = POINTER.fullmatch(path.read_text().splitlines()[0])
    assert pointer, f"{path} points at no schema"
    schema = json.loads((path.parent / (pointer[1] or pointer[2])).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_a_stock_lab_reads(folder: Path) -> None:
    lab = Lab(folder)
    assert lab.experiment_names() == ["baselines", "demo"]
    assert lab.arm_names() == sorted(arm_classes())
    for experiment in map(lab.experiment, lab.experiment_names()):
        assert set(experiment.arms) <= set(lab.arm_names())
        assert set(lab.metrics_of(experiment)) <= set(lab.metrics)
    for name in lab.arm_names():
        assert lab.arm(name).name == name
    assert lab.filters == FilterFile()


def test_every_definition_meets_the_schema_it_points_at(folder: Path) -> None:
    found = definitions(folder)
    assert len(found) == 6 + len(arm_classes())
    for path in found:
        schema_of(path).validate(data_of(path))


def test_the_schemas_refuse_a_wrong_key_and_a_wrong_type(folder: Path) -> None:
    for path in definitions(folder):
        validator, data = schema_of(path), data_of(path)
        with pytest.raises(ValidationError):
            validator.validate({**data, "Wrong key": 1})
        first = next(iter(data))
        with pytest.raises(ValidationError):
            validator.validate({**data, first: 7})


def test_stock_arms_point_at_the_schema_of_their_model() -> None:
    for name, text in stock_arms().items():
        assert text.splitlines()[0] == f"# yaml-language-server: $schema=../.schemas/arm-{name}.json"


def test_the_schema_and_the_reader_agree_on_what_is_no_number(folder: Path, tmp_path: Path) -> None:
    validator = Draft202012Validator(schemas()["experiment"])
    for wrong in ("true", '"1"', "[1]", "no"):
        text = (
            (folder / "experiments" / "baselines.yaml").read_text().replace("alpha: 0.05", f"alpha: {wrong}")
        )
        path = tmp_path / "baselines.yaml"
        path.write_text(text)
        with pytest.raises(ValidationError):
            validator.validate(read_yaml(path).data)


def test_init_returns_what_it_made(tmp_path: Path) -> None:
    made = init_lab(tmp_path / "lab")
    assert sorted(made) == sorted(path for path in (tmp_path / "lab").rglob("*") if path.is_file())
    with pytest.raises(InputError, match=r"is a lab already \(armlift.toml is there\)"):
        init_lab(tmp_path / "lab")


def test_a_lab_is_found_upwards(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(folder / "arms")
    assert find_lab(None) == folder
    assert find_lab(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no lab in .* or its parents"):
        find_lab(None)
    init_lab(tmp_path / "demo")
    assert find_lab(None) == tmp_path / "demo"


def test_what_editors_leave_behind_is_no_definition(tmp_path: Path) -> None:
    init_lab(tmp_path)
    (tmp_path / "arms" / ".#random.yaml").symlink_to("nobody@nowhere")
    (tmp_path / "arms" / "random.yaml~").write_text("")
    assert Lab(tmp_path).arm_names() == sorted(arm_classes())


def test_urls_given_win_and_are_checked(folder: Path) -> None:
    lab = Lab(folder, database="sqlite:///other.db", stream="local://elsewhere")
    assert (lab.settings.database_url, lab.settings.stream_url) == ("sqlite:///other.db", "local://elsewhere")
    assert str(lab.setting_error("stream_url", "is odd")) == "--stream: is odd"
    assert str(Lab(folder).setting_error("stream_url", "is odd")).endswith(": stream_url: is odd")
    with pytest.raises(InputError, match=r"^--database: 'x' is no database"):
        Lab(folder, database="x")
    with pytest.raises(InputError, match=r"^--stream: 'x' is no stream"):
        Lab(folder, stream="x")


def test_artefacts_lie_in_the_lab_unless_elsewhere(folder: Path) -> None:
    lab = Lab(folder)
    assert lab.resolve("models") == f"{folder}/models"
    assert lab.resolve("s3://bucket/models") == "s3://bucket/models"


def test_the_split_takes_holdout_and_default_arm_of_the_settings(tmp_path: Path) -> None:
    init_lab(tmp_path)
    path = tmp_path / "armlift.toml"
    path.write_text(
        path.read_text().replace("share = 0.0", "share = 1.0").replace('"popularity"', '"random"')
    )
    lab = Lab(tmp_path)
    baselines = lab.experiment("baselines")
    split = lab.split(baselines)
    assert split == Split.of(baselines, default_arm="random", holdout=Holdout("lab", 1.0))
    held = assign(split, 0, "anybody")
    assert (held.arm, held.exposed, held.rule) == ("random", False, "holdout")


def test_the_phases_of_an_experiment_are_local_times(tmp_path: Path) -> None:
    init_lab(tmp_path)
    path = tmp_path / "experiments" / "baselines.yaml"
    # 2022-04-20 begins at 16:00 UTC of the day before in Shanghai.
    later = "  - {start: 2022-04-20}\n  - {start: 2022-04-19T16:00:01Z}"
    path.write_text(path.read_text().replace("  - traffic: 1.0", later))
    assert len(Lab(tmp_path).experiment("baselines").phases) == 2
    path.write_text(path.read_text().replace("16:00:01Z", "16:00:00Z"))
    with pytest.raises(InputError, match=r"phases\.1\.start: 2022-04-20T00:00:00\+08:00 must be later than"):
        Lab(tmp_path).experiment("baselines")


def test_a_rule_that_leaves_out_units_looks_at_a_mean(tmp_path: Path) -> None:
    init_lab(tmp_path)
    path = tmp_path / "experiments" / "baselines.yaml"
    rules = "alpha: 0.05, exclusions: {bots: {metric: clicks, above: 500, per: day}}"
    path.write_text(path.read_text().replace("alpha: 0.05", rules))
    baselines = Lab(tmp_path).experiment("baselines")
    assert baselines.analysis.exclusions["bots"].above == 500
    for metric in ("click_rate", "clocks"):
        path.write_text(path.read_text().replace("metric: clicks", f"metric: {metric}"))
        with pytest.raises(
            InputError, match=rf"baselines.yaml:13: .*bots.metric: '{metric}' is not a mean, "
        ):
            Lab(tmp_path).experiment("baselines")
        path.write_text(path.read_text().replace(f"metric: {metric}", "metric: clicks"))
