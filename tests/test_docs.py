"""What the documents show runs: their commands, and their definitions."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest
import yaml
from databases import free_port
from event_rows import FIRST, store_events
from serving_lab import serving
from sqlalchemy import text as text_of

from armlift.arm import ArmConfig
from armlift.lab import Lab, init_lab
from armlift.logs.generator import GeneratorSettings, generate
from armlift.logs.reader import open_log
from armlift.metric import Metrics
from armlift.settings import SettingsFile, kafka_address
from armlift.store.database import open_database
from armlift.training import Trainer
from armlift.yamlfile import read_yaml

DOCUMENTS = (
    "README.md",
    "docs/definitions.md",
    "docs/replay.md",
    "docs/data.md",
    "docs/operations.md",
    "docs/privacy.md",
    "docs/archive.md",
    "docs/pipelines.md",
    "docs/planning.md",
    "docs/interleaving.md",
    "docs/ope.md",
    "docs/simulator.md",
    "docs/scale.md",
)
ARMLIFT = Path(sys.executable).parent / "armlift"
SMALL_LOG = GeneratorSettings(
    users=30, videos=60, days=2, sessions_per_day=2, rows_per_session=5, random_share=1
)


def blocks(root: Path, document: str, kind: str) -> list[str]:
    """Give the fenced blocks of one kind."""
    parts = re.split(r"^```", (root / document).read_text(encoding="utf-8"), flags=re.M)
    return [part.removeprefix(f"{kind}\n") for part in parts[1::2] if part.startswith(f"{kind}\n")]


def fenced(root: Path, document: str) -> list[tuple[str, str]]:
    """Give all fenced blocks in their order, each with its kind."""
    parts = re.split(r"^```", (root / document).read_text(encoding="utf-8"), flags=re.M)
    return [(kind, text) for kind, _, text in (part.partition("\n") for part in parts[1::2])]


def commands(root: Path) -> list[str]:
    """Give every armlift command of the documents once; a synopsis, with its [options], is none."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(root, document, ""):
            for line in block.splitlines():
                command = line.split("  #")[0].strip()
                if command.startswith("armlift ") and "[" not in command:
                    found.append(command)
    return list(dict.fromkeys(found))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder where the documents' log files lie."""
    monkeypatch.chdir(tmp_path)
    for name in ("FILE", "log_random_4_22_to_5_08_pure.csv"):
        generate(SMALL_LOG, tmp_path / name)
    rows = [f"u{n},{'abc'[n % 3]},1,{n % 2},{1 / 3}" for n in range(300)]
    for name in ("ROWS", "POLICY"):
        (tmp_path / name).write_text("\n".join(["unit,item,position,reward,propensity", *rows]) + "\n")
    (tmp_path / "SEQUENCES").write_text("1 a b c d\n2 b c d\n3 a c d e\n")
    return tmp_path


def test_the_commands_run(root: Path, place: Path) -> None:
    asked = commands(root)
    assert len(asked) >= 8
    init_lab(place / "LAB")
    (yaml,) = (block for block in blocks(root, "README.md", "yaml") if "freshness" in block)
    (arm,) = (block for block in blocks(root, "README.md", "yaml") if "name: fresh\n" in block)
    for command in asked:
        if command.startswith("armlift explain"):
            (place / "mylab" / "experiments" / "freshness.yaml").write_text(yaml)
            (place / "mylab" / "arms" / "fresh.yaml").write_text(arm)
        words = [str(ARMLIFT), *shlex.split(command)[1:]]
        if command in UNTIL_STOPPED:
            runs_until_stopped(words, *UNTIL_STOPPED[command])
            continue
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert (
        "Lift report" in (place / "report.html").read_text() or "lift" in (place / "report.html").read_text()
    )


UNTIL_STOPPED = {
    "armlift ingest --lab LAB": ("ingesting", "0 dead letters"),
    "armlift schedule --lab mylab": ("scheduling", ""),
    "armlift dashboard --lab mylab": ("You can now view", "Stopping"),
}
"""Commands that run until they are stopped: what they say as they begin, and at their end."""


def runs_until_stopped(words: list[str], begun: str, ended: str) -> None:
    """Start a command that runs for long, and stop it as an operator does."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert any(begun in line for line in iter(process.stdout.readline, ""))
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert ended in out


def test_the_readme_names_the_make_targets(root: Path) -> None:
    makefile = (root / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", (root / "README.md").read_text())) - {"and"}:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_the_definitions_are_accepted(root: Path, place: Path) -> None:
    init_lab(place / "lab")
    lab = Lab(place / "lab")
    arms: list[str] = []
    experiments: list[str] = []
    metrics: list[str] = []
    for document in ("README.md", "docs/definitions.md"):
        for block in blocks(root, document, "yaml"):
            kind = experiments if "control:" in block else arms if "model:" in block else metrics
            kind.append(textwrap.dedent(block))
    assert (len(arms), len(experiments), len(metrics)) == (2, 2, 1)
    for text in arms:
        (lab.folder / "arms" / "fresh.yaml").write_text(text)
        config = lab.arm("fresh")
        assert isinstance(config, ArmConfig)
        trainer = Trainer(lab, open_database(lab, create=True), open_log([place / "FILE"]), 1_649_347_200_000)
        assert len(trainer.arm(config).version) == 12
        trainer.close()
    (lab.folder / "experiments" / "baselines.yaml").unlink()
    for text in experiments:
        (lab.folder / "experiments" / "freshness.yaml").write_text(text)
        assert Lab(lab.folder).experiment("freshness").control == "popularity"
    (place / "metrics.yaml").write_text(metrics[0])
    assert len(read_yaml(place / "metrics.yaml").validate(Metrics)) == 8


def test_the_settings_are_those_of_the_code(root: Path) -> None:
    text = (root / "docs" / "definitions.md").read_text(encoding="utf-8")
    named = {name.split(".")[0] for name in re.findall(r"^\| `([a-z_.]+)` \|", text, re.M)}
    assert set(SettingsFile.model_fields) <= named


def test_the_containers_are_set_as_the_settings_take_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = yaml.safe_load((root / "compose.yaml").read_text())["services"]
    assert set(services) == {"kafka", "postgres", "ingest", "schedule", "api", "haproxy", "dashboard"}
    assert set(services["ingest"]["depends_on"]) == {"kafka", "postgres"}
    assert services["schedule"]["environment"] == services["ingest"]["environment"]
    api = services["api"]
    assert api["environment"] == {**services["ingest"]["environment"], "ARMLIFT_SERVE__REQUIRE_KEYS": "true"}
    assert services["haproxy"]["ports"] == ["127.0.0.1:8000:8000"]
    dashboard = services["dashboard"]
    asked = {**services["ingest"]["environment"], "ARMLIFT_DASHBOARD__SIGN_IN": "password"}
    assert dashboard["environment"] == asked
    assert dashboard["ports"] == ["127.0.0.1:8501:8501"]
    init_lab(tmp_path / "lab")
    for name, value in {**asked, **api["environment"]}.items():
        monkeypatch.setenv(name, value)
    settings = Lab(tmp_path / "lab").settings
    assert settings.dashboard.sign_in == "password"
    assert settings.serve.require_keys
    servers, topic = kafka_address(settings.stream_url)
    assert topic == "events"
    assert f"INSIDE://{servers[0]}" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(
        ","
    )
    assert settings.database_url.endswith("@postgres/armlift")
    copied = re.findall(r"^COPY (\w+) \1$", (root / "Dockerfile").read_text(), re.M)
    assert copied == ["platform", "arms", "pipelines", "dashboards", "migrations"]


def test_the_five_minutes_of_the_api_run(root: Path, place: Path) -> None:
    recipe = subprocess.run(
        ["make", "-n", "--no-print-directory", "-o", ".venv/installed", "serve"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    made, served = (line.removeprefix(".venv/bin/armlift ").split() for line in recipe.splitlines())
    assert served[:4] == ["serve", "--all", "--lab", "demo"]
    subprocess.run([str(ARMLIFT), *made], check=True, capture_output=True)
    lab = Lab(place / "demo")
    (_, begin), *steps = fenced(root, "docs/api.md")
    assert begin.startswith("make serve ")
    ran: list[str] = []
    with serving(lab, "--all", "--dashboard-port", str(free_port())) as answering:
        for kind, text in steps:
            step = text.replace("http://127.0.0.1:8000", answering.url).replace("--users 500", "--users 40")
            if kind == "":
                done = bash(step)
                assert done.returncode == 0, f"{step}: {done.stderr}"
            elif kind == "python":
                exec(step, {})
            elif kind == "json":
                said, given = json.loads(step), json.loads((place / "answer.json").read_text())
                assert (said.keys(), said["items"][0].keys()) == (given.keys(), given["items"][0].keys())
            elif kind == "yaml":
                (lab.folder / "serving.yaml").write_text(step)
                assert len(Lab(lab.folder).filters.filters) == 1
            ran.append(kind)
        metrics = httpx.get(f"{answering.url}/metrics", trust_env=False).text
    assert [ran.count(kind) for kind in ("", "python", "json", "yaml")] == [5, 1, 1, 1]
    named = re.findall(r"`(armlift_serve_\w+)`", (root / "docs" / "api.md").read_text())
    assert len(named) > 15
    assert [name for name in named if name not in metrics] == []
    with open_database(lab).connect() as connection:
        feedback = connection.execute(text_of("SELECT unit_id, kind FROM feedback WHERE unit_id LIKE 'u4_'"))
        assert {("u42", "click"), ("u43", "click"), ("u43", "play")} <= {tuple(row) for row in feedback}
        keys = connection.execute(text_of("SELECT name FROM api_keys")).scalars().all()
        items = connection.execute(text_of("SELECT item_id, available FROM items")).all()
    assert (keys, len(items)) == (["shop"], 2)


def bash(script: str) -> "subprocess.CompletedProcess[str]":
    """Run a block as a reader would, with `armlift` at hand; what fails in it ends it."""
    environment = {**os.environ, "PATH": f"{ARMLIFT.parent}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    words = ["bash", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def test_the_error_shown_is_the_error_given(root: Path, place: Path) -> None:
    init_lab(place / "mylab")
    baselines = place / "mylab" / "experiments" / "baselines.yaml"
    baselines.write_text(baselines.read_text().replace("popularity: 1,", "popular: 1,"))
    done = subprocess.run(
        [str(ARMLIFT), "experiment", "check", "--lab", "mylab"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (shown,) = (block for block in blocks(root, "docs/definitions.md", "") if "is not an arm" in block)
    # The document writes "..." for the arms that its reader need not know.
    pattern = re.escape(shown.strip()).replace(re.escape("..."), ".+")
    assert re.fullmatch(f"armlift: {pattern}\n", done.stderr), done.stderr


def test_the_example_of_interleaving_prints_what_it_says(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks(root, "docs/interleaving.md", "python")
    exec(code, {})
    first, second = capsys.readouterr().out.splitlines()
    assert f"# {first}\n" in code
    assert int(second.split()[0]) > 100


def test_the_archive_is_read_as_its_document_says(
    root: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init_lab(place / "LAB")
    engine = open_database(Lab(place / "LAB"), create=True)
    store_events(engine, "live", FIRST, shown=30, answered=20, exposed=5)
    engine.dispose()
    subprocess.run([str(ARMLIFT), "archive", "--lab", "LAB"], check=True, capture_output=True)
    capsys.readouterr()
    names: dict[str, object] = {}
    for code in blocks(root, "docs/archive.md", "python"):
        exec(code, names)
    shown, answered = capsys.readouterr().out.split("unit_id", 1)
    assert "arm" in shown
    assert "click" in answered
