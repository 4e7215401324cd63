import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from armlift.hashing import (
    MASK,
    STEP,
    digest,
    key_of,
    keys_of,
    mix,
    mix_many,
    places_of,
    streams,
    uniforms,
)

U64 = st.integers(0, MASK)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def unmix(x: int) -> int:
    """Undo `mix` by undoing its steps: it loses nothing, so no two keys get the same draw."""
    x ^= x >> 31 ^ x >> 62
    x = x * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    x ^= x >> 27 ^ x >> 54
    x = x * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    return x ^ x >> 30 ^ x >> 60


@pytest.mark.parametrize(
    ("text", "key"),
    [  # the first is published with XXH3; the others are pinned here
        ("", 0x2D06800538D394C2),
        ("42", 1303733993043075473),
        ("用户42", 10791528600140052093),
        ("x" * 1100, 16801879770614697317),
    ],
)
def test_keys_are_pinned(text: str, key: int) -> None:
    assert key_of(text) == key


def test_mix_is_the_published_finaliser() -> None:
    # the first outputs of SplitMix64 seeded with 0: the finaliser of multiples of the golden gamma
    gamma = 0x9E3779B97F4A7C15
    outputs = [mix(gamma * step & MASK) for step in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_digest_is_the_published_hash() -> None:
    assert digest("") == "99aa06d3014798d86001c324468d497f"
    assert digest("a") != digest("b")


@given(st.lists(TEXT, max_size=20))
def test_keys_of_equals_key_of(texts: list[str]) -> None:
    keys = keys_of(texts)
    assert keys.dtype == np.uint64
    assert keys.tolist() == list(map(key_of, texts))


def test_places_are_pinned() -> None:
    # As Spark's xxhash64 gives them.
    places = places_of(["", "42", "用户42"])
    assert places.dtype == np.int64
    assert places.tolist() == [-7444071767201028348, -4744849287861989057, -1063830113123655464]
    assert places_of([]).tolist() == []


@given(st.lists(U64, max_size=20))
def test_mix_many_equals_mix(numbers: list[int]) -> None:
    assert mix_many(np.array(numbers, np.uint64)).tolist() == list(map(mix, numbers))


@given(U64)
def test_mix_is_one_to_one(x: int) -> None:
    assert unmix(mix(x)) == x


def test_each_input_bit_moves_each_output_bit_half_the_time() -> None:
    keys = keys_of([str(number) for number in range(20_000)])
    for bit in range(64):
        flipped = mix_many(keys) ^ mix_many(keys ^ np.uint64(1 << bit))
        shares = [(flipped >> np.uint64(out) & np.uint64(1)).mean() for out in range(64)]
        # six standard errors of a fair coin
        assert max(abs(share - 0.5) for share in shares) < 6 * 0.5 / len(keys) ** 0.5


@given(st.lists(U64, min_size=1, max_size=20))
def test_uniforms_are_the_top_bits(numbers: list[int]) -> None:
    found = uniforms(np.array(numbers, np.uint64))
    assert found.tolist() == [(mix(x) >> 11) / 2**53 for x in numbers]


def test_uniforms_never_reach_one() -> None:
    last = unmix(MASK)
    assert mix(last) == MASK
    assert uniforms(np.array([last], np.uint64))[0] == 1 - 2.0**-53


@given(st.lists(U64, min_size=1, max_size=5), st.integers(1, 9))
def test_streams_are_those_of_single_keys(keys: list[int], size: int) -> None:
    found = mix_many(streams(np.array(keys, dtype=np.uint64), size))
    assert found.shape == (len(keys), size)
    for key, row in zip(keys, found.tolist(), strict=True):
        assert row == [mix(key + (place + 1) * STEP & MASK) for place in range(size)]
