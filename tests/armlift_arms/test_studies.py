"""Every study of the arms here, end to end on a small file: its numbers exist, and agree with each other."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from armlift.arm import Arm, ArmConfig, arm_class, new_arm
from armlift.artefacts import save_artefact
from armlift.findings import Findings, Row
from armlift.fitting import fitting
from armlift.heldout import HeldOut
from armlift.sequences import SequenceSource, read_sequences
from armlift.studies import Bench, studies_of
from armlift.trials import run_study
from armlift.usergroups import by_history
from armlift_arms.studies import KINDS, PLANS, PROMPTS

ALL = ("k", "recall", "pretrain", "ablation", "prompts", "decoding", "length", "feedback", "cost")
SMALL = {
    "dim": 4,
    "layers": 1,
    "length": 8,
    "negatives": 8,
    "batch_tokens": 64,
    "epochs": 1,
    "validation_share": 0.2,
}
UNITS = 24

Run = Callable[[str], Findings]


class Kept:
    """Fits arms once, and keeps their artefacts with the figures of their fits."""

    def __init__(self, url: Path) -> None:
        self.url = str(url)
        self.fits: list[ArmConfig] = []
        self._arms: dict[str, Arm] = {}

    def known(self, config: ArmConfig, data_hash: str) -> Arm | None:
        return self._arms.get(repr(config))

    def fit(self, config: ArmConfig, data: HeldOut) -> Arm:
        arm = new_arm(config)
        with fitting() as figures:
            arm.fit(data.histories(), data.items, until=data.until)
        save_artefact(arm, self.url, data_hash=data.data_hash, data_until=0, created="now", figures=figures)
        self._arms[repr(config)] = arm
        self.fits.append(config)
        return arm


def definition(name: str, **changes: object) -> ArmConfig:
    kind = arm_class(name).config_class
    small = {key: value for key, value in SMALL.items() if key in kind.model_fields}
    return kind.model_validate({"name": name, "model": name} | small | changes)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Models this small are slower with more threads, by far."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("studies")
    path = folder / "sequences.txt"
    rows = [
        [f"u{unit}", *(f"i{(unit + 3 * step) % 30:02}" for step in range(5 + unit % 4))]
        for unit in range(UNITS)
    ]
    path.write_text("\n".join(" ".join(row) for row in rows) + "\n")
    names = ("recgpt1", "sasrec", "comirec", "popularity")
    arms = {name: definition(name) for name in names} | {"recgpt": recgpt()}
    return Bench(SequenceSource(read_sequences(path), "test", "click"), arms, Kept(folder))


def recgpt() -> ArmConfig:
    return definition("recgpt", pretraining_epochs=1, heads=1)


@pytest.fixture(scope="module")
def run(bench: Bench) -> Run:
    """Give the function that runs a study of recgpt with one seed."""
    found: dict[str, Findings] = {}

    def call(study: str) -> Findings:
        if study not in found:
            found[study] = run_study(study, recgpt(), bench, [0], [by_history])
        return found[study]

    return call


def rows_of(found: Findings) -> dict[str, Row]:
    return {row.setting: row for row in found.sections[0].rows}


def test_the_documents_list_every_study(root: Path) -> None:
    text = (root / "docs" / "studies.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(ALL)


def test_the_arms_say_which_studies_they_answer() -> None:
    assert set(studies_of(recgpt())) == set(ALL)
    assert set(studies_of(definition("recgpt1"))) == {*ALL} - {"recall"}
    assert set(studies_of(definition("sasrec"))) == {"length", "feedback"}
    assert set(studies_of(definition("comirec"))) == {"length", "feedback"}
    assert studies_of(definition("popularity")) == {}


@pytest.mark.parametrize("study", ALL)
def test_numbers_agree_with_each_other(run: Run, study: str) -> None:
    found = run(study)
    for section in found.sections:
        rows = {row.setting: row for row in section.rows}
        assert section.answer.endswith(".")
        for row in section.rows:
            assert (row.status == "no_data") == bool(row.reason) == (not row.values and not row.figures)
            for interval in (*row.values.values(), *row.differences.values(), *row.figures.values()):
                assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9
            for name in ("HR@10", "NDCG@10", "HR@20"):
                if name in row.differences and row.base is not None:
                    gap = row.values[name].value - rows[row.base].values[name].value
                    assert row.differences[name].value == pytest.approx(gap)


def test_k_is_answered_for_groups_too(run: Run) -> None:
    found = run("k")
    assert [row.setting for row in found.sections[0].rows] == [f"K = {number}" for number in PROMPTS]
    assert sum(section.units for section in found.sections[1:]) == UNITS
    assert all(section.name.startswith("history length: ") for section in found.sections[1:])
    assert found.sections[0].stops is not None


def test_recall_serves_all_plans_from_one_training(run: Run, bench: Bench) -> None:
    found = rows_of(run("recall"))
    assert len(found) == len(PLANS)
    assert isinstance(bench.fitted, Kept)
    assert len({row.versions for row in found.values()}) == len(PLANS)
    assert sum(config == recgpt() for config in bench.fitted.fits) <= 1
    assert not [config for config in bench.fitted.fits if getattr(config, "recall", (18, 2)) != (18, 2)]
    assert found["[20]"].base is None


def test_forgetting_is_the_rise_of_the_loss(run: Run) -> None:
    found = rows_of(run("pretrain"))
    values = found["with"].values
    rise = values["loss after"].value - values["loss before"].value
    assert values["forgotten"].value == pytest.approx(rise)
    assert values["loss before"].value > 0
    assert "loss before" not in found["without"].values


def test_parts_are_taken_away_one_by_one(run: Run) -> None:
    found = rows_of(run("ablation"))
    assert [*found] == [
        "all parts",
        "no segments",
        "no user vectors",
        "no positions",
        "no prompts",
        "none of them",
    ]
    versions = [row.versions for row in found.values()]
    assert len(set(versions)) == len(found)
    assert all(row.base == "all parts" for name, row in found.items() if name != "all parts")
    # What the definition leaves out stands in the base all the same.
    assert not getattr(recgpt(), "user_vectors", True)
    assert found["no user vectors"].versions == rows_of(run("recall"))["[18, 2]"].versions


def test_prompts_are_measured(run: Run) -> None:
    found = rows_of(run("prompts"))
    assert found["unclicked"].status == "no_data"
    assert "needs behaviours of other kinds" in found["unclicked"].reason
    for name in ("generated", "random", "popular"):
        values = found[name].values
        assert 0 <= values["taken"].value <= 1
        assert 0 <= values["diversity"].value <= 2
        assert 0 <= values["interests"].value <= 1
        assert -1 <= values["near the next"].value <= 1
        assert values["novelty, bits"].value > 0
        assert 0 < found[name].figures["distinct"].value <= 1
    assert "diversity" not in found["generated, K = 1"].values
    figures = found["generated, K = 20"].figures
    gap = figures["hits, training"].value - figures["hits, validation"].value
    assert figures["gap"].value == pytest.approx(gap)
    assert "at K = 20" in run("prompts").answer
    assert "no data of unclicked" in run("prompts").answer


def test_decoding_is_timed(run: Run) -> None:
    for row in rows_of(run("decoding")).values():
        assert row.figures["ms a user"].value > 0
        assert row.figures["ms a request"].value > 0
    assert "; ms a user: autoregressive " in run("decoding").answer


def test_lengths_are_those_enough_units_have(run: Run) -> None:
    found = run("length")
    assert [*rows_of(found)] == ["last 5: popularity", "last 5: recgpt"]  # too few for longer ones
    assert found.sections[0].units == sum(5 + unit % 4 - 1 >= 5 for unit in range(UNITS))
    assert "popularity" in found.answer


def test_kinds_a_file_lacks_are_no_data(run: Run) -> None:
    found = rows_of(run("feedback"))
    assert len(found) == 4 * len(KINDS)
    for name, row in found.items():
        kind = name.split(": ")[0]
        assert row.status == ("ok" if kind == "click" else "no_data")
        assert row.reason == ("" if kind == "click" else f"the data tell nothing of {kind}")
    assert run("feedback").answer.endswith("no data of like, long_view, purchase, rating.")


def test_costs_are_measured_for_every_k(run: Run) -> None:
    found = run("cost")
    for row in rows_of(found).values():
        assert {"ms a user", "ms a request", "ms a training step"} <= row.figures.keys()
        assert all(figure.value > 0 for figure in row.figures.values())
    assert found.answer.startswith("From K = 0 to K = 20: ms a request ")
