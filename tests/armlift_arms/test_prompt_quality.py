"""What is measured of prompts, against numbers computed by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from armlift.arm import Prompt, Request, Slate
from armlift.artefacts import Tensors, pack_strings, write_weights
from armlift.heldout import Asked
from armlift.sequences import SplitData, read_sequences
from armlift_arms.prompt_quality import PromptQuality, k_means
from armlift_arms.recgpt import RecGpt, RecGptConfig


class Axes(RecGpt):
    """A model whose items a, b, c, d point along (1, 0), (0, 1), (-1, 0) and (0, 1), one twice as far."""

    def __init__(self) -> None:
        super().__init__(RecGptConfig(name="axes", model="recgpt", dim=2))

    def save(self, folder: Path) -> None:
        text, offsets = pack_strings(["a", "b", "c", "d"])
        vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, 2]], dtype=np.float32)
        tensors: Tensors = {
            "item_bytes": text,
            "item_offsets": offsets,
            "model.decoder.items.weight": vectors,
        }
        write_weights(folder, self.config, tensors)


@pytest.fixture
def data(tmp_path: Path) -> SplitData:
    path = tmp_path / "sequences.txt"
    path.write_text("u a b a c\nv a c\nw a d\n")  # five items train: three times a, once b
    return SplitData(read_sequences(path), "test", "click")


def slate(*items: str) -> Slate:
    prompts = [Prompt(0, step, item) for step, item in enumerate(items)]
    return Slate([], [], [], [], prompts=prompts)


def test_prompts_are_measured_as_their_docstring_says(data: SplitData) -> None:
    quality = PromptQuality(Axes(), data, Axes())
    asked = list(data.asked())
    quality.see(asked[:2], [slate("c", "d"), slate("b")])
    quality.see(asked[2:], [slate()])
    measures, figures = quality.outcome()
    first, second, third = ({name: float(values[at]) for name, values in measures.items()} for at in range(3))
    assert first["taken"] == 1
    assert first["diversity"] == pytest.approx(1)  # c and d stand at right angles
    assert first["near the next"] == pytest.approx((1 + 0) / 2)
    assert first["novelty, bits"] == pytest.approx(-math.log2(1 / 5))  # neither trains: counted once
    assert first["interests"] == 1  # four items make one cluster
    assert second["taken"] == 0
    assert math.isnan(second["diversity"])
    assert all(math.isnan(value) for value in third.values())
    assert figures == {"distinct": 1.0}


def test_a_target_without_a_vector_is_near_nothing(data: SplitData) -> None:
    quality = PromptQuality(Axes(), data, Axes())
    quality.see([Asked(Request("r", "u", 1, 20), "unheard")], [slate("a")])
    assert math.isnan(quality.outcome()[0]["near the next"][0])


def test_clusters_are_those_that_stand_apart() -> None:
    random = np.random.default_rng(0)
    angles = np.repeat([0.0, 2.0, 4.0], 20) + random.normal(0, 0.05, size=60)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = k_means(vectors, 3, seed=3)
    assert [len(set(found[start : start + 20])) for start in (0, 20, 40)] == [1, 1, 1]
    assert len(set(found.tolist())) == 3
    assert len(k_means(vectors[:0], 1)) == 0
