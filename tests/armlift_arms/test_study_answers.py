"""The sentences of studies that have their own."""

from armlift.evaluation import Interval
from armlift.findings import Row
from armlift_arms.study_answers import by_kind, costs, forgotten, of_prompts, shortest, timed

M = "NDCG@10"


def row(
    name: str, value: float, *, base: str | None = None, gap: tuple[float, float] = (0, 0), **figures: float
) -> Row:
    found = {key.replace("_", " "): Interval(number, number, number) for key, number in figures.items()}
    differences = {M: Interval((gap[0] + gap[1]) / 2, *gap)} if base else {}
    values = {M: Interval(value, value - 0.01, value + 0.01)}
    return Row(name, base, units=60, values=values, differences=differences, figures=found)


def lacking(name: str, base: str | None = None) -> Row:
    return Row(name, base, "no_data", "there is none")


def test_the_shortest_length_whose_interval_lies_above_is_named() -> None:
    rows = [
        row("last 5: popularity", 0.05),
        row("last 5: mine", 0.06, base="last 5: popularity", gap=(0.0, 0.02)),
        row("last 10: popularity", 0.05),
        row("last 10: mine", 0.08, base="last 10: popularity", gap=(0.02, 0.04)),
    ]
    assert shortest(M, rows, None, None) == (
        "From the last 10 behaviours on its NDCG@10 interval lies above popularity's: "
        "0.0800 [0.0700, 0.0900] against 0.0500 [0.0400, 0.0600], 60 units."
    )
    assert shortest(M, rows[:2], None, None) == (
        "At no length, up to the last 5, does its NDCG@10 interval lie above popularity's (60 units)."
    )
    rows = [lacking("last 5: popularity"), row("last 5: mine", 0.06, base="last 5: popularity")]
    assert shortest(M, rows, None, None) == "No data: there is none."


def test_kinds_are_answered_one_by_one() -> None:
    rows = [
        row("click: mine", 0.05),
        row("click: peer", 0.08, base="click: mine", gap=(0.02, 0.04)),
        lacking("like: mine"),
        lacking("like: peer", "like: mine"),
    ]
    assert by_kind(("click", "like"))(M, rows, "click: peer", None) == (
        "click: peer is best, NDCG@10 0.0800, +0.0300 [+0.0200, +0.0400] against click: mine; "
        "no data of like."
    )


def test_costs_go_from_the_first_setting_to_the_last() -> None:
    rows = [row("K = 0", 0, ms_a_user=2.0), row("K = 1", 0, ms_a_user=3.0), row("K = 2", 0, ms_a_user=5.0)]
    assert costs(M, rows, None, None) == "From K = 0 to K = 2: ms a user 2 to 5 (x 2.5)."
    assert timed(M, rows[:1], "K = 0", None).endswith("; ms a user: K = 0 2.")


def test_forgetting_is_told_from_learning() -> None:
    with_, without = row("with", 0.05), row("without", 0.04, base="with", gap=(-0.02, 0.0))
    for low, high, word in (
        (0.1, 0.2, "forgets"),
        (-0.2, -0.1, "goes on learning"),
        (-1, 1, "changes nothing"),
    ):
        gap = Interval((low + high) / 2, low, high)
        losses = {"loss before": Interval(5, 5, 5), "loss after": Interval(5.1, 5, 6), "forgotten": gap}
        told = Row(with_.setting, values={**with_.values, **losses}, units=60)
        said = forgotten(M, [told, without], "with", None)
        assert f"fine-tuning {word}" in said
        assert "5.0000 to 5.1000" in said
    assert "no loss before fine-tuning is known" in forgotten(M, [with_, without], "with", None)


def test_sources_of_prompts_and_the_gap_are_told() -> None:
    rows = [
        row("generated", 0.05),
        lacking("unclicked", "generated"),
        row("random", 0.05, base="generated", gap=(-0.01, 0.02)),
        row("generated, K = 20", 0.05, base="generated", gap=(-0.01, 0.02)),
    ]
    rows[0] = Row("generated", values=rows[0].values, figures={"gap": Interval(0.01, 0.01, 0.01)}, units=60)
    rows[3] = Row("generated, K = 20", "generated", figures={"gap": Interval(0.2, 0.2, 0.2)}, units=60)
    said = of_prompts(3)(M, rows, None, None)
    assert said.startswith("Nothing differs")
    assert "train-test gap +0.0100 at K = 3, +0.2000 at K = 20; no data of unclicked." in said
