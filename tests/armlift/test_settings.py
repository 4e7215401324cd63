"""Settings: the file, the environment above it, the defaults below it."""

import os
from importlib.resources import files
from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.events import KINDS
from armlift.settings import (
    Settings,
    SettingsFile,
    check_database_url,
    check_stream_url,
    read_settings,
    setting_error,
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.upper().startswith("ARMLIFT_"):
            monkeypatch.delenv(name)


def settings_of(folder: Path, text: str) -> Settings:
    (folder / "armlift.toml").write_text(text)
    return read_settings(folder)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as error:
        settings_of(folder, text)
    return str(error.value)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    found = settings_of(tmp_path, "")
    assert found.model_dump() == SettingsFile().model_dump()
    assert found.database_url == "sqlite:///armlift.db"
    assert (found.timezone, found.default_arm, found.history_limit) == ("UTC", "popularity", 200)
    assert (found.holdout.share, found.kinds.names) == (0.0, KINDS)


def test_the_stock_file_changes_the_timezone_alone(tmp_path: Path) -> None:
    found = settings_of(tmp_path, (files("armlift") / "stock" / "armlift.toml").read_text(encoding="utf-8"))
    assert found.model_dump() == {**SettingsFile().model_dump(), "timezone": "Asia/Shanghai"}


def test_the_environment_wins_over_the_file_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'timezone = "Asia/Shanghai"\nhistory_limit = 50\n[holdout]\nname = "mine"\nshare = 0.1\n'
    monkeypatch.setenv("ARMLIFT_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("ARMLIFT_HOLDOUT__SHARE", "0.2")
    monkeypatch.setenv("ARMLIFT_KINDS__NAMES", '["click", "buy"]')
    monkeypatch.setenv("armlift_default_arm", "random")
    found = settings_of(tmp_path, text)
    assert (found.timezone, found.history_limit, found.default_arm) == ("Europe/Berlin", 50, "random")
    assert (found.holdout.name, found.holdout.share) == ("mine", 0.2)
    assert found.kinds.names == ("click", "buy")
    assert found.artefact_url == "models"


def test_the_file_is_not_blamed_for_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMLIFT_TIMEZONE", "Mars")
    assert refusal(tmp_path, 'timezone = "UTC"\n').startswith("ARMLIFT_TIMEZONE: 'Mars' is not a time zone")


def test_the_environment_is_not_blamed_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMLIFT_TIMEZONE", "UTC")
    monkeypatch.setenv("ARMLIFT_KINDS", "{")
    path = tmp_path / "armlift.toml"
    assert refusal(tmp_path, 'timezone = "Mars"\n').startswith(
        f"{path}:1: timezone: 'Mars' is not a time zone"
    )


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ARMLIFT_HOLDOUT", '{"share": 2}', "ARMLIFT_HOLDOUT: 2 must be less than or equal to 1"),
        ("ARMLIFT_HOLDOUT", "[1]", "ARMLIFT_HOLDOUT: [1] must be a mapping of keys to values"),
        ("ARMLIFT_HOLDOUT__SHARE", "much", "ARMLIFT_HOLDOUT__SHARE: 'much' must be a number"),
        ("armlift_holdout__share", "much", "ARMLIFT_HOLDOUT__SHARE: 'much' must be a number"),
        ("ARMLIFT_KINDS__NAMES", "click", "ARMLIFT_KINDS__NAMES: is not JSON, must be like"),
        ("ARMLIFT_KINDS__NAME", "[]", "ARMLIFT_KINDS__NAME: unknown key, must be one of names (did you mean"),
        ("ARMLIFT_KINDS__NAMES", '["impression"]', "ARMLIFT_KINDS__NAMES: 'impression' is reserved"),
        ("ARMLIFT_ARTEFACT_URL", "", "ARMLIFT_ARTEFACT_URL: '' must have at least 1 character"),
        (
            "ARMLIFT_STREAM_URLS",
            "x",
            "ARMLIFT_STREAM_URLS: unknown variable, must be one of ARMLIFT_DATABASE",
        ),
    ],
)
def test_a_bad_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refusal(tmp_path, "").startswith(says)


@pytest.mark.parametrize(
    "variable", ["ARMLIFT_SERVICE_HOST", "ARMLIFT_PORT_80_TCP", "ARMLIFT_TEST_POSTGRESQL"]
)
def test_variables_of_others_are_let_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "x")
    assert settings_of(tmp_path, "").model_dump() == SettingsFile().model_dump()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"armlift\.toml: there is no such file"):
        read_settings(tmp_path)


def test_an_error_of_a_setting_stands_where_its_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_of(tmp_path, '# mine\n\ndefault_arm = "x"\n')
    path = tmp_path / "armlift.toml"
    assert str(setting_error(tmp_path, ("default_arm",), "is odd")) == f"{path}:3: default_arm: is odd"
    monkeypatch.setenv("ARMLIFT_DEFAULT_ARM", "y")
    assert str(setting_error(tmp_path, ("default_arm",), "is odd")) == "ARMLIFT_DEFAULT_ARM: is odd"


@pytest.mark.parametrize(
    "url",
    ["sqlite:///x.db", "sqlite:////x/y.db", "postgresql+psycopg://u:p@h:5432/x", "postgresql+psycopg://"],
)
def test_databases(url: str) -> None:
    assert check_database_url(url) == url


@pytest.mark.parametrize(
    "url",
    ["", "x.db", "sqlite://", "sqlite:///", "postgres://u:secret@h/x", "mysql://u:secret@h/x", "SQLITE:///x"],
)
def test_other_databases_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be (sqlite:///FILE or|like sqlite:///)") as error:
        check_database_url(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["local://stream", "local:///var/stream", "kafka://host:9092/events"])
def test_streams(url: str) -> None:
    assert check_stream_url(url) == url


@pytest.mark.parametrize("url", ["", "stream", "local://", "kafka://", "redis://u:secret@host"])
def test_other_streams_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ValueError, match="is no stream, must be local://FOLDER or") as error:
        check_stream_url(url)
    assert "secret" not in str(error.value)


def test_who_may_look_is_a_part_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARMLIFT_DASHBOARD__SECRET", "s" * 32)
    found = settings_of(
        tmp_path,
        '[dashboard]\nsign_in = "password"\nowners = ["ann"]\nviewers = ["bob"]\n'
        '[dashboard.passwords]\nann = "$argon2id$v=19$m=65536,t=3,p=4$salt$hash"\n',
    ).dashboard
    assert (found.sign_in, found.owners, found.viewers) == ("password", ("ann",), ("bob",))
    assert found.passwords["ann"].get_secret_value().startswith("$argon2id$")
    assert "argon2" not in repr(found)
    assert "ssss" not in repr(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('sign_in = "ldap"', "dashboard.sign_in: 'ldap' must be 'none', 'password' or 'oidc'"),
        ('owners = "ann"', "dashboard.owners: 'ann' must be a list"),
        ('passwords = {ann = "correct horse"}', "dashboard.passwords.ann: is no hash, must be what"),
        ("passwords = {ann = 12345678}", "dashboard.passwords.ann: must be text, in quotes"),
        ('secret = "hush"', "dashboard.secret: is too short, must have at least 32 characters"),
        ("secret = 12345678", "dashboard.secret: must be text, in quotes"),
    ],
)
def test_bad_rules_of_sign_in_are_one_line_that_shows_no_secret(tmp_path: Path, text: str, says: str) -> None:
    line = refusal(tmp_path, f"[dashboard]\n{text}\n")
    assert line.startswith(f"{tmp_path / 'armlift.toml'}:2: {says}")
    assert not any(secret in line for secret in ("horse", "12345678", "hush"))
