"""Commands on definitions: what is fine, and one line for everything that is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.arm import arm_classes
from armlift.cli import run
from armlift.lab import stock_arms

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]

DEMO = "experiments/baselines.yaml"
POPULARITY = "arms/popularity.yaml"
PHASE = "  - traffic: 1.0"
ARMS = "{popularity: 1, covisitation: 1, random: 1}"
NAMES = sorted(stock_arms())  # of a new lab's arms, as lists and complaints have them


def place(path: Path, text: str) -> str:
    """Give `file:line` of the first line that holds a text."""
    lines = path.read_text().splitlines()
    return f"{path}:{next(number for number, line in enumerate(lines, 1) if text in line)}"


def test_stock_definitions_are_fine(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["arm", "check", "--lab", str(lab)]) == 0
    assert run(["experiment", "check", "--lab", str(lab)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        *(f"arm {name}: fine" for name in NAMES),
        "experiment baselines: fine (popularity, covisitation, random; control popularity)",
        "nightly.yaml: fine",
        "serving.yaml: fine",
    ]
    assert err == ""
    assert {"covisitation", "popularity", "random"} <= {*NAMES}


BAD_EXPERIMENTS = {
    # what stands there, what is put there, where in the line, what the complaint says after file and line
    "unknown key": ("control:", "contrl:", "contrl:", "contrl: unknown key, must be one of analysis, arms,"),
    "unknown key, hint": ("control:", "contrl:", "contrl:", "(did you mean control?)"),
    "unknown key, alone": ("analysis:", "plan:", "plan:", "plan: unknown key, must be one of analysis,"),
    "unknown nested key": (
        "slice:",
        "slcie:",
        "slcie:",
        "layer.slcie: unknown key, must be one of name, slice (did you mean slice?)",
    ),
    "unknown key of a list's item": (
        "traffic: 1.0",
        "trafic: 1.0",
        "trafic:",
        "phases.0.trafic: unknown key, must be one of start, traffic, weights (did you mean traffic?)",
    ),
    "missing": ("control: popularity\n", "", "name:", "control: is missing"),
    "missing nested": ("  primary: [click_rate]\n", "", "metrics:", "metrics.primary: is missing"),
    "text for a number": (
        "traffic: 1.0",
        "traffic: lots",
        "traffic:",
        "phases.0.traffic: 'lots' must be a number",
    ),
    "quoted number": (
        "traffic: 1.0",
        'traffic: "1.0"',
        "traffic:",
        "phases.0.traffic: '1.0' must be a number",
    ),
    "truth for a number": (
        "traffic: 1.0",
        "traffic: true",
        "traffic:",
        "phases.0.traffic: true must be a number",
    ),
    "number for a text": ("name: baselines", "name: 5", "name:", "name: 5 must be text, in quotes"),
    "fraction for a count": (
        "alpha: 0.05",
        "minimum_units: 2.5",
        "minimum_units",
        "analysis.minimum_units: 2.5 must be a whole number",
    ),
    "text for a list": (
        "[hate_rate]",
        "hate_rate",
        "guardrails",
        "metrics.guardrails: 'hate_rate' must be a list",
    ),
    "text for a mapping": (
        "{name: feed, slice: [0, 1]}",
        "feed",
        "layer:",
        "layer: 'feed' must be a mapping of keys to values",
    ),
    "nothing for a list": (
        f"phases:\n{PHASE}",
        "phases:",
        "phases:",
        "phases: null must be a list",
    ),
    "too short": (f"phases:\n{PHASE}", "phases: []", "phases:", "phases: [] must have at least 1 item"),
    "too long": ("[0, 1]", "[0, 0.5, 1]", "slice", "layer.slice: [0, 0.5, 1] must have at most 2 items"),
    "half a slice": ("[0, 1]", "[0.5]", "slice", "layer.slice.1: is missing"),
    "above": (
        "traffic: 1.0",
        "traffic: 1.5",
        "traffic:",
        "phases.0.traffic: 1.5 must be less than or equal to 1",
    ),
    "not a number": (
        "traffic: 1.0",
        "traffic: .nan",
        "traffic:",
        "phases.0.traffic: NaN must be less than or equal to 1",
    ),
    "below": (
        "alpha: 0.05",
        "minimum_units: 1",
        "minimum_units",
        "analysis.minimum_units: 1 must be greater than or equal to 2",
    ),
    "endless": (
        "session_gap: 30",
        "session_gap: .inf",
        "session_gap",
        "replay.session_gap: Infinity must be a finite number",
    ),
    "choice": (
        "metrics:",
        "training_data: pool\nmetrics:",
        "training_data",
        "training_data: 'pool' must be 'pooled', 'own' or 'weighted'",
    ),
    "bad name": (
        "{name: feed",
        "{name: The Feed",
        "The Feed",
        "layer.name: 'The Feed' must be lower-case letters, digits, _ or -, at most 63",
    ),
    "other name": (
        "name: baselines",
        "name: other",
        "name:",
        "name: 'other' must equal the file's name, 'baselines'",
    ),
    "no weight": (ARMS, "{popularity: 0, random: 0}", "arms:", "are all 0, at least one must be > 0"),
    "no arm": (ARMS, "{}", "arms:", "arms: names no arm, must name one or more"),
    "negative weight": (
        "random: 1",
        "random: -1",
        "arms:",
        "arms.random: -1 must be greater than or equal to 0",
    ),
    "unknown arm": (
        "random: 1",
        "randm: 1",
        "arms:",
        f"arms.randm: is not an arm, must be one of {', '.join(NAMES)} (did you mean random?)",
    ),
    "unknown control": (
        "control: popularity",
        "control: randm",
        "control:",
        "control: 'randm' is not an arm, must be one of popularity, covisitation, random",
    ),
    "unknown metric": ("[clicks]", "[clikcs]", "secondary", "(did you mean clicks?)"),
    "metric twice": (
        "[clicks]",
        "[clicks, click_rate]",
        "secondary",
        "metrics.secondary.1: metric 'click_rate' stands twice, must have one role, has primary",
    ),
    "empty slice": (
        "[0, 1]",
        "[0.5, 0.5]",
        "slice",
        "layer.slice: [0.5, 0.5] is empty, must be [from, to] with from < to",
    ),
    "phases out of order": (
        PHASE,
        "  - {start: 2022-04-20}\n  - {start: 2022-04-19}",
        "04-19",
        "phases.1.start: 2022-04-19T00:00:00+08:00 must be later than the phase before, "
        "2022-04-20T00:00:00+08:00",
    ),
    "phase without start": (
        PHASE,
        "  - {traffic: 0.5}\n  - {traffic: 0.9}",
        "0.9",
        "phases.1.start: is missing; only the first phase may leave it out",
    ),
    "weights of other arms": (
        PHASE,
        "  - {traffic: 0.5}\n  - {start: 2022-04-20, weights: {random: 1}}",
        "weights:",
        "phases.1.weights: name random, must name the experiment's arms: popularity, covisitation, random",
    ),
    "not a time": (
        "session_gap: 30",
        "train_until: 2022-13-45",
        "train_until",
        "replay.train_until: '2022-13-45' is not a time, must be like 2022-04-15 or",
    ),
    "a number for a time": (
        "session_gap: 30",
        "train_until: 2022",
        "train_until",
        "replay.train_until: 2022 must be a time, such as 2022-04-15",
    ),
    "a time out of range": (
        "session_gap: 30",
        "train_until: 0022-04-15",
        "train_until",
        "is out of range, must be in the years 1970 to 9998",
    ),
    "bad audience": (
        "metrics:",
        "audience: age ===\nmetrics:",
        "audience",
        "audience: 'age ===' is not a condition",
    ),
    "audience with a call": (
        "metrics:",
        "audience: exit()\nmetrics:",
        "audience",
        "audience: 'exit()' is not understood, must be comparisons",
    ),
    "forced arm": (
        "metrics:",
        "forced:\n  u.1: random\n  u.2: nobody\nmetrics:",
        "u.2",
        "forced.u.2: 'nobody' is not an arm, must be one of popularity",
    ),
    "forced number": (
        "metrics:",
        "forced: {17: random}\nmetrics:",
        "forced",
        "forced: key 17 must be text, in quotes",
    ),
    "version of another arm": (
        "session_gap: 30",
        "versions: {nobody: abc}",
        "versions",
        "replay.versions.nobody: 'nobody' is not an arm",
    ),
    "key twice": (
        "traffic: 1.0",
        "traffic: 1.0\n    traffic: 0.5",
        "traffic: 0.5",
        "phases.0.traffic: stands twice, first in line 6",
    ),
}


@pytest.mark.parametrize(("old", "new", "where", "says"), BAD_EXPERIMENTS.values(), ids=BAD_EXPERIMENTS)
def test_a_bad_experiment_is_one_line(
    lab: Path, edit: Edit, refused: Refused, old: str, new: str, where: str, says: str
) -> None:
    path = edit(DEMO, old, new)
    line = refused("experiment", "check", "--lab", lab)
    assert line.startswith(f"{place(path, where)}: ")
    assert says in line


BAD_FILES = {
    "tab": (b"name: baselines\n\tarms: {}\n", 2, "is not YAML: while scanning for the next token, found"),
    "unclosed": (b"name: baselines\narms: {a: 1\n", 3, "is not YAML: while parsing a flow mapping"),
    "undefined alias": (b"name: *x\n", 1, "is not YAML: found undefined alias 'x'"),
    "two documents": (b"name: baselines\n---\nname: baselines\n", 2, "but found another document"),
    "control character": (b"name: baselines\nx: \x01\n", 2, "character #x0001 is not allowed"),
    "empty": (b"", 1, "is empty, must hold a definition"),
    "comment": (b"# nothing yet\n", 1, "is empty, must hold a definition"),
    "list": (b"# arms\n- a\n", 2, "is a list, must be a mapping of keys to values"),
    "text": (b"hello\n", 1, "is just 'hello', must be a mapping of keys to values"),
    "not UTF-8": (b"name: baselines\ndescription: caf\xe9\n", 2, "byte 0xe9 is not UTF-8, the file must be"),
    "key twice": (b"name: baselines\nname: baselines\n", 2, "name: stands twice, first in line 1"),
    "tag": (b"name: !!python/name:os.system x\n", 1, "name: tag !!python/name:os.system is not known"),
    "loop": (b"name: &a [*a]\n", 1, "name.0: refers to itself, must not"),
    "deep": (b"name: " + b"[" * 500 + b"]" * 500, 1, "is nested too deeply to be a definition"),
}


@pytest.mark.parametrize(("content", "number", "says"), BAD_FILES.values(), ids=BAD_FILES)
@pytest.mark.parametrize(
    ("file", "command"), [(DEMO, "experiment"), (POPULARITY, "arm"), ("metrics.yaml", "experiment")]
)
def test_a_file_that_is_no_definition_is_one_line(
    lab: Path, refused: Refused, file: str, command: str, content: bytes, number: int, says: str
) -> None:
    (lab / file).write_bytes(content)
    line = refused(command, "check", "--lab", lab)
    assert line.startswith(f"{lab / file}:{number}: ")
    assert says in line


BAD_ARMS = {
    "unknown model": (
        "model: popularity",
        "model: popularty",
        "model:",
        "model: 'popularty' is not installed, must be one of " + ", ".join(sorted(arm_classes())),
    ),
    "no model": ("model: popularity\n", "", "name:", "model: is missing"),
    "model of a number": ("model: popularity", "model: 3", "model:", "model: 3 must be text, in quotes"),
    "unknown key": (
        "half_life_days:",
        "half_live_days:",
        "half_live_days:",
        "half_live_days: unknown key, must be one of description, exploration, half_life_days, ",
    ),
    "unknown kind": ("[click,", "[clck,", "[clck", "history_kinds.0: 'clck' must be one of click, like,"),
    "no kind": (
        "history_kinds: [click, like, follow, comment, forward, long_view]",
        "history_kinds: []",
        "history_kinds",
        "history_kinds: [] must have at least 1 item",
    ),
    "out of range": (
        "half_life_days: 7.0",
        "half_life_days: 0",
        "half_life_days: 0",
        "half_life_days: 0 must be greater than 0",
    ),
    "unknown exploration": (
        "seed: 0",
        "exploration: {kind: greedy}",
        "greedy",
        "exploration.kind: 'greedy' must be 'epsilon', 'softmax' or 'plackett_luce'",
    ),
    "unused exploration": (
        "seed: 0",
        "exploration: {kind: softmax, epsilon: 0.3}",
        "softmax, ",
        "exploration: epsilon has no meaning for softmax",
    ),
    "a model's own check": (
        "seed: 0",
        "kind_weights: {purchase: 2}",
        "kind_weights: {purchase",
        "kind_weights: 'purchase' must be one of history_kinds: click,",
    ),
    "other name": ("name: popularity", "name: pop", "name:", "name: 'pop' must equal the file's name"),
}


@pytest.mark.parametrize(("old", "new", "where", "says"), BAD_ARMS.values(), ids=BAD_ARMS)
def test_a_bad_arm_is_one_line(
    lab: Path, edit: Edit, refused: Refused, old: str, new: str, where: str, says: str
) -> None:
    path = edit(POPULARITY, old, new)
    line = refused("arm", "check", "--lab", lab)
    assert line.startswith(f"{place(path, where)}: ")
    assert says in line
    assert refused("experiment", "check", "--lab", lab) == line


BAD_METRICS = {
    "unknown kind": (
        "kind: ratio",
        "kind: rati",
        4,
        "click_rate.kind: 'rati' must be one of mean, proportion,",
    ),
    "no kind": (
        "  kind: ratio\n",
        "",
        3,
        "click_rate.kind: is missing, must be one of mean, proportion, quantile, ratio, retention",
    ),
    "unknown event": (
        "numerator: {event: click}",
        "numerator: {event: clck}",
        6,
        "click_rate.numerator.event: 'clck' must be one of impression, click, like,",
    ),
    "unknown key": (
        "numerator: {event: click}",
        "numerator: {evnt: click}",
        6,
        "click_rate.numerator.evnt: unknown key, must be one of aggregate, event, maximum, minimum "
        "(did you mean event?)",
    ),
    "key of another kind": (
        "  numerator: {event: click}",
        "  of: {event: click}",
        6,
        "click_rate.of: unknown key, must be one of cuped, denominator, description, direction, kind,",
    ),
    "bounds": (
        "numerator: {event: click}",
        "numerator: {event: click, minimum: 3, maximum: 2}",
        6,
        "click_rate.numerator.minimum: 3.0 must be at most the maximum, 2.0",
    ),
    "name": ("click_rate:", "Click Rate:", 3, "Click Rate: 'Click Rate' must be lower-case letters, digits,"),
    "no mapping": ("click_rate:", "click_rate: 5\nother:", 3, "click_rate: 5 must be a mapping of keys to"),
}


@pytest.mark.parametrize(("old", "new", "number", "says"), BAD_METRICS.values(), ids=BAD_METRICS)
def test_a_bad_metric_is_one_line(
    lab: Path, edit: Edit, refused: Refused, old: str, new: str, number: int, says: str
) -> None:
    path = edit("metrics.yaml", old, new)
    line = refused("experiment", "check", "--lab", lab)
    assert line.startswith(f"{path}:{number}: ")
    assert says in line


def test_slices_of_one_layer_must_not_overlap(
    lab: Path, edit: Edit, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(DEMO, "[0, 1]", "[0, 0.5]")
    other = lab / "experiments" / "other.yaml"
    text = (lab / DEMO).read_text().replace("name: baselines", "name: other")
    other.write_text(text.replace("[0, 0.5]", "[0.4, 1]"))
    line = refused("experiment", "check", "other", "--lab", lab)
    assert line == (
        f"{other}:4: layer.slice: [0.4, 1.0] overlaps [0.0, 0.5] of experiment baselines in layer feed, "
        "must be apart"
    )
    for fine in ("[0.5, 1]", "[0.5, 0.6]"):
        other.write_text(text.replace("[0, 0.5]", fine))
        assert run(["experiment", "check", "--lab", str(lab)]) == 0
    other.write_text(text.replace("name: feed", "name: search"))
    assert run(["experiment", "check", "--lab", str(lab)]) == 0
    capsys.readouterr()


def test_unknown_names_list_the_known_ones(lab: Path, refused: Refused) -> None:
    assert refused("experiment", "check", "bselines", "--lab", lab) == (
        f"{lab}: has no experiment 'bselines', must be one of baselines (did you mean baselines?)"
    )
    assert refused("arm", "check", "randm", "--lab", lab) == (
        f"{lab}: has no arm 'randm', must be one of {', '.join(NAMES)} (did you mean random?)"
    )
    assert refused("explain", "u1", "bselines", "--lab", lab).startswith(
        f"{lab}: has no experiment 'bselines'"
    )
    assert refused("experiment", "show", "bselines", "--lab", lab).startswith(
        f"{lab}: has no experiment 'bselines'"
    )


def test_a_lab_without_definitions(lab: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(lab / "arms")
    assert refused("arm", "check", "x", "--lab", lab) == f"{lab}: has no arm 'x', there is none yet"
    assert "arms.popularity: is not an arm, there is none yet" in refused("experiment", "check", "--lab", lab)
    assert run(["arm", "check", "--lab", str(lab)]) == 0
    assert capsys.readouterr() == ("", f"{lab}: has no arms to check\n")
    shutil.rmtree(lab / "experiments")
    for file in ("nightly.yaml", "serving.yaml"):
        (lab / file).unlink()
    assert run(["experiment", "check", "--lab", str(lab)]) == 0
    assert capsys.readouterr() == ("", f"{lab}: has no experiments to check\n")


def test_nothing_is_called_fine_before_all_is(lab: Path, edit: Edit, refused: Refused) -> None:
    edit("arms/random.yaml", "seed: 0", "seed: -1")
    assert "arms/random.yaml:" in refused("arm", "check", "--lab", lab)


def test_nights_and_filters_are_checked_with_all_experiments(
    lab: Path, edit: Edit, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    path = edit("serving.yaml", "filters: []", 'filters:\n  - {name: adults, hide: "rated =="}')
    says = f"{place(path, 'name: adults')}: filters.0.hide: "
    assert refused("experiment", "check", "--lab", lab).startswith(says)
    assert run(["experiment", "check", "baselines", "--lab", str(lab)]) == 0
    edit("serving.yaml", "rated ==", "rated == 18")
    edit("nightly.yaml", "run: live", "run: LIVE")
    assert refused("experiment", "check", "--lab", lab).startswith(f"{lab}/nightly.yaml:")
    capsys.readouterr()


def test_check_finds_a_default_arm_that_is_none(
    lab: Path, edit: Edit, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = edit("armlift.toml", 'default_arm = "popularity"', 'default_arm = "nobody"')
    says = f"default_arm: 'nobody' is not an arm, must be one of {', '.join(NAMES)}"
    expected = f"{place(path, 'nobody')}: {says}"
    assert refused("experiment", "check", "--lab", lab) == expected
    assert refused("explain", "u1", "baselines", "--lab", lab) == expected
    monkeypatch.setenv("ARMLIFT_DEFAULT_ARM", "somebody")
    line = refused("experiment", "check", "--lab", lab)
    assert line.startswith(f"ARMLIFT_DEFAULT_ARM: 'somebody' is not an arm, must be one of {NAMES[0]}, ")


def test_check_warns_of_an_arm_that_no_unit_meets(
    lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(DEMO, "random: 1", "random: 0")
    assert run(["experiment", "check", "--lab", str(lab)]) == 0
    out, err = capsys.readouterr()
    fine = "experiment baselines: fine (popularity, covisitation, random; control popularity)"
    assert out.splitlines() == [fine, "nightly.yaml: fine", "serving.yaml: fine"]
    assert err == "experiment baselines: arm random has weight 0 in every phase, no unit meets it\n"
    later = "{start: 2022-04-20, traffic: 0, weights: {popularity: 0, covisitation: 0, random: 1}}"
    edit(DEMO, PHASE, f"  - traffic: 0\n  - {later}")
    assert run(["experiment", "check", "--lab", str(lab)]) == 0
    assert (
        capsys.readouterr().err == "experiment baselines: traffic is 0 in every phase, no unit takes part\n"
    )


def test_lists_are_one_document_or_a_line_each(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["arm", "list", "--lab", str(lab), "--json"]) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [arm["name"] for arm in arms] == NAMES
    assert run(["experiment", "list", "--lab", str(lab), "--json"]) == 0
    (baselines,) = json.loads(capsys.readouterr().out)["experiments"]
    assert (baselines["name"], baselines["control"]) == ("baselines", "popularity")
    assert run(["arm", "list", "--lab", str(lab)]) == 0
    line = capsys.readouterr().out.splitlines()[NAMES.index("random")]
    assert line.startswith("random  (random)  ")
    assert run(["experiment", "list", "--lab", str(lab)]) == 0
    assert capsys.readouterr().out.startswith("baselines  draft  popularity : covisitation : random")


RAMP = """\
  - traffic: 0.5
  - {start: 2022-04-20, traffic: 1}
  - {start: 2022-04-21T06:30, weights: {popularity: 1, covisitation: 0, random: 3}}"""


def test_show_gives_phases_generations_and_ranges(
    lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(DEMO, PHASE, RAMP)
    edit(DEMO, ARMS, "{popularity: 2, covisitation: 1, random: 1}")
    assert run(["experiment", "show", "baselines", "--lab", str(lab), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["experiment"]["arms"] == {"popularity": 2, "covisitation": 1, "random": 1}
    half, ramped, renewed = shown["phases"]
    assert [phase["generation"] for phase in shown["phases"]] == [0, 0, 1]
    assert [phase["start"] for phase in shown["phases"]] == [
        None,
        "2022-04-20T00:00:00+08:00",
        "2022-04-21T06:30:00+08:00",
    ]
    assert {arm: given["share"] for arm, given in half["arms"].items()} == {
        "popularity": 0.25,
        "covisitation": 0.125,
        "random": 0.125,
    }
    assert half["arms"]["covisitation"]["range"] == [str(2**63), str(2**63 + 2**61)]
    assert ramped["arms"]["covisitation"]["range"] == [str(2**63), str(2**63 + 2**62)]
    assert renewed["arms"]["covisitation"] == {"share": 0.0, "range": None}
    assert renewed["arms"]["random"] == {"share": 0.75, "range": [str(2**62), str(2**64)]}


def test_show_for_people_names_the_hash_and_no_draws(
    lab: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(DEMO, ARMS, "{popularity: 1, covisitation: 0, random: 1}")
    assert run(["experiment", "show", "baselines", "--lab", str(lab), "--json"]) == 0
    name = json.loads(capsys.readouterr().out)["hash"]
    assert run(["experiment", "show", "baselines", "--lab", str(lab)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["hash", name] in lines
    assert ["covisitation", "0.0000%", "no", "draws"] in lines
    assert ["random", "50.0000%", "draws", f"[{2**63},", f"{2**64})"] in lines
    assert ["phase", "0", "from", "the", "beginning,", "generation", "0,", "traffic", "1"] in lines
    assert ["guardrails", "hate_rate"] in lines
