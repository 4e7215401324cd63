"""Arrays on disk: what they hold, that nothing of them is left, and that a fit's memory does not grow."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from armlift.arm import Arm, Behaviour, History, ItemTable, arm_class, new_arm
from armlift.fitting import fitting
from armlift_arms import prefixes, scratch, stages, windows
from armlift_arms.scratch import Growing, Strings, let_go, parts, zeros
from armlift_arms.windows import Sequences

SMALL: dict[str, Any] = {
    "dim": 8, "length": 6, "epochs": 2, "patience": 2, "negatives": 16, "batch_tokens": 64,
    "history_kinds": ("click",),
}  # fmt: skip
TALK: dict[str, Any] = SMALL | {"pretraining_epochs": 1, "heads": 1}
ARMS: list[tuple[str, dict[str, Any]]] = [
    ("sasrec", SMALL | {"heads": 1}),
    ("comirec", SMALL),
    ("comirec", SMALL | {"extractor": "dr"}),
    ("recgpt1", TALK),
    ("recgpt", TALK),
    ("recgpt", TALK | {"prompts": 2, "top_p": 0.8, "prompt_source": "random"}),
    ("recgpt", TALK | {"prompts": 2, "prompt_source": "unclicked", "user_vectors": True}),
    ("recgpt", TALK | {"prompts": 3, "decoding": "parallel", "prompt_source": "popular"}),
]
ITEMS = ItemTable([f"{item:02}" for item in range(40)])


def histories(units: int = 90) -> Iterator[History]:
    """Give units that go round a circle of items, take most and see the others."""
    random = np.random.default_rng(4)
    for unit in range(units):
        places = (unit + np.cumsum(random.integers(1, 4, random.integers(1, 14)))) % len(ITEMS)
        kinds = np.where(random.random(len(places)) < 0.8, "click", "view").tolist()
        pairs = zip(places.tolist(), kinds, strict=True)
        met = [Behaviour(ITEMS.ids[item], kind, 1.0, at) for at, (item, kind) in enumerate(pairs)]
        yield History(f"u{unit}", met)


def test_what_grows_is_an_array_in_the_end() -> None:
    numbers = Growing("q")
    numbers.extend([1, 2])
    numbers.extend(value for value in (3, 4))
    numbers.extend(np.array([[5, 6], [7, 8]], dtype=np.int32))
    numbers.extend([])
    assert len(numbers) == 8
    found = numbers.done()
    assert found.dtype == np.int64
    assert found.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert Growing("i").done().tolist() == []


def test_what_is_let_go_comes_back() -> None:
    array = zeros((1000, 3), np.int32)
    assert array.shape == (1000, 3)
    assert not array.any()
    array[500] = [1, 2, 3]
    let_go()
    assert array[500].tolist() == [1, 2, 3]
    assert array.sum() == 6
    assert zeros((0, 3), np.int32).shape == (0, 3)


def test_parts_are_all_rows_once() -> None:
    assert [(part.start, part.stop) for part in parts(10, 4)] == [(0, 4), (4, 8), (8, 10)]
    assert [*parts(0)] == []


def test_strings_are_as_they_were() -> None:
    text, ends = Growing("B"), Growing("q")
    said = ["", "u1", "ü", "\ud800"]
    for one in said:
        ends.extend([len(text)])
        text.extend(one.encode("utf-8", "surrogatepass"))
    ends.extend([len(text)])
    strings = Strings(text.done(), ends.done())
    assert [*strings] == said
    assert (strings[-1], strings[1:3]) == ("\ud800", ["u1", "ü"])
    with pytest.raises(IndexError):
        strings[4]


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no /proc")
def test_files_have_no_name_and_go_with_their_last_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    array = zeros((1000,), np.int64)
    assert not [*tmp_path.iterdir()]
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del array
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is full")
def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as files:
        monkeypatch.setattr(scratch, "_file", lambda: files.enter_context(open("/dev/full", "r+b", 0)))
        growing = Growing("i")
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            growing.extend([1, 2, 3])


def test_prefixes_end_at_their_places() -> None:
    sequences = Sequences(np.arange(10, 17, dtype=np.int32), np.array([0, 3, 7]))
    found = prefixes.Prefixes.at(sequences, np.array([0, 2, 3, 6]), 3)
    assert [one.tolist() for one in found.items] == [[10], [10, 11, 12], [13], [14, 15, 16]]
    assert found.targets.tolist() == [11, -1, 14, -1]
    assert found.ranges == [(0, 0, 1), (0, 0, 3), (1, 0, 1), (1, 1, 4)]
    nothing = prefixes.Prefixes.at(sequences, np.zeros(0, dtype=np.int64), 3)
    assert (nothing.items, len(nothing.targets), nothing.ranges) == ([], 0, [])


@pytest.mark.parametrize(("model", "more"), ARMS)
def test_weights_do_not_depend_on_how_much_is_read_at_a_time(
    model: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, expected = fitted(model, more, histories()), fitted(model, more, [*histories()])
    assert found == expected
    monkeypatch.setattr(scratch.parts, "__defaults__", (7,))
    monkeypatch.setattr(stages, "_ANSWERED", 32)
    monkeypatch.setattr(stages, "_last", {})
    monkeypatch.setattr(windows, "_LET_GO", 1)
    assert fitted(model, more, histories()) == expected


def fitted(model: str, more: dict[str, Any], given: Any) -> tuple[str, dict[str, float]]:
    """Fit an arm; gives its version, which is the hash of its weights, and what is recorded of it."""
    arm: Arm = new_arm(arm_class(model).config_class(name="arm", model=model, **more))
    with fitting() as figures:
        arm.fit(given, ITEMS, until=99)
    return arm.version, figures


def test_memory_does_not_grow_with_behaviours() -> None:
    few, many = (peak(units) for units in (1_000, 6_000))
    assert many < few + 25  # 250,000 behaviours more


def peak(units: int) -> float:
    """Give the most memory that a process has in a fit of `recgpt`, in MB."""
    done = subprocess.run(
        [sys.executable, __file__, str(units)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return float(json.loads(done.stdout))


def fit_and_say(units: int) -> None:
    import resource

    config = TALK | {
        "length": 10, "layers": 1, "recall": (1,), "batch_tokens": 8192, "negatives": 8, "epochs": 1,
        "patience": 1, "validation_share": 0.01,
    }  # fmt: skip
    arm = new_arm(arm_class("recgpt").config_class(name="arm", model="recgpt", **config))
    items = ItemTable([f"{item:03}" for item in range(500)])
    random = np.random.default_rng(0)
    drawn = (random.integers(0, 500, 50).tolist() for _ in range(units))
    given = (
        History(str(unit), [Behaviour(items.ids[item], "click", 1.0, at) for at, item in enumerate(of)])
        for unit, of in enumerate(drawn)
    )
    arm.fit(given, items, until=99)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    fit_and_say(int(sys.argv[1]))
