"""Tickets: only what was signed here, for this password, and has not ended, counts."""

import base64
import json
import stat
from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift_dashboards.tickets import SECRET_FILE, Ticket, claimed, cookie_name, secret_of, sign, verify

SECRET = b"s" * 32
ANN = Ticket("ann", "viewer", 1000)


def test_a_ticket_is_read_until_it_ends() -> None:
    text = sign(ANN, SECRET, "hash")
    assert verify(text, SECRET, "hash", 999.9) == ANN
    assert verify(text, SECRET, "hash", 1000.0) is None
    assert sign(ANN, SECRET, "hash") != text
    assert not set(text) & set('; ,"=\\')


@pytest.mark.parametrize("changed", [{"name": "root"}, {"role": "owner"}, {"until": 10**12}])
def test_a_forged_ticket_is_refused(changed: dict[str, str | int]) -> None:
    payload, _, seal = sign(ANN, SECRET, "hash").partition(".")
    forged = ANN._replace(**changed)  # type: ignore[arg-type]
    data = json.dumps([*forged, "0" * 16]).encode()
    text = f"{base64.urlsafe_b64encode(data).decode().rstrip('=')}.{seal}"
    assert claimed(text) == forged
    assert verify(text, SECRET, "hash", 0) is None
    assert verify(f"{payload}.{seal[:-2]}AA", SECRET, "hash", 0) is None
    assert verify(f"{payload}.", SECRET, "hash", 0) is None


def test_another_secret_or_a_changed_password_ends_it() -> None:
    text = sign(ANN, SECRET, "hash")
    assert verify(text, b"t" * 32, "hash", 0) is None
    assert verify(text, SECRET, "new hash", 0) is None


@pytest.mark.parametrize(
    "text", ["", ".", "x", "x.y", "é.é", "bnVsbA.x", "W10.W10", "a" * 5000, "eyJhIjoxfQ.x"]
)
def test_nonsense_is_no_ticket(text: str) -> None:
    assert claimed(text) is None
    assert verify(text, SECRET, "hash", 0) is None


def test_the_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    init_lab(tmp_path / "lab")
    lab = Lab(tmp_path / "lab")
    found = secret_of(lab)
    assert len(found) == 64
    assert secret_of(lab) == found
    assert stat.S_IMODE((lab.folder / SECRET_FILE).stat().st_mode) == 0o600
    assert [one.name for one in lab.folder.iterdir() if one.name.startswith(".dashboard")] == [SECRET_FILE]
    assert found.decode() not in cookie_name(found)
    (lab.folder / SECRET_FILE).write_text("short")
    with pytest.raises(InputError, match="is damaged"):
        secret_of(lab)


def test_the_settings_secret_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_lab(tmp_path / "lab")
    monkeypatch.setenv("ARMLIFT_DASHBOARD__SECRET", "e" * 40)
    assert secret_of(Lab(tmp_path / "lab")) == b"e" * 40
    assert not (tmp_path / "lab" / SECRET_FILE).exists()


def test_a_secret_that_cannot_be_kept_asks_for_the_variable(tmp_path: Path) -> None:
    init_lab(tmp_path / "lab")
    (tmp_path / "lab" / SECRET_FILE).mkdir()
    with pytest.raises(InputError, match="or set ARMLIFT_DASHBOARD__SECRET"):
        secret_of(Lab(tmp_path / "lab"))
