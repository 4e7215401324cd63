import hashlib
import importlib.util
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from armlift.experiment import Experiment
from armlift.hashing import key_of, mix
from armlift.splitter import Holdout, Split, assign

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "assigner"
GOLDEN = FOLDER / "golden.json"
SHA256 = "245b69dc31bbe3fe8c2053adeda05c5416f0894ed0b3d830a6e05ea517981f7a"
SECTIONS = ("hashes", "mixes", "assignments")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def golden() -> Json:
    found: Json = json.loads(GOLDEN.read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", FOLDER / "make_golden.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def node() -> Callable[..., subprocess.CompletedProcess[str]]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed; it runs the JavaScript assigner")

    def run(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)], input=text, capture_output=True, encoding="utf-8", timeout=60
        )

    return run


def test_the_vectors_are_pinned() -> None:
    # A change here breaks every assignment ever made: users would change arms in running experiments.
    assert hashlib.sha256(GOLDEN.read_bytes()).hexdigest() == SHA256


def test_the_maker_prints_the_file(maker: ModuleType) -> None:
    assert maker.layout(maker.golden()) + "\n" == GOLDEN.read_text("utf-8")


def test_python_passes_hashes_and_mixes(golden: Json) -> None:
    assert all(key_of(text) == int(key) for text, key in golden["hashes"])
    assert all(mix(int(x)) == int(mixed) for x, mixed in golden["mixes"])


def test_python_passes_assignments(golden: Json, maker: ModuleType) -> None:
    for group in golden["assignments"]:
        split = maker.split_of(group)
        for phase, expected in enumerate(group["phases"]):
            assert split.phases[phase].generation == expected["generation"]
            assert maker.ranges_of(split, phase) == expected["ranges"]
        for case in group["cases"]:
            assert maker.answer(split, case) == case["expect"]


def test_the_vectors_meet_every_case(golden: Json) -> None:
    lengths = {len(text.encode()) for text, _ in golden["hashes"]}
    assert {0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 1100} <= lengths
    cases = [case for group in golden["assignments"] for case in group["cases"]]
    assert {case["expect"]["rule"] for case in cases} == {
        "forced", "holdout", "audience", "layer", "stored", "range", "outside"
    }  # fmt: skip


def test_javascript_passes(node: Callable[..., subprocess.CompletedProcess[str]], golden: Json) -> None:
    done = node(FOLDER / "check.mjs")
    groups = golden["assignments"]
    count = len(golden["hashes"]) + len(golden["mixes"])
    count += sum(len(group["phases"]) + len(group["cases"]) for group in groups)
    assert (done.returncode, done.stdout) == (0, f"all {count} golden vectors hold\n"), done.stderr


def spoil_hash(golden: Json) -> None:
    golden["hashes"][-1][1] = str(int(golden["hashes"][-1][1]) ^ 1)


def spoil_mix(golden: Json) -> None:
    golden["mixes"][3][1] = "1"


def spoil_range(golden: Json) -> None:
    ranges = golden["assignments"][1]["phases"][0]["ranges"]
    ranges[1][1] = str(int(ranges[1][1]) + 1)


def spoil_case(golden: Json) -> None:
    expect = golden["assignments"][-1]["cases"][-1]["expect"]
    expect["exposed"] = not expect["exposed"]


@pytest.mark.parametrize("spoil", [spoil_hash, spoil_mix, spoil_range, spoil_case])
def test_javascript_finds_one_wrong_vector(
    node: Callable[..., subprocess.CompletedProcess[str]],
    golden: Json,
    tmp_path: Path,
    spoil: Callable[[Json], None],
) -> None:
    copy = json.loads(json.dumps(golden))
    spoil(copy)
    file = tmp_path / "golden.json"
    file.write_text(json.dumps(copy), "utf-8")
    done = node(FOLDER / "check.mjs", file)
    assert done.returncode == 1
    assert done.stdout.startswith("mismatch: ")
    assert done.stdout.count("\n") == 1


def test_javascript_hashes_every_length(node: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    noise = random.Random(7)
    texts = ["".join(noise.choices("abcxyz019 é快👩", k=length)) for length in range(1, 700)]
    script = (
        f"import {{ keyOf }} from {json.dumps((FOLDER / 'assigner.mjs').as_uri())};"
        "import { readFileSync } from 'node:fs';"
        "const texts = JSON.parse(readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(texts.map((text) => String(keyOf(text)))));"
    )
    done = node("--input-type=module", "--eval", script, text=json.dumps(texts))
    assert json.loads(done.stdout) == [str(key_of(text)) for text in texts], done.stderr


def test_javascript_refuses_what_it_cannot_assign(
    node: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    script = (
        f"import {{ assign, keyOf }} from {json.dumps((FOLDER / 'assigner.mjs').as_uri())};"
        "const definition = { name: 'x', arms: [['a', 1]], phases: [{}], audience: 'old' };"
        "const negative = { name: 'x', arms: [['a', -1]], phases: [{}] };"
        "const calls = [() => assign(definition, 0, 'u', { forced: 'b' }), () => assign(definition, 0, 'u'),"
        "  () => keyOf('\\ud800'), () => assign(negative, 0, 'u')];"
        "for (const call of calls) { try { console.log(call()) } catch (e) { console.log(e.message) } }"
    )
    done = node("--input-type=module", "--eval", script)
    assert done.stdout.splitlines() == [
        "forced arm b is not an arm",
        "the definition has an audience: give inAudience",
        '"\\ud800" is not valid Unicode',
        "-1 is not a decimal number >= 0",
    ]


def test_the_page_shows_what_the_code_gives() -> None:
    page = (FOLDER.parent / "splitter.md").read_text("utf-8")
    experiment = Experiment.model_validate(
        {
            "name": "home",
            "arms": {"popularity": 0.1, "covisitation": 0.2, "random": 0.7},
            "control": "popularity",
            "layer": {"name": "ranking", "slice": [0.2, 1]},
            "phases": [{"traffic": 0.5}],
            "metrics": {"primary": ["clicks"]},
        }
    )
    split = Split.of(experiment, default_arm="random", holdout=Holdout("lab", 0.05))
    here, key = split.phases[0], key_of("42")
    salts = (split.holdout_salt, split.layer_salt, here.salt)
    draws = [mix(key ^ salt) for salt in salts]
    for number in (key, *salts, *draws, split.holdout_below, split.layer[0], *here.bounds):
        assert str(number) in page
    assert assign(split, 0, "42")[:3] == ("covisitation", True, "range")
    assert "Unit `42` gets `covisitation` and takes part." in page
