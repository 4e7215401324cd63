"""What the neural arms share: reading histories, and starting from earlier weights over a grown catalogue."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from armlift.arm import Behaviour, History, ItemTable, Request
from armlift.errors import InputError
from armlift_arms.recgpt import RecGpt, RecGptConfig
from armlift_arms.sasrec import DecoderConfig, SasRec

OLD = ItemTable([f"item{number:02}" for number in range(0, 40, 2)])
NEW = ItemTable([f"item{number:02}" for number in range(40)])
SMALL = {"dim": 16, "epochs": 2, "negatives": 64}


def walks(items: ItemTable, units: range) -> list[History]:
    n = len(items)
    return [
        History(
            f"unit{unit}",
            [Behaviour(items.ids[(unit + step) % n], "click", 1.0, step) for step in range(8)],
        )
        for unit in units
    ]


def sasrec(**changes: object) -> SasRec:
    return SasRec(DecoderConfig.model_validate({"name": "mine", "model": "sasrec"} | SMALL | changes))


def recgpt(**changes: object) -> RecGpt:
    small = SMALL | {"pretraining_epochs": 1, "user_vectors": True}
    return RecGpt(RecGptConfig.model_validate({"name": "mine", "model": "recgpt"} | small | changes))


@pytest.mark.parametrize("make", [sasrec, recgpt])
def test_a_warm_start_keeps_what_was_learnt_and_grows_the_tables(
    make: Callable[..., SasRec | RecGpt], tmp_path: Path
) -> None:
    first = make()
    first.fit(walks(OLD, range(30)), OLD, until=100)
    first.save(tmp_path)
    # With a step this small the weights stay where they start.
    second = make(learning_rate=1e-12)
    second.fit(walks(NEW, range(20, 50)), NEW, until=100, warm=tmp_path)
    prefix = "model.decoder." if isinstance(first, RecGpt) else "model."
    before, after = (arm._tensors[f"{prefix}items.weight"] for arm in (first, second))
    assert np.allclose(after[::2], before, atol=1e-6)
    assert np.abs(after[1::2]).min(axis=1).max() > 0, "new items have vectors of their own"
    if isinstance(first, RecGpt):
        users, later = (arm._tensors["model.users.weight"] for arm in (first, second))
        assert len(later) == 31
        for unit in range(20, 30):
            old_row, new_row = first._unit_rows[f"unit{unit}"], second._unit_rows[f"unit{unit}"]
            assert np.allclose(later[new_row], users[old_row], atol=1e-6)
        assert np.allclose(later[0], users[0], atol=1e-6), "the unknown unit's"
        assert np.abs(later[second._unit_rows["unit45"]]).max() < 1e-6
    asked = Request("0" * 32, "unit45", 100, 40, walks(NEW, range(45, 46))[0].behaviours)
    assert len(second.recommend([asked])[0].items) == 32


def test_a_warm_start_of_another_shape_is_refused(tmp_path: Path) -> None:
    first = sasrec()
    first.fit(walks(OLD, range(30)), OLD, until=100)
    first.save(tmp_path)
    with pytest.raises(InputError, match=r"warm start: .* has the shape .*, must fit"):
        sasrec(dim=32).fit(walks(OLD, range(30)), OLD, until=100, warm=tmp_path)
    with pytest.raises(InputError, match=r"is not in both models|is not of RecGptConfig"):
        recgpt().fit(walks(OLD, range(30)), OLD, until=100, warm=tmp_path)


def test_behaviours_after_the_cut_of_other_kinds_or_repeated_are_not_trained_on() -> None:
    clean = walks(OLD, range(30))
    noisy = [
        History(
            unit,
            [
                *(one for found in behaviours for one in (found, found._replace(kind="like"))),
                Behaviour(OLD.ids[3], "hate", 1.0, 50),
                Behaviour(OLD.ids[5], "click", 1.0, 100),
            ],
        )
        for unit, behaviours in clean
    ]
    one, other = sasrec(), sasrec()
    one.fit(clean, OLD, until=100)
    other.fit(noisy, OLD, until=100)
    assert one.version == other.version
