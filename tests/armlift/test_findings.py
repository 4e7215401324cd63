"""The sentence that answers: it names what is best, what is worse, and says so where nothing differs."""

from armlift.evaluation import Interval
from armlift.findings import Row, default_answer

BASE = Row("K = 0", values={"NDCG@10": Interval(0.06, 0.05, 0.07)}, units=9)


def row(name: str, value: float, low: float, high: float) -> Row:
    gap = Interval(value - 0.06, low, high)
    values = {"NDCG@10": Interval(value, value - 0.01, value + 0.01)}
    return Row(name, "K = 0", units=9, values=values, differences={"NDCG@10": gap})


def test_where_nothing_differs_it_says_so_and_what_could_have_stayed_unseen() -> None:
    rows = [BASE, row("K = 1", 0.061, -0.001, 0.003), row("K = 2", 0.059, -0.004, 0.002)]
    assert default_answer("NDCG@10", rows, "K = 1", "K = 0") == (
        "Nothing differs: no setting's NDCG@10 is told apart from that of K = 0 "
        "(all differences lie within ±0.0040)."
    )


def test_the_best_the_worse_and_the_stop_are_named() -> None:
    rows = [BASE, row("K = 1", 0.07, 0.005, 0.015), row("K = 2", 0.05, -0.015, -0.005)]
    assert default_answer("NDCG@10", rows, "K = 1", "K = 1") == (
        "K = 1 is best, NDCG@10 0.0700, +0.0100 [+0.0050, +0.0150] against K = 0; "
        "worse than K = 0 beyond chance: K = 2 (-0.0100 [-0.0150, -0.0050]); "
        "from K = 1 on more stops helping."
    )


def test_a_highest_value_that_may_be_chance_is_not_called_best() -> None:
    rows = [BASE, row("K = 1", 0.062, -0.001, 0.005), row("K = 2", 0.05, -0.015, -0.005)]
    said = default_answer("NDCG@10", rows, "K = 1", None)
    assert said.startswith("K = 1 has the highest NDCG@10, 0.0620, but is not told apart from K = 0")
    assert default_answer("NDCG@10", [BASE, rows[2]], "K = 0", None).startswith(
        "K = 0 is best, NDCG@10 0.0600; worse than K = 0 beyond chance: K = 2"
    )


def test_without_data_it_says_why() -> None:
    lacking = Row("like: recgpt", status="no_data", reason="the data tell nothing of like")
    assert default_answer("NDCG@10", [lacking], None, None) == "No data: the data tell nothing of like."
    assert default_answer("NDCG@10", [BASE, lacking], "K = 0", None) == (
        "There is nothing to compare: K = 0 alone has data."
    )
