"""init, schema and db upgrade."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.arm import arm_classes
from armlift.cli import run
from armlift.lab import stock_arms
from armlift.store.tables import SCHEMA_REVISION

Refused = Callable[..., str]
Edit = Callable[[str, str, str], Path]


def test_init_makes_a_lab_whose_definitions_are_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "lab"
    assert run(["init", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    made = {Path(line.removeprefix("made ")) for line in err.splitlines() if line.startswith("made ")}
    assert made == {path for path in folder.rglob("*") if path.is_file()}
    assert {"armlift.toml", "metrics.yaml", "demo.yaml", "random.yaml", "experiment.json"} <= {
        path.name for path in made
    }
    assert run(["arm", "check", "--lab", str(folder)]) == 0
    assert run(["experiment", "check", "demo", "--lab", str(folder)]) == 0
    assert run(["experiment", "show", "demo", "--lab", str(folder)]) == 0
    assert capsys.readouterr().err == ""


def test_init_twice_is_refused(lab: Path, refused: Refused) -> None:
    says = f"{lab}: is a lab already (armlift.toml is there), must be a new or empty folder"
    assert refused("init", lab) == says


def test_init_overwrites_nothing(tmp_path: Path, refused: Refused) -> None:
    mine = tmp_path / "arms" / "random.yaml"
    mine.parent.mkdir()
    mine.write_text("name: random\n")
    assert refused("init", tmp_path).startswith(f"{mine}: is there already with other content")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_an_init_that_was_broken_off_is_done_again(lab: Path, lab_template: Path) -> None:
    (lab / "armlift.toml").unlink()
    assert run(["init", str(lab)]) == 2
    (lab / "experiments" / "baselines.yaml").unlink()
    assert run(["init", str(lab)]) == 0
    assert (lab / "armlift.toml").read_bytes() == (lab_template / "armlift.toml").read_bytes()
    assert (lab / "experiments" / "demo.yaml").is_file()


@pytest.mark.parametrize("below", ["file", "file/lab"])
def test_a_lab_that_cannot_be_written_is_one_line(tmp_path: Path, refused: Refused, below: str) -> None:
    # Permissions do not stop the super-user, a file in a folder's place does.
    (tmp_path / "file").write_text("")
    says = f"{tmp_path / below}/arms/{min(stock_arms())}.yaml: cannot be written (Not a directory)"
    assert refused("init", tmp_path / below).startswith(says)
    assert refused("demo", "--lab", tmp_path / below).startswith(says)


def test_schemas_that_cannot_be_written_are_one_line(lab: Path, refused: Refused) -> None:
    shutil.rmtree(lab / ".schemas")
    (lab / ".schemas").write_text("")
    line = refused("schema", "--lab", lab)
    assert line.startswith(f"{lab}/.schemas/experiment.json: cannot be written (")


def test_schema_writes_them_again(lab: Path, lab_template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(lab / ".schemas")
    assert run(["schema", "--lab", str(lab)]) == 0
    assert len(capsys.readouterr().err.splitlines()) == len(list((lab / ".schemas").iterdir()))
    for path in (lab / ".schemas").iterdir():
        assert path.read_bytes() == (lab_template / ".schemas" / path.name).read_bytes()


def test_no_such_lab(tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere"
    says = f"{nowhere}: is not a lab (no armlift.toml); make one with `armlift init {nowhere}`"
    assert refused("arm", "check", "--lab", nowhere) == says
    monkeypatch.chdir(tmp_path)
    says = f"no lab in {tmp_path} or its parents (no armlift.toml); make one with `armlift init LAB`"
    assert refused("arm", "check").startswith(says)


def test_a_lab_is_found_from_the_folders_inside(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab / "experiments")
    assert run(["arm", "check", "random"]) == 0
    assert capsys.readouterr().out == "arm random: fine\n"


BAD_SETTINGS = {
    "not TOML": ('timezone = "Asia/Shanghai"', "timezone = Asia", 11, "is not TOML: Invalid value"),
    "key twice": ("history_limit = 200", "history_limit = 1\nhistory_limit = 2", 21, "is not TOML: Cannot"),
    "unknown key": (
        "timezone =",
        "timezon =",
        11,
        "timezon: unknown key, must be one of archive_url, artefact_url, dashboard, database_url, "
        "default_arm, history_limit, holdout, kafka, kinds, lateness, serve, spark, stream_url, timezone "
        "(did you mean timezone?)",
    ),
    "unknown table": ("[holdout]", "[holdut]", 22, "holdut: unknown key, must be one of"),
    "unknown nested key": (
        "share = 0.0",
        "shar = 0.0",
        24,
        "holdout.shar: unknown key, must be one of name, share (did you mean share?)",
    ),
    "timezone": (
        "Asia/Shanghai",
        "Mars/Base",
        11,
        "timezone: 'Mars/Base' is not a time zone, must be a name such as UTC or Asia/Shanghai",
    ),
    "a path for a timezone": ("Asia/Shanghai", "../../etc/passwd", 11, "is not a time zone, must be"),
    "number for a text": ('"Asia/Shanghai"', "8", 11, "timezone: 8 must be text, in quotes"),
    "text for a number": ("= 200", '= "200"', 20, "history_limit: '200' must be a whole number"),
    "truth for a number": ("share = 0.0", "share = true", 24, "holdout.share: true must be a number"),
    "out of range": ("share = 0.0", "share = 1.5", 24, "holdout.share: 1.5 must be less than or equal to 1"),
    "kind": ('"click",', '"Click",', 27, "kinds.names.0: 'Click' must match pattern '^[a-z][a-z0-9_]"),
    "reserved kind": (
        '"click",',
        '"impression",',
        27,
        "kinds.names: 'impression' is reserved for items shown, must not stand here",
    ),
    "database": (
        "sqlite:///armlift.db",
        "oracle://u:secret@host/x",
        5,
        "database_url: 'oracle://' is no database, must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
    ),
    "database without a file": ("sqlite:///armlift.db", "sqlite://", 5, "'sqlite://' names no file, must be"),
    "stream": (
        "local://stream",
        "stream",
        6,
        "stream_url: 'stream' is no stream, must be local://FOLDER or kafka://HOST:PORT/TOPIC",
    ),
}


@pytest.mark.parametrize(("old", "new", "number", "says"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_bad_setting_is_one_line(
    lab: Path, edit: Edit, refused: Refused, old: str, new: str, number: int, says: str
) -> None:
    path = edit("armlift.toml", old, new)
    line = refused("arm", "check", "--lab", lab)
    assert line.startswith(f"{path}:{number}: ")
    assert says in line
    assert "secret" not in line


def test_settings_that_are_not_text_are_one_line(lab: Path, refused: Refused) -> None:
    (lab / "armlift.toml").write_bytes(b'timezone = "UTC"\n# caf\xe9\n')
    line = refused("arm", "check", "--lab", lab)
    assert line == f"{lab}/armlift.toml:2: byte 0xe9 is not UTF-8, the file must be"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        (
            "ARMLIFT_TIMEZONE",
            "Mars",
            "'Mars' is not a time zone, must be a name such as UTC or Asia/Shanghai",
        ),
        ("ARMLIFT_HOLDOUT__SHARE", "2", "'2' must be less than or equal to 1"),
        ("ARMLIFT_HOLDOUT__SHAR", "0", "unknown key, must be one of name, share (did you mean share?)"),
        ("ARMLIFT_HOLDOUT", "3", "3 must be a mapping of keys to values"),
        ("ARMLIFT_HOLDOUT", "{", 'is not JSON, must be like ["click"] or {"share": 0.1}'),
        ("ARMLIFT_KINDS__NAMES", "a,b", 'is not JSON, must be like ["click"] or {"share": 0.1}'),
        ("ARMLIFT_KINDS__NAMES", '["A"]', "'A' must match pattern '^[a-z][a-z0-9_]{0,62}$'"),
        ("ARMLIFT_HISTORY_LIMIT", "many", "'many' must be a whole number"),
        (
            "ARMLIFT_DATABASE_URL",
            "mysql://u:secret@h/x",
            "'mysql://' is no database, must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
        ),
        (
            "ARMLIFT_TIMEZON",
            "UTC",
            "unknown variable, must be one of ARMLIFT_DATABASE_URL, ARMLIFT_STREAM_URL, "
            "ARMLIFT_ARTEFACT_URL, ARMLIFT_ARCHIVE_URL, ARMLIFT_TIMEZONE, ARMLIFT_DEFAULT_ARM, "
            "ARMLIFT_HOLDOUT, ARMLIFT_KINDS, ARMLIFT_KAFKA, ARMLIFT_DASHBOARD, ARMLIFT_SERVE, "
            "ARMLIFT_LATENESS, ARMLIFT_HISTORY_LIMIT "
            "(did you mean ARMLIFT_TIMEZONE?)",
        ),
    ],
)
def test_a_bad_variable_is_one_line(
    lab: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refused("arm", "check", "--lab", lab) == f"{variable}: {says}"


@pytest.mark.parametrize(
    ("option", "url", "says"),
    [
        (
            "--database",
            "armlift.db",
            "'armlift.db' is no database, must be sqlite:///FILE or postgresql+psycopg:",
        ),
        ("--database", "postgres://u:secret@h/x", "'postgres://' is no database, must be sqlite:///FILE or"),
        ("--database", "", "'' is no database, must be sqlite:///FILE or"),
        ("--database", "sqlite:///", "'sqlite:///' names no file, must be like sqlite:///armlift.db"),
    ],
)
def test_a_bad_option_is_one_line(lab: Path, refused: Refused, option: str, url: str, says: str) -> None:
    line = refused("db", "upgrade", "--lab", lab, option, url)
    assert line.startswith(f"{option}: {says}")
    assert "secret" not in line


def test_upgrade_makes_a_database_and_leaves_a_new_one_alone(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, now = f"sqlite:///{lab / 'armlift.db'}", SCHEMA_REVISION
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"{shown}: schema {before} -> {now}" for before in ("none", now)]


def test_a_file_that_is_no_database_is_one_line(lab: Path, refused: Refused) -> None:
    (lab / "armlift.db").write_bytes(b"this is no database " * 100)
    line = refused("db", "upgrade", "--lab", lab)
    assert line == f"database sqlite:///{lab / 'armlift.db'} cannot be read: file is not a database"


def test_a_schema_that_is_not_known_is_one_line(lab: Path, refused: Refused) -> None:
    with sqlite3.connect(lab / "armlift.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    assert "has schema '9999', must be at most" in refused("db", "upgrade", "--lab", lab)


def test_written_schemas_are_json(lab: Path) -> None:
    names = {path.stem for path in (lab / ".schemas").glob("*.json")}
    assert names == {
        "experiment",
        "metrics",
        "armlift",
        "nightly",
        "serving",
        *(f"arm-{model}" for model in arm_classes()),
    }
    assert "arm-popularity" in names
    for name in names:
        assert json.loads((lab / ".schemas" / f"{name}.json").read_text())["type"] == "object"


def test_db_expire_deletes_what_is_before_a_day(
    lab: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    assert run(["db", "upgrade", "--lab", str(lab)]) == 0
    assert run(["db", "expire", "--lab", str(lab), "--before", "2022-04-15"]) == 0
    assert capsys.readouterr().out == "0 impressions, 0 feedback deleted\n"
    assert run(["db", "expire", "--lab", str(lab), "--before", "2022-04-15", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    nothing = {"impressions": 0, "feedback": 0}
    assert document == {"before": "2022-04-15", "deleted": nothing, "waiting_days": 0}
    assert "must be like 2022-04-15" in refused("db", "expire", "--lab", lab, "--before", "yesterday")
