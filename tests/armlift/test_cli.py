"""The command line itself: it answers at once, exits with the right code, and never shows a traceback."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from armlift import cli
from armlift.cli import run
from armlift.errors import InputError, StoreError, StreamError
from armlift.lab import init_lab

HEAVY = ("torch", "polars", "sqlalchemy", "scipy", "numpy", "alembic", "pydantic", "yaml", "xxhash")
MAIN = "from armlift.cli import main; main()"


def start(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run `armlift` in a process of its own."""
    command = [sys.executable, "-c", MAIN, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from armlift.cli import run; run(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "replay" in done.stdout


def test_a_lab_is_made_and_checked_without_torch(tmp_path: Path) -> None:
    commands = [["init", "lab"], ["arm", "check", "--lab", "lab"], ["schema", "--lab", "lab"]]
    code = (
        "import sys; from armlift.cli import run;"
        f"print([run(words) for words in {commands!r}], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] False"


@pytest.mark.parametrize("words", [["--help"], [], ["replay", "--help"], ["experiment", "--help"]])
def test_help_is_fine(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    out, err = capsys.readouterr()
    assert "Usage: armlift" in out
    assert err == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    out = capsys.readouterr().out
    for command in (
        "init", "demo", "schema", "db", "arm", "experiment", "explain", "replay", "report", "train",
        "evaluate", "generate", "ingest", "import", "power", "aa", "keys", "items",
    ):  # fmt: skip
        assert f" {command} " in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replya"], "No such command 'replya'. Did you mean 'replay', 'explain'?; see `armlift --help`"),
        (
            ["experiment", "chek"],
            "No such command 'chek'. Did you mean 'check'?; see `armlift experiment --help`",
        ),
        (["experiment"], "Missing command; see `armlift experiment --help`"),
        (["--colour"], "No such option: --colour; see `armlift --help`"),
        (["explain"], "Missing argument 'unit'; see `armlift explain --help`"),
        (["generate", "x.csv", "--users"], "Option '--users' requires an argument"),
        (["generate", "x.csv", "--users", "many"], "--users: 'many' must be a whole number"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    assert capsys.readouterr() == ("", f"armlift: {says}\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["arm", "check", "--lab", "nowhere"],
            "armlift: nowhere: is not a lab (no armlift.toml); make one with",
        ),
        (["arm", "check"], "armlift: no lab in "),
        (["replay", "demo", "--lab", "lab", "--log", "none.csv"], "armlift: none.csv: no such file"),
        (
            ["experiment", "check", "--lab", "lab"],
            "armlift: lab/experiments/demo.yaml:1: is a list, must be a",
        ),
    ],
)
def test_a_process_says_one_line_and_exits_with_2(tmp_path: Path, words: list[str], says: str) -> None:
    init_lab(tmp_path / "lab")
    if "check" in words:
        (tmp_path / "lab" / "experiments" / "demo.yaml").write_text("- a\n")
    done = start(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    init_lab(tmp_path / "lab")
    command = f"{sys.executable} -c '{MAIN}' experiment show demo --lab lab | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_main_exits_with_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in ((["--help"], 0), (["nothing"], 2)):
        with pytest.raises(SystemExit) as leaving:
            cli.main(words)
        assert leaving.value.code == code
    capsys.readouterr()


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Give a list whose last error the command `fail` raises; it comes from another package."""
    errors: list[BaseException] = []
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise errors[-1]

    monkeypatch.setattr(EntryPoint, "load", lambda self: app)
    found = [EntryPoint("other", "other:app", cli.GROUP)]
    monkeypatch.setattr(cli, "entry_points", lambda group: found if group == cli.GROUP else [])
    return errors


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InputError("x.yaml:1: is odd"), 2, "x.yaml:1: is odd"),
        (InputError("two\nlines"), 2, "two lines"),
        (StreamError("stream: is odd"), 2, "stream: is odd"),
        (StoreError("store: is odd"), 2, "store: is odd"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 2, "system: No space left on device"),
        (
            OperationalError("SELECT 1", None, Exception("database is locked")),
            2,
            "database: database is locked; nothing was lost, start the same command again",
        ),
        (
            DatabaseError("SELECT 1", None, Exception("database disk image is malformed")),
            2,
            "database: database disk image is malformed",
        ),
        (KeyboardInterrupt(), 130, "stopped; start the same command again to go on"),
        (typer.Abort(), 130, "stopped; start the same command again to go on"),
    ],
)
def test_what_is_raised_on_purpose_is_one_line(
    raising: list[BaseException],
    error: BaseException,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising.append(error)
    assert run(["fail"]) == code
    assert capsys.readouterr() == ("", f"armlift: {says}\n")


def test_a_command_may_answer_no(raising: list[BaseException]) -> None:
    raising.append(typer.Exit(1))
    assert run(["fail"]) == 1


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("ours"), IntegrityError("INSERT", None, Exception("ours"))], ids=type
)
def test_our_own_mistakes_are_not_hidden(raising: list[BaseException], error: Exception) -> None:
    raising.append(error)
    with pytest.raises(type(error), match="ours"):
        run(["fail"])
