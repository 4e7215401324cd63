"""The training loop: it can be broken off, stops early, and is the same in several processes."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from armlift import processes
from armlift.errors import InputError
from armlift.fitting import Epoch, fitting
from armlift_arms.decoder import Decoder, Shape
from armlift_arms.loop import Outcome, Recipe, run, seeded
from armlift_arms.next_item import NextItem
from armlift_arms.windows import Longs, Sequences, split

RECIPE = Recipe(
    batch_tokens=64,
    learning_rate=0.01,
    weight_decay=0.01,
    averaging=1.0,
    epochs=4,
    patience=9,
    seed=5,
    threads=1,
)
SEQUENCES = Sequences(
    np.concatenate([(start + 3 * np.arange(8)) % 30 for start in range(40)]).astype(np.int32),
    np.arange(0, 321, 8, dtype=np.int64),
)


def next_item(share: float = 0.5) -> NextItem:
    shape = Shape(items=30, dim=8, layers=1, heads=1, length=6, dropout=0.2, item_dropout=0.2)
    with seeded(5, 1):
        decoder = Decoder(shape)
    return NextItem(decoder, SEQUENCES, split(SEQUENCES, 6, share), negatives=16)


def hash_of(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def trained(recipe: Recipe = RECIPE, folder: Path | None = None) -> tuple[Outcome, str, list[Epoch]]:
    task, told = next_item(), list[Epoch]()
    with fitting(told.append, folder):
        outcome = run(task, recipe, "train")
    assert not task.model.training
    return outcome, hash_of(task.model), told


def without_seconds(told: list[Epoch]) -> list[Epoch]:
    return [epoch._replace(seconds=0.0) for epoch in told]


def test_the_same_input_gives_the_same_weights_and_another_seed_others() -> None:
    first, weights, told = trained()
    assert trained()[:2] == (first, weights)
    assert trained(RECIPE._replace(seed=6))[1] != weights
    assert [epoch.number for epoch in told] == [1, 2, 3, 4]
    assert told[-1].loss < told[0].loss
    assert (told[-1].best, told[-1].best_figures) == (first.best_epoch, first.figures)


def test_threads_and_randomness_of_the_process_are_left_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run(next_item(), RECIPE._replace(epochs=1, threads=threads + 1), "train")
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("last", [1, 3])
def test_a_run_that_was_broken_off_ends_as_one_that_was_not(tmp_path: Path, last: int) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.number == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fitting(stop, tmp_path):
        run(next_item(), RECIPE, "train")
    torch.rand(3)  # what else the process draws must not matter
    outcome, weights, told = trained(folder=tmp_path)
    whole, whole_weights, whole_told = trained()
    assert (outcome, weights) == (whole, whole_weights)
    assert without_seconds(told) == without_seconds(whole_told[last:])
    # A stage that had ended before is not trained again.
    assert trained(folder=tmp_path) == (whole, whole_weights, [])


def test_a_checkpoint_of_something_else_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    trained(RECIPE._replace(epochs=1), tmp_path)
    other = NextItem(
        Decoder(next_item().model.shape._replace(dim=16)), SEQUENCES, split(SEQUENCES, 6, 0.5), 16
    )
    says = f"{path}: is a checkpoint of another model, must be removed to train from the start"
    with pytest.raises(InputError) as caught, fitting(None, tmp_path):
        run(other, RECIPE, "train")
    assert str(caught.value) == says
    path.write_bytes(b"?")
    with pytest.raises(InputError, match=r"train\.safetensors: is no checkpoint"):
        trained(folder=tmp_path)


class Scripted:
    """A task of one weight that goes up by the same in each step; its figures are written beforehand."""

    def __init__(self, ranks: list[int]) -> None:
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.model.weight)
        self.held_out = np.zeros((1 if ranks else 0, 3), dtype=np.int64)
        self._ranks = iter(ranks)

    def batches(self, tokens: int, random: np.random.Generator) -> list[Longs]:
        return [np.zeros((1, 3), dtype=np.int64)]

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        return -self.model.weight.sum(), 1

    def ranks(self, held_out: Longs) -> Tensor:
        return torch.tensor([next(self._ranks)])


PLAIN = RECIPE._replace(averaging=0.0, learning_rate=0.25, weight_decay=0.0, epochs=9, patience=3)


@pytest.mark.parametrize(
    ("ranks", "epochs", "best"),
    [
        ([5, 3, 4, 3, 7], 5, 2),  # as good as the best is not better
        ([9, 8, 7, 6, 5, 4, 3, 2, 1], 9, 9),
        ([40, 40, 40, 40], 4, 1),
        ([], 3, 0),  # nothing is held out: `patience` epochs, and the last weights
    ],
)
def test_it_stops_early_and_keeps_the_best(ranks: list[int], epochs: int, best: int) -> None:
    task = Scripted(ranks)
    outcome = run(task, PLAIN, "train")
    assert (outcome.epochs, outcome.best_epoch) == (epochs, best)
    if ranks:
        rank = ranks[best - 1]
        ndcg = 1 / math.log2(rank + 2) if rank < 10 else 0.0
        assert outcome.figures == {"HR@10": float(rank < 10), "NDCG@10": pytest.approx(ndcg)}
    else:
        assert outcome.figures == {}
    # Adam goes one learning rate a step up a steady slope, one step an epoch.
    assert task.model.weight.item() == pytest.approx(0.25 * (best or epochs), rel=1e-4)


def test_averaged_weights_lag_behind_the_last() -> None:
    task = Scripted([])
    run(task, PLAIN._replace(averaging=4.0, epochs=9, patience=9), "train")
    assert 0.25 * 5 < task.model.weight.item() < 0.25 * 8.9


class Diverging(Scripted):
    """A task whose loss is no number from the second epoch on."""

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        return (1.0 - 8 * self.model.weight).log().sum(), 1


def test_a_loss_that_is_no_number_is_one_line() -> None:
    with pytest.raises(InputError) as caught:
        run(Diverging([4, 4, 4]), PLAIN, "tune")
    assert str(caught.value) in {
        f"tune, epoch 2: the loss is {value}, must be finite; try a learning_rate below 0.25"
        for value in ("nan", "-inf", "inf")
    }


def naive_rank(task: NextItem, row: list[int]) -> int:
    """Rank one held-out item by scoring and sorting the whole catalogue, without what was met."""
    start, end, _ = row
    met = SEQUENCES.items[start:end].astype(np.int64)
    with torch.inference_mode():
        state = task.model(task.model.embed(torch.from_numpy(met)[None]))[0, -1]
        scores = (task.model.queries(state) @ task.model.vectors().T).tolist()
    order = sorted(set(range(30)) - set(met.tolist()), key=lambda item: -scores[item])
    return order.index(int(SEQUENCES.items[end]))


def test_ranks_are_those_among_the_whole_catalogue() -> None:
    task = next_item()
    run(task, RECIPE._replace(epochs=1), "train")
    naive = [naive_rank(task, row) for row in task.held_out.tolist()]
    with torch.inference_mode():
        assert task.ranks(task.held_out).tolist() == naive
    assert len(set(naive)) > 3


class Line:
    """A task without chance: fit a straight line to 64 points, in uneven batches, one of a single point."""

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        self.held_out = np.arange(600)[:, None] % 64

    def batches(self, tokens: int, random: np.random.Generator) -> list[Longs]:
        return np.split(np.arange(64)[:, None], [tokens, tokens + 1, 3 * tokens])

    def loss(self, batch: Longs) -> tuple[Tensor, int]:
        x = torch.from_numpy(batch).float() / 64
        return (self.model(x) - (2 - 3 * x)).square().sum(), len(batch)

    def ranks(self, held_out: Longs) -> Tensor:
        return torch.from_numpy(held_out[:, 0])


def fitted_line() -> tuple[list[float], list[float], dict[str, float]]:
    """Give the losses, the line, and the figures of validation."""
    task, told = Line(), list[Epoch]()
    with fitting(told.append):
        outcome = run(task, RECIPE._replace(batch_tokens=16, patience=4), "line")
    line = [task.model.weight.item(), task.model.bias.item()]
    return [epoch.loss for epoch in told], line, outcome.figures


def in_two_processes(words: list[str], **environment: str) -> list[tuple[str, str]]:
    """Start a Python program twice, as torchrun does; gives what each wrote on stdout and stderr."""
    started = [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment | place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in processes.places(2)
    ]
    try:
        said = [process.communicate(timeout=900) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    return said


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    (first, silence), (second, other_silence) = in_two_processes([__file__, str(tmp_path)])
    assert (silence, other_silence) == ("", "")
    found, other = json.loads(first), json.loads(second)
    # Only the first is told; both have the same weights, and both go on from a checkpoint to the same end.
    assert found["weights"] == other["weights"]
    assert found["weights"][0] == found["weights"][1]
    assert other["losses"] == []
    assert found["figures"] == other["figures"]
    # Where nothing is drawn they do as one does; else they differ as seeds do.
    for value, expected in zip(found["line"], fitted_line(), strict=True):
        assert value == pytest.approx(expected)
    outcome, _, told = trained()
    assert found["losses"] == pytest.approx([epoch.loss for epoch in told], rel=0.25)
    assert found["figures"]["NDCG@10"] == pytest.approx(outcome.figures["NDCG@10"], abs=0.2)
    with pytest.raises(InputError, match="is a checkpoint of 2 processes, not of 1, must be removed"):
        trained(folder=tmp_path)


def in_this_process(folder: Path) -> None:
    """Train once as a whole, once broken off and gone on, and print both; one of several processes."""
    outcome, weights, told = trained()
    trained(RECIPE._replace(epochs=2), folder)
    _, again, _ = trained(folder=folder)
    found = {"losses": [epoch.loss for epoch in told], "figures": outcome.figures}
    print(json.dumps(found | {"weights": [weights, again], "line": fitted_line()}))


if __name__ == "__main__":
    in_this_process(Path(sys.argv[1]))
