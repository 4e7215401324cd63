"""Killed at any point and started again, an archiving leaves each day once, and no file beside."""

import signal
import subprocess
import sys

import pytest
from event_rows import FIRST, NOW, assert_equal, store_events
from sqlalchemy import Engine

from armlift.archive.alone import alone
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.errors import StoreError

DYING = """
import os, shutil, signal, sys
from pathlib import Path
from armlift.archive import alone, folder
from armlift.archive.archive import Archive
from armlift.archive.closed import archive_closed
from armlift.store.database import connect

url, database, now, what, point = sys.argv[1:]
left = int(point)

def dying(do, *, after):
    def instead(*given, **named):
        global left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = do(*given, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return instead

def half(source, file, length):
    file.write(source.read()[:200])
    file.flush()

engine, archive = connect(database, Path()), Archive(url)
if what == "half":
    folder.shutil.copyfileobj = dying(half, after=True)
elif what == "written":
    folder.Folder.write = dying(folder.Folder.write, after=True)
elif what == "unnamed":
    folder.os.replace = dying(os.replace, after=False)
elif what == "named":
    folder.Folder.replace = dying(folder.Folder.replace, after=True)
elif what == "removing":
    folder.Folder.remove = dying(folder.Folder.remove, after=False)
elif what == "erase":
    folder.Folder.remove = dying(folder.Folder.remove, after=False)
    archive.erase(["u0", "u1ü"])
with alone.alone(engine) if what == "hold" else open(os.devnull):
    print("ready", flush=True)
    if what == "hold":
        sys.stdin.read()
    archive_closed(engine, archive, int(now), after=0)
"""


def started(engine: Engine, archive: Archive, what: str, point: int) -> subprocess.Popen[bytes]:
    database = engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", DYING, archive.url, database, str(NOW), what, str(point)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def killed(engine: Engine, archive: Archive, what: str, point: int = 1) -> None:
    """Let a process archive that kills itself the n-th time it comes to a point."""
    with started(engine, archive, what, point) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("what", "point"), [("half", 1), ("written", 4), ("unnamed", 1), ("named", 3), ("written", 18)]
)
def test_a_first_archiving_is_killed(filled: Engine, archive: Archive, what: str, point: int) -> None:
    killed(filled, archive, what, point)
    there = sum(len(archive.days(run)) for run in archive.runs())
    assert there < 6
    done = archive_closed(filled, archive, NOW, after=0)
    assert (len(done.written), done.skipped) == (6 - there, there)
    assert done.removed == {"half": 1, "written": 4, "unnamed": 5, "named": 0}[what] if point < 18 else True
    assert_equal(filled, archive)
    again = archive_closed(filled, archive, NOW, after=0)
    assert (again.written, again.skipped, again.removed) == ([], 6, 0)


@pytest.mark.parametrize("what", ["written", "unnamed", "named", "removing"])
def test_an_archiving_of_late_events_is_killed(filled: Engine, archive: Archive, what: str) -> None:
    archive_closed(filled, archive, NOW, after=0)
    store_events(filled, "live", FIRST, shown=5, answered=5, exposed=5, seed=1)
    killed(filled, archive, what)
    named = {file.path for one in archive.manifests("live") for file in one.files}
    assert named <= archive.folder.sizes().keys(), "what readers are told of is there"
    archive_closed(filled, archive, NOW, after=0)
    assert_equal(filled, archive)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_an_erasure_is_killed(filled: Engine, archive: Archive) -> None:
    archive_closed(filled, archive, NOW, after=0)
    killed(filled, archive, "erase")
    archive.erase(["u0", "u1ü"])
    named = {file.path for run in archive.runs() for one in archive.manifests(run) for file in one.files}
    assert named == {path for path in archive.folder.sizes() if path.endswith(".parquet")}


def test_two_processes_do_not_archive_at_once(filled: Engine, archive: Archive) -> None:
    with started(filled, archive, "hold", 0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        busy = pytest.raises(StoreError, match="archive: another process is writing it; wait until it has")
        with busy, alone(filled, patience=0.3):
            raise AssertionError("both hold the lock")
        process.kill()
        done = archive_closed(filled, archive, NOW, after=0)
    assert len(done.written) == 6
    assert_equal(filled, archive)
