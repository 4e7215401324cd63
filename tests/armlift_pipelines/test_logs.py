"""The end of a log is read from the lab's folder of logs, and nothing else is."""

import os
from pathlib import Path

import pytest

from armlift.errors import InputError
from armlift_pipelines.logs import BYTES, LINES, tail


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab" / "logs" / "live-2026-01-02").mkdir(parents=True)
    (tmp_path / "lab" / "armlift.toml").write_text("secret")
    return tmp_path / "lab"


def write(lab: Path, content: bytes) -> str:
    (lab / "logs" / "live-2026-01-02" / "gate.log").write_bytes(content)
    return "logs/live-2026-01-02/gate.log"


def test_a_short_log_is_read_whole(lab: Path) -> None:
    found = tail(lab, write(lab, b"passes\tfinite: all\n\x1b[31mred\x1b[0m \xff\n"))
    assert found is not None
    assert found.lines == ["passes    finite: all", r"\x1b[31mred\x1b[0m " + "\N{REPLACEMENT CHARACTER}"]
    assert not found.cut
    assert tail(lab, write(lab, b"")) == ([], False)


def test_of_a_long_log_the_last_lines_are_read(lab: Path) -> None:
    found = tail(lab, write(lab, b"".join(b"line %d\n" % number for number in range(1, 501))))
    assert found is not None
    assert (len(found.lines), found.cut) == (LINES, True)
    assert (found.lines[0], found.lines[-1]) == ("line 301", "line 500")
    found = tail(lab, write(lab, b"a" * BYTES + b"\nlast\n"))
    assert found == (["last"], True)
    found = tail(lab, write(lab, b"a" * (2 * BYTES)))
    assert found is not None
    assert [len(line) for line in found.lines] == [BYTES]


def test_a_log_that_is_gone_is_none(lab: Path) -> None:
    assert tail(lab, "logs/live-2026-01-01/gate.log") is None
    (lab / "logs" / "live-2026-01-02").rmdir()
    (lab / "logs").rmdir()
    assert tail(lab, "logs/x.log") is None


@pytest.mark.parametrize(
    "log", ["armlift.toml", "logs/../armlift.toml", "../other/logs/x.log", "/etc/passwd", "logs/link.log"]
)
def test_what_leads_out_of_the_folder_is_refused(lab: Path, log: str) -> None:
    (lab / "logs" / "link.log").symlink_to(lab / "armlift.toml")
    with pytest.raises(InputError, match="must lie in logs/ of the lab") as raised:
        tail(lab, log)
    assert "secret" not in str(raised.value)


def test_what_is_no_file_is_refused(lab: Path) -> None:
    os.mkfifo(lab / "logs" / "pipe.log")
    for log in ("logs/pipe.log", "logs/live-2026-01-02", "logs"):
        with pytest.raises(InputError, match="must be a file"):
            tail(lab, log)
    (lab / "logs" / "loop.log").symlink_to(lab / "logs" / "loop.log")
    for log in ("logs/loop.log", "logs/\0.log"):
        with pytest.raises(InputError, match="cannot be read") as raised:
            tail(lab, log)
        assert "\0" not in str(raised.value)
