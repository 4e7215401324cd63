"""Assignments a second, scalar and vector, beside the GrowthBook SDK's `run` on the same units."""

from figures import Figure, alternating, show
from growthbook import Experiment as GrowthBookExperiment
from growthbook import GrowthBook

from armlift.experiment import Experiment
from armlift.splitter import Split, assign, assign_many

UNITS = [str(number) for number in range(100_000)]
WEIGHTS = {"control": 0.4, "first": 0.3, "second": 0.3}


def main() -> None:
    """Measure and print."""
    experiment = Experiment.model_validate(
        {"name": "bench", "arms": WEIGHTS, "control": "control", "metrics": {"primary": ["clicks"]}}
    )
    split = Split.of(experiment, default_arm="control")
    theirs = GrowthBookExperiment(key="bench", variations=list(WEIGHTS), weights=list(WEIGHTS.values()))
    book = GrowthBook(attributes={"id": ""})

    def scalar() -> None:
        for unit in UNITS:
            assign(split, 0, unit)

    def growthbook() -> None:
        for unit in UNITS:
            book.set_attributes({"id": unit})
            book.run(theirs)

    many = UNITS * 10
    ours_s, theirs_s = alternating(scalar, growthbook)
    vector_s, _ = alternating(lambda: assign_many(split, 0, many), lambda: None)
    reference = len(UNITS) / theirs_s
    ours, vector = len(UNITS) / ours_s, len(many) / vector_s
    name = "GrowthBook.run"
    show(
        [
            Figure(
                "splitter scalar",
                ours,
                "units/s",
                name,
                reference,
                ours / reference,
                ">= 8 x",
                ours >= 8 * reference,
            ),
            Figure(
                "splitter vector",
                vector,
                "units/s",
                name,
                reference,
                vector / reference,
                ">= 10 million/s or >= 150 x",
                vector >= 1e7 or vector >= 150 * reference,
            ),
        ]
    )


if __name__ == "__main__":
    main()
