"""The definition of nights: what it takes, and what it says of what is wrong."""

from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.nightly import ARM_STEPS, Nightly


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    init_lab(tmp_path / "lab")
    return tmp_path / "lab"


def test_the_stock_definition_is_that_of_the_code(lab: Path) -> None:
    found = Lab(lab).nightly
    assert found.of_arm("remote").steps == ()
    assert found.of_step("retrain").megabytes == 8000
    same = found.model_copy(update={"arms": {}, "steps": {}})
    assert same == Nightly()


def test_without_a_file_all_is_at_its_default(lab: Path) -> None:
    (lab / "nightly.yaml").unlink()
    assert Lab(lab).nightly == Nightly()
    assert Nightly().of_arm("anything").steps == ARM_STEPS
    assert Nightly().of_step("gate").timeout == "2h"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "arms: {recgtp: {}}",
            "nightly.yaml:1: arms.recgtp: is not an arm, must be one of .*did you mean recgpt",
        ),
        ("experiments: [demos]", "nightly.yaml:1: experiments.0: 'demos' must be one of .*did you mean demo"),
        ("arms: {recgpt: {steps: [promote, gate]}}", r"arms.recgpt.steps: .* in this order"),
        ("arms: {recgpt: {steps: [retrain, gate]}}", "gate needs evaluate before it"),
        ("gates: {}", "gates: unknown key"),
        ("gate: {margin: 2}", "gate.margin: .*less than 1"),
        ("alerts: {on: [failures]}", "alerts.on.0: "),
        ("steps: {train: {}}", "steps.train"),
        (
            "steps: {retrain: {timeout: 2 hours}}",
            "is not a duration, must be days, hours, minutes or seconds",
        ),
        ("alerts: {webhook: ftp://x}", "alerts.webhook: "),
    ],
)
def test_a_mistake_is_one_line_that_names_it(lab: Path, text: str, complaint: str) -> None:
    (lab / "nightly.yaml").write_text(text + "\n")
    with pytest.raises(InputError, match=complaint) as caught:
        _ = Lab(lab).nightly
    assert "\n" not in str(caught.value)
