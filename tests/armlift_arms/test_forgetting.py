"""The decoder's own loss: its value, and that the pre-trained stage is the one training went through."""

from pathlib import Path

import numpy as np
import pytest
import torch

from armlift.arm import new_arm
from armlift.sequences import SplitData, read_sequences
from armlift_arms import stages
from armlift_arms.decoder import Decoder, Shape
from armlift_arms.next_item import next_item_losses
from armlift_arms.recgpt import RecGpt, RecGptConfig


def test_the_loss_is_that_of_a_softmax_over_the_catalogue() -> None:
    torch.manual_seed(0)
    decoder = Decoder(Shape(items=9, dim=4, layers=1, heads=1, length=5)).eval()
    sequences = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 1])]
    targets = np.array([4, 0, 2])
    found = next_item_losses(decoder, sequences, targets)
    for sequence, target, loss in zip(sequences, targets.tolist(), found.tolist(), strict=True):
        with torch.inference_mode():
            state = decoder(decoder.embed(torch.from_numpy(sequence)[None]))[0, -1]
            scores = decoder.queries(state) @ decoder.vectors().T
        assert loss == pytest.approx(float(scores.logsumexp(0) - scores[target]), abs=1e-4)


def test_the_pre_trained_decoder_is_the_one_that_was_fine_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sequences.txt"
    rows = [f"u{unit} " + " ".join(str((unit + step) % 9) for step in range(6)) for unit in range(12)]
    path.write_text("\n".join(rows) + "\n")
    data = SplitData(read_sequences(path), "test", "click")
    small = {"dim": 4, "layers": 1, "heads": 1, "epochs": 1, "pretraining_epochs": 2, "negatives": 4}
    arm = new_arm(RecGptConfig.model_validate({"name": "mine", "model": "recgpt", **small}))
    assert isinstance(arm, RecGpt)
    seen: list[torch.Tensor] = []
    tell_next = stages._Stages._tell_next

    def watched(self: stages._Stages, model: object, cut: object, stage: str) -> object:
        outcome = tell_next(self, model, cut, stage)  # type: ignore[arg-type]
        if stage == "pretrain":
            seen.append(model.decoder.items.weight.detach().clone())  # type: ignore[attr-defined]
        return outcome

    monkeypatch.setattr(stages._Stages, "_tell_next", watched)
    arm.fit(data.histories(), data.items, until=data.until)
    known = arm._known(data.histories(), data.items, data.until)
    decoder = stages.pretrained(arm.config, known).decoder
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(decoder.items.weight, seen[0])
