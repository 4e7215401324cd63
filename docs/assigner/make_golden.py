"""Print the golden vectors of the splitter as JSON: python docs/assigner/make_golden.py.

The file golden.json was printed once and never changes: an assignment made today must hold in every later
version and language. A test compares the file with what this prints. Keys and bounds are decimal strings,
for many readers of JSON cannot hold 64-bit integers; arms are lists of pairs, for their order counts.
"""

import json
from collections.abc import Iterator
from typing import Any

from armlift.experiment import Experiment
from armlift.hashing import key_of, mix
from armlift.splitter import Assignment, Holdout, Split, assign

Json = dict[str, Any]

LENGTHS = (*range(18), 31, 32, 33, 63, 64, 65, 96, 97, 127, 128, 129, 144, 160, 161, 192, 239, 240, 241,
           255, 256, 257, 319, 320, 321, 512, 1023, 1024, 1025, 1088, 1089, 1100)  # fmt: skip
TEXTS = ("é", "e\u0301", "\ufeff1", "用户42", "👩\u200d🔬", "a\u0000b", " u1 ", "快手" * 50,
         "layer:default", "holdout:lab")  # fmt: skip
MIXED = (0, 1, 2, 2**32, 2**53 + 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15)
SPECIAL_UNITS = ("", "0", "42", "constructor", "__proto__", "用户42", "👩\u200d🔬", "4f9619ff-8b86-d011-b42d",
                 "long" * 80)  # fmt: skip
UNITS = (*(f"u{number}" for number in range(31)), *SPECIAL_UNITS)

AB = [["a", 1], ["b", 1]]
EXPERIMENTS: tuple[Json, ...] = (
    {"name": "even", "arms": AB},
    {"name": "decimals", "arms": [["a", 0.1], ["b", 0.2], ["c", 0.7]]},
    {"name": "thirds", "arms": [["a", 1], ["b", 1], ["c", 1]], "phases": [{"traffic": 0.333}]},
    {
        "name": "ramp",
        "arms": [["a", 0.5], ["b", 0.3], ["c", 0.2]],
        "phases": [{"traffic": share} for share in (0.01, 0.1, 0.5, 1)],
    },
    {
        "name": "generations",
        "arms": [["a", 0.5], ["b", 0.5]],
        "phases": [
            {"traffic": 0.2},
            {"traffic": 0.4, "weights": [["a", 0.9], ["b", 0.1]]},
            {"traffic": 1, "weights": [["b", 0.1], ["a", 0.9]]},
            {"traffic": 1, "weights": [["a", 0.5], ["b", 0.5]]},
        ],
    },
    {"name": "small", "arms": [["10", 3e-7], ["2", 1e-7], ["9", 2.5e-6]]},
    {"name": "large", "arms": [["c", 1.5e21], ["b", 123456789012345680000], ["a", 7e20]]},
    {"name": "zero", "arms": [["a", 1], ["b", 0], ["c", 1]], "phases": [{"traffic": 0}, {"traffic": 1}]},
    {
        "name": "slice",
        "arms": AB,
        "layer": {"name": "ranking", "slice": [0.2, 0.7]},
        "phases": [{"traffic": 0.8}],
    },
    {"name": "held", "arms": AB, "holdout": {"name": "lab", "share": 0.25}},
    {"name": "pinned", "arms": AB, "forced": {"u3": "b", "__proto__": "b", "用户42": "a"}},
    {"name": "chosen", "arms": AB, "audience": "in_audience"},
    {
        "name": "everything",
        "arms": [["a", 0.25], ["b", 0.75]],
        "layer": {"name": "home", "slice": [0.1, 1]},
        "audience": "in_audience",
        "forced": {"u5": "a", "u6": "b"},
        "holdout": {"name": "lab", "share": 0.1},
        "phases": [{"traffic": 0.3}, {"traffic": 0.7}, {"traffic": 0.7, "weights": [["a", 0.6], ["b", 0.4]]}],
    },
)


def text_of(length: int) -> str:
    """Give a text of so many letters and digits, of no short period."""
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[i * (i + 7) // 3 % 36] for i in range(length))


def experiment_of(definition: Json) -> Experiment:
    """Turn a definition whose weights are lists of pairs into an experiment."""
    phases = [
        phase | {"start": f"2024-01-{index + 1:02}", "weights": dict(phase["weights"])}
        if "weights" in phase
        else phase | {"start": f"2024-01-{index + 1:02}"}
        for index, phase in enumerate(definition["phases"])
    ]
    return Experiment.model_validate(
        definition | {"arms": dict(definition["arms"]), "phases": phases, "metrics": {"primary": ["clicks"]}}
    )


def split_of(group: Json) -> Split:
    """Make the split of a group of vectors: a definition with the lab's holdout and default arm."""
    experiment = experiment_of(group["definition"])
    return Split.of(experiment, default_arm=group["default_arm"], holdout=Holdout(**group["holdout"]))


def answer(split: Split, case: Json) -> Json:
    """Assign the unit of a case; its `in_audience` is the attribute that the vectors' audiences ask for."""
    stored = Assignment(**case["stored"], exposed=True, rule="range") if "stored" in case else None
    attributes = {"in_audience": case.get("in_audience")}
    return assign(
        split, case["phase"], case["unit"], attributes, stored=stored, forced=case.get("forced")
    )._asdict()


def ranges_of(split: Split, phase: int) -> list[list[str]]:
    """Read each arm's [low, high) off the split, without empty ranges."""
    here = split.phases[phase]
    lows, highs = [0, *here.bounds], [*here.bounds, 1 << 64]
    found = {
        outcome.arm: (low, high)
        for outcome, low, high in zip(here.outcomes, lows, highs, strict=True)
        if outcome.exposed
    }
    return [[arm, *map(str, found[arm])] for arm in split.arms if arm in found]


def cases(definition: Json) -> Iterator[Json]:
    """Yield what is asked: every unit in every phase, some with a stored or a forced arm."""
    arms = [arm for arm, _ in definition["arms"]]
    rules = definition["name"] in ("generations", "pinned", "everything")
    for phase in range(len(definition["phases"])):
        for number, unit in enumerate(UNITS):
            case: Json = {"unit": unit, "phase": phase}
            if definition.get("audience"):
                case["in_audience"] = number % 4 != 1
            if rules and phase and number % 3 == 0:
                case["stored"] = {"arm": arms[number % 2], "phase": 0, "generation": 0}
            if rules and number % 11 == 7:
                case["forced"] = arms[-1]
            yield case


def group_of(experiment: Json) -> Json:
    """Give the vectors of one experiment: its definition, each phase's ranges, and every case's answer."""
    definition = {
        "name": experiment["name"],
        "arms": experiment["arms"],
        "control": experiment["arms"][0][0],
        "layer": experiment.get("layer", {"name": "default", "slice": [0, 1]}),
        "audience": experiment.get("audience"),
        "phases": experiment.get("phases", [{"traffic": 1}]),
        "forced": experiment.get("forced", {}),
    }
    holdout = experiment.get("holdout", {"name": "lab", "share": 0})
    group: Json = {"definition": definition, "holdout": holdout, "default_arm": "popularity"}
    split = split_of(group)
    group["phases"] = [
        {"generation": here.generation, "ranges": ranges_of(split, phase)}
        for phase, here in enumerate(split.phases)
    ]
    group["cases"] = [case | {"expect": answer(split, case)} for case in cases(definition)]
    return group


def golden() -> Json:
    """Compute all golden vectors."""
    texts = [*map(text_of, LENGTHS), *TEXTS]
    return {
        "hashes": [[text, str(key_of(text))] for text in texts],
        "mixes": [[str(x), str(mix(x))] for x in (*MIXED, *map(key_of, UNITS[:8]))],
        "assignments": list(map(group_of, EXPERIMENTS)),
    }


def layout(value: object, indent: str = "") -> str:
    """Write JSON in ASCII, what is short and each case on a line of its own."""
    line = json.dumps(value)
    inner = indent + " "
    if len(line) <= 100 or (isinstance(value, dict) and "expect" in value):
        return line
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {layout(part, inner)}" for key, part in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + indent + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + layout(part, inner) for part in value) + "\n" + indent + "]"
    return line


if __name__ == "__main__":
    print(layout(golden()))
