"""`nightly.yaml`: what a new lab has, what is refused, and where it says so."""

from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.nightly import ALERTS, ARM_STEPS, ArmSettings, Nightly, StepSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nightly") / "lab"
    init_lab(folder)
    return folder


def read(folder: Path, text: str) -> Nightly:
    (folder / "nightly.yaml").write_text(text)
    return Lab(folder).nightly


def test_a_new_labs_nights_are_the_defaults_but_for_what_is_trained_elsewhere(tmp_path: Path) -> None:
    init_lab(tmp_path / "lab")
    stock, plain = Lab(tmp_path / "lab").nightly, Nightly()
    differs = {name for name in Nightly.model_fields if getattr(stock, name) != getattr(plain, name)}
    assert differs == {"arms", "steps"}
    assert stock.arms == {"remote": ArmSettings(steps=())}
    assert stock.of_step("retrain") == StepSettings(megabytes=8000)
    (tmp_path / "lab" / "nightly.yaml").unlink()
    assert Lab(tmp_path / "lab").nightly == plain


def test_what_is_not_named_is_done_by_default(folder: Path) -> None:
    found = read(folder, "arms: {random: {steps: [retrain]}}\nsteps: {gate: {retries: 3}}\n")
    assert found.of_arm("random").steps == ("retrain",)
    assert found.of_arm("popularity").steps == ARM_STEPS
    assert (found.of_step("gate").retries, found.of_step("drift")) == (3, StepSettings())
    assert found.alerts.on == ALERTS


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("arms:\n  popularty: {warm: false}", 2, "arms.popularty: is not an arm, must be one of "),
        ("arms:\n  Random: {}", 2, "arms.Random"),
        ("experiments: [demo, dmeo]", 1, "experiments.1: 'dmeo' "),
        (
            "arms:\n  random: {steps: [gate, evaluate]}",
            2,
            "arms.random.steps: gate, evaluate must be some of retrain, evaluate, gate, ",
        ),
        (
            "arms: {random: {steps: [retrain, promote]}}",
            1,
            "arms.random.steps: promote needs gate before it",
        ),
        ("arms: {random: {steps: [evaluate]}}", 1, "arms.random.steps: evaluate needs retrain before it"),
        ("arms:\n  random: {steps: [drift]}", 2, "arms.random.steps.0: 'drift' "),
        ("run: live\nretries: 3", 2, "retries: "),
        ("steps: {retrain: {retires: 3}}", 1, "steps.retrain.retires: "),
        ("steps:\n  retrian: {retries: 3}", 2, "steps.retrian"),
        ("steps: {retrain: {timeout: 2 hours}}", 1, "steps.retrain.timeout: '2 hours' is not a duration"),
        ("steps: {retrain: {retries: -1}}", 1, "steps.retrain.retries: -1 "),
        ("gates: {}", 1, "gates: unknown key"),
        ("gate: {margin: 1.5}", 1, "gate.margin: 1.5 "),
        ("gate: {metric: NDCG@5}", 1, "gate.metric: 'NDCG@5' "),
        ("alerts:\n  on: [failure, stale_modle]", 2, "alerts.on.1: 'stale_modle' "),
        ("alerts: {webhook: ftp://example.org}", 1, "alerts.webhook: 'ftp://example.org' "),
        ("alerts: {email: {server: mail, sender: a@b, to: [c@d]}}", 1, "alerts.email.server: 'mail' "),
        ("monitor: {action: stop}", 1, "monitor.action: 'stop' "),
        ("schedule: 30 3 * * *", 1, "schedule: "),
        ("retention: {models: 0}", 1, "retention.models: 0 "),
        ("archive: {after: soon}", 1, "archive.after: 'soon' is not a duration"),
        ("archive: 3d", 1, "archive: '3d' "),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, text + "\n")
    assert str(caught.value).startswith(f"{folder}/nightly.yaml:{line}: {says}")
    assert "\n" not in str(caught.value)


def test_whoever_uses_a_key_can_say_where_it_stands(folder: Path) -> None:
    read(folder, "run: live\nmonitor:\n  schedule: {cron: x}\n")
    error = Lab(folder).nightly_error(("monitor", "schedule"), "is odd")
    assert str(error) == f"{folder}/nightly.yaml:3: monitor.schedule: is odd"
    (folder / "nightly.yaml").unlink()
    error = Lab(folder).nightly_error(("monitor", "schedule"), "is odd")
    assert str(error) == f"{folder}/nightly.yaml: monitor.schedule: is odd"
