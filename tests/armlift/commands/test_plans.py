"""power and aa: their documents and tables, and one line for every bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from armlift.cli import run
from armlift.logs.generator import GeneratorSettings, generate

Refused = Callable[..., str]
NUMBERS = ("--rate", "0.1", "--units-per-day", "1000")


@pytest.fixture(scope="module")
def replayed(lab_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a lab with a run of 300 users, then a paired one."""
    folder = tmp_path_factory.mktemp("replayed")
    lab = folder / "lab"
    log = folder / "log.csv"
    settings = GeneratorSettings(
        users=300, videos=30, days=8, sessions_per_day=1, rows_per_session=6, random_share=1, seed=3
    )
    generate(settings, log)
    assert run(["init", str(lab)]) == 0
    baselines = (lab_template / "experiments" / "baselines.yaml").read_text()
    (lab / "experiments" / "baselines.yaml").write_text(baselines)
    assert run(["replay", "baselines", "--lab", str(lab), "--log", str(log), "--k", "3"]) == 0
    return lab


def answer(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert run([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_power_of_a_run(replayed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "power", "baselines", "--lab", replayed, "--days", "30", "--lift", "0.1")
    assert found.keys() == {
        "experiment", "run", "mode", "as_of", "synthetic", "alpha", "power", "days", "arrivals", "plans",
    }  # fmt: skip
    assert (found["mode"], found["synthetic"], found["power"]) == ("rerank", True, 0.8)
    assert len(found["arrivals"]) == 3  # the log's last row is not the end of its day
    assert 200 < sum(found["arrivals"]) <= 300
    assert [(one["metric"], one["arm"]) for one in found["plans"][:2]] == [
        ("click_rate", "covisitation"),
        ("click_rate", "random"),
    ]
    first = found["plans"][0]
    report = answer(capsys, "report", "baselines", "--lab", replayed)
    assert first["units"] == sum(report["comparisons"][0][one] for one in ("units", "control_units"))
    assert first["control_mean"] == report["comparisons"][0]["control_mean"]
    assert first["comparisons"] == 2
    assert first["smallest_lift"] > 0.1 > first["lift"] - 1e-9
    assert first["units_needed"] > first["units"]
    assert first["reached"] is False
    assert set(first["wait"]) == {"status", "days", "low", "high"}
    easy = answer(capsys, "power", "baselines", "--lab", replayed, "--lift", "9")["plans"][0]
    assert (easy["reached"], easy["wait"]["days"]) == (True, 0)


def test_power_from_numbers(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "power", "baselines", "--lab", lab, *NUMBERS, "--days", "10")
    assert (found["run"], found["arrivals"], len(found["plans"])) == (None, [], 2)
    plan = found["plans"][0]
    assert plan["lift"] == 0.02
    assert plan["wait"]["days"] == -(-plan["all_units_needed"] // 1000)
    twice = answer(capsys, "power", "baselines", "--lab", lab, "--mean", "0.1", "--sd", "0.6")["plans"][0]
    assert twice["units_needed"] == pytest.approx(4 * plan["units_needed"], rel=0.02)
    assert twice["wait"] is None
    assert not (lab / "armlift.db").exists()


def test_the_plans_own_lift_is_the_default(
    lab: Path, edit: Callable[[str, str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    edit("experiments/baselines.yaml", "{alpha: 0.05}", "{alpha: 0.05, smallest_lift: 0.3}")
    assert answer(capsys, "power", "baselines", "--lab", lab, *NUMBERS)["plans"][0]["lift"] == 0.3


def test_aa_of_a_run(replayed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("aa", "baselines", "--lab", replayed, "--splits", "60")
    found = answer(capsys, *words)
    assert (found["units_of"], found["share"], found["splits"], found["seed"]) == ("popularity", 0.5, 60, 0)
    assert found["sound"] is all(one["verdict"] in ("sound", "no_data") for one in found["metrics"])
    assert [one["metric"] for one in found["metrics"]] == ["click_rate", "clicks", "hate_rate"]
    first = found["metrics"][0]
    assert first["verdict"] == "sound"
    assert (first["splits"], sum(first["tenths"]), first["alpha"]) == (60, 60, 0.05)
    assert answer(capsys, *words) == found
    assert answer(capsys, *words, "--seed", "1")["metrics"][0]["tenths"] != first["tenths"]
    (one,) = answer(capsys, *words, "--all", "--metric", "click_rate")["metrics"]
    assert one["units"] > 2.5 * first["units"]


@pytest.mark.parametrize(
    "words",
    [
        ["power", "baselines", "--days", "30"],
        ["power", "baselines", *NUMBERS, "--days", "9"],
        ["power", "baselines", "--mean", "1000000", "--sd", "123456789.5"],
        ["aa", "baselines", "--splits", "20"],
    ],
)
def test_people_read_a_table(replayed: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--lab", str(replayed)]) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80, out
    assert err == ""
    assert "click_rate" in out
    assert "NaN" not in out
    assert "None" not in out


def test_an_unsound_metric_exits_with_0(
    replayed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from armlift import aa
    from armlift.stats.uniformity import uniformity

    monkeypatch.setattr(aa, "uniformity", lambda p, **chosen: uniformity([x**4 for x in p], **chosen))
    words = ("aa", "baselines", "--lab", replayed, "--splits", "100", "--metric", "click_rate")
    found = answer(capsys, *words)
    assert (found["sound"], found["metrics"][0]["verdict"]) == (False, "too_often")
    assert run(list(map(str, words))) == 0
    assert "rejects too often" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--lift", "0"], "--lift 0: must be above 0 and below 10"),
        (["--lift", "nan"], "--lift nan: must be above 0 and below 10"),
        (["--power", "1"], "--power 1: must be above alpha, 0.05, and below 1"),
        (["--power", "0.01"], "--power 0.01: must be above alpha, 0.05, and below 1"),
        (["--days", "0"], "--days: '0' must be greater than or equal to 1"),
        (["--rate", "1"], "--rate 1: must be above 0 and below 1"),
        (["--rate", "nan"], "--rate nan: must be above 0 and below 1"),
        (["--rate", "0.1", "--mean", "1"], "--rate: must stand without --mean and --sd"),
        (["--mean", "1"], "a plan from numbers must have --mean with --sd, or --rate"),
        (["--units-per-day", "9"], "a plan from numbers must have --mean with --sd, or --rate"),
        (["--mean", "1", "--sd", "inf"], "--sd inf: must be above 0"),
        (["--mean", "-1", "--sd", "1"], "--mean -1: must be above 0"),
        (["--rate", "0.1", "--units-per-day", "0"], "--units-per-day 0: must be above 0"),
        (["--rate", "0.1", "--days", "3"], "--days 3: must stand with --units-per-day, or with a run"),
        (
            ["--rate", "0.1", "--run", "x"],
            "--run x: must stand without --mean, --sd, --rate and --units-per-day",
        ),
        (["--rate", "0.1", "--lift", "1e-9"], "no number of units finds a lift of 1e-09 at this baseline"),
        (["--run", "x"], "--run 'x' is not a run of 'baselines', must be one of "),
    ],
)
def test_bad_input_of_power_is_one_line(
    replayed: Path, refused: Refused, words: list[str], says: str
) -> None:
    assert refused("power", "baselines", "--lab", replayed, *words).startswith(says)


def test_without_a_run_numbers_are_asked_for(lab: Path, refused: Refused) -> None:
    line = refused("power", "baselines", "--lab", lab)
    assert line.endswith("has no armlift tables; run `armlift db upgrade`, or give numbers: "
                         "--mean and --sd, or --rate")  # fmt: skip
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    line = refused("power", "baselines", "--lab", lab)
    assert line.startswith("experiment 'baselines' has no run yet; ")
    assert line.endswith(", or give numbers: --mean and --sd, or --rate")
    assert refused("power", "bselines", "--lab", lab).startswith(
        f"{lab}: has no experiment 'bselines', must be one of"
    )


def test_bad_input_of_aa_is_one_line(replayed: Path, refused: Refused) -> None:
    words = ("aa", "baselines", "--lab", replayed)
    assert refused(*words, "--splits", "19") == "--splits: '19' must be greater than or equal to 20"
    line = refused(*words, "--metric", "click_rat")
    assert line.startswith("--metric 'click_rat': must be one of click_rate, ")
    assert refused(*words, "--run", "x").startswith("--run 'x' is not a run of 'baselines', must be one of ")
    assert refused(*words, "--seed", "-1").startswith("--seed: '-1' must be greater than or equal to 0")
