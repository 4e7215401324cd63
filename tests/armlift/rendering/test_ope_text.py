"""The text of an off-policy evaluation fits 80 columns and shows what decides."""

import numpy as np
import polars as pl

from armlift.offpolicy.assessment import Assessment, assess
from armlift.offpolicy.logged_rows import rows_of
from armlift.offpolicy.policies import TablePolicy
from armlift.rendering.ope_text import text_of


def assessment(rows: int, *, clip: float | None = None) -> Assessment:
    rng = np.random.default_rng(1)
    items = rng.integers(0, 3, (rows, 2))
    frame = pl.DataFrame(
        {
            "unit": np.repeat(np.arange(rows) // 2, 2).astype(str),
            "item": items.ravel().astype(str),
            "position": np.tile([1, 2], rows),
            "reward": rng.random(2 * rows),
            "propensity": np.full(2 * rows, 1 / 3),
            "request": np.repeat(np.arange(rows), 2).astype(str),
        }
    )
    made = rows_of(frame, "CSV", "column unit")
    policy = TablePolicy("a/very/long/path/" * 6, np.array([[0.5, 0.3, 0.2]] * 2))
    return assess(made, policy, own=made, clip=clip)


def test_it_fits_and_shows_the_trusted_estimate() -> None:
    lines = list(text_of(assessment(500)))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for said in ("Reward a row", "Reward a slate", "pseudo_inverse_snips", "half-width", "eff. rows"):
        assert said in text
    assert " * " in text
    assert "the policy's own log" in text
    assert "Rows left out: none" in text


def test_clipping_and_what_is_unknown_are_shown() -> None:
    text = "\n".join(text_of(assessment(1, clip=1.2)))
    assert "too_few" in text
    assert "weights cut to 1.2" in text
    assert "trust no estimate" in text
