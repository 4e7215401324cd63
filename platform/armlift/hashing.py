"""Hashes and the integer mixer that turn a unit and a salt into 64 uniform bits.

Two published functions do all the work: XXH3 (64 bit, seed 0, of the UTF-8 bytes) makes keys of strings,
and the finaliser of SplitMix64 (Stafford's variant 13) mixes two keys. Their values are pinned by
golden vectors for ever: an assignment made today must be the same in every later version and language.
A third one, XXH64, gives units their order in data sets, as engines that write these have it too.
"""

import json

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest, xxh64_digest

Keys = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
"""SplitMix64's increment: 2^64 over the golden ratio, odd."""
_M1 = 0xBF58476D1CE4E5B9
_M2 = 0x94D049BB133111EB


def key_of(text: str) -> int:
    """Hash a string to 64 bits: XXH3 with seed 0 over its UTF-8 bytes."""
    return xxh3_64_intdigest(text.encode())


def keys_of(texts: list[str]) -> Keys:
    """Hash strings to an array of 64-bit keys, shape [len(texts)]; equal to `key_of` of each."""
    return np.fromiter(map(xxh3_64_intdigest, map(str.encode, texts)), dtype=np.uint64, count=len(texts))


def places_of(texts: list[str]) -> npt.NDArray[np.int64]:
    """Hash strings to signed 64-bit places, shape [len(texts)]: XXH64 with seed 42, Spark's `xxhash64`.

    They order the units of data sets; nothing is drawn from them.
    """
    return np.frombuffer(b"".join(xxh64_digest(text.encode(), 42) for text in texts), ">i8").astype(np.int64)


def mix(x: int) -> int:
    """Mix 64 bits so that each input bit moves every output bit (SplitMix64 finaliser, variant 13)."""
    x = (x ^ (x >> 30)) * _M1 & MASK
    x = (x ^ (x >> 27)) * _M2 & MASK
    return x ^ (x >> 31)


def mix_many(x: Keys) -> Keys:
    """Mix an array of keys, any shape; equal to `mix` of each."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_M1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_M2)
    return x ^ (x >> np.uint64(31))


def uniforms(keys: Keys) -> npt.NDArray[np.float64]:
    """Turn keys into numbers in [0, 1): the mixed top 53 bits, so that 1.0 cannot occur."""
    return (mix_many(keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def streams(keys: Keys, size: int) -> Keys:
    """Give the first `size` states of each key's SplitMix64 stream, uint64 [n, size]; mix them to use."""
    return keys[:, None] + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(STEP)


def digest(text: str) -> str:
    """Hash a string to 32 hexadecimal digits (XXH3, 128 bit, UTF-8): a name for content, not a secret."""
    return xxh3_128_hexdigest(text.encode())


def hash_of(document: object) -> str:
    """Hash plain data, whatever the order of its keys: 32 hexadecimal digits."""
    return digest(json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False))
