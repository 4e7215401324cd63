from armlift.evaluation import Interval
from armlift.findings import Findings, Row, Section
from armlift.rendering.study_text import text_of

GAP = Interval(-0.0123, -0.02, -0.0046)
ROWS = (
    Row("all parts", units=1234, values={"NDCG@10": Interval(0.0612, 0.058, 0.0644)}),
    Row(
        "a part whose name is longer than its column",
        "all parts",
        units=1234,
        values={"NDCG@10": Interval(0.0489, 0.046, 0.052), "taken": Interval(0.25, 0.2, 0.3)},
        differences={"NDCG@10": GAP},
        figures={"ms a training step": Interval(12.5, 12, 13)},
    ),
    Row(
        "likes", "all parts", "no_data", "the data tell nothing of this kind of feedback, so nothing is known"
    ),
)


def findings(*groups: Section, metric: str = "NDCG@10") -> Findings:
    section = Section("all units", 1234, ROWS, "all parts", None, "All parts are best.")
    return Findings(
        "ablation", "What does it add?", "mine", metric, "test", "0" * 64, (0, 1), (section, *groups)
    )


def test_a_table_has_values_differences_and_reasons() -> None:
    lines = list(text_of(findings()))
    assert lines[:2] == [
        "ablation: What does it add?",
        "arm mine, split test, seeds 0, 1, NDCG@10, 95 % intervals",
    ]
    assert "all units (1,234)" in lines
    assert "all parts                0.0612 [0.0580, 0.0644]" in lines
    assert "a part whose name is l…  0.0489 [0.0460, 0.0520]  -0.0123 [-0.0200, -0.0046]" in lines
    assert any(line.startswith("likes                   no_data: the data tell") for line in lines)
    assert lines[-1] == "Answer: All parts are best."
    assert max(map(len, lines)) <= 80


def test_other_measures_follow_and_groups_have_answers() -> None:
    group = Section("level: a", 7, ROWS[:2], None, None, "Nothing differs in this group.")
    lines = list(text_of(findings(group)))
    assert any("12.5" in line and "0.25" in line for line in lines)
    assert lines[lines.index("level: a (7)") + 4] == "  Nothing differs in this group."
    assert max(map(len, lines)) <= 80


def test_a_metric_that_is_a_figure_has_no_table_of_differences() -> None:
    lines = list(text_of(findings(metric="ms a training step")))
    assert not any("against" in line for line in lines)
    assert any("12.5" in line for line in lines)
