import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from armlift.rendering.tables import comparisons, left_out, origin
from armlift.report import Report

Element = ElementTree.Element


def said(element: Element) -> str:
    return "".join(element.itertext())


def cells(rows: list[Element]) -> list[list[str]]:
    return [[said(cell) for cell in row] for row in rows]


def test_every_comparison_is_there_with_all_its_numbers(report: Report) -> None:
    root = ElementTree.fromstring(comparisons(report))
    assert [said(cell) for cell in root.iterfind(".//thead/tr/th")] == [
        *("Arm", "Units", "Control units", "Mean", "Control mean", "Lift", "95% interval"),
        *("Always-valid interval", "Reading"),
        *("p", "Adjusted p", "Method", "Status"),
    ]
    rows = [row for row in root.iterfind(".//tbody/tr") if row.get("class") != "group"]
    counts = ["1,215", "1,226", "0.4051", "0.3987"]
    assert cells(rows) == [
        [
            "covisitation",
            *counts,
            "+3.10%",
            "+1.20% to +5.00%",
            "-",
            "better",
            "0.001",
            "0.002",
            "ratio",
            "ok",
        ],
        ["random", *counts, "-2.00%", "-5.00% to +1.10%", "-", "may be 0", "0.21", "0.215", "ratio", "ok"],
        [
            "covisitation",
            *counts,
            "+8.00%",
            "-40.0% to +90.0%",
            "-",
            "may be 0",
            "0.7",
            "0.71",
            "ratio",
            "ok",
        ],
        ["random", *counts, "-", "-", "-", "too few", "-", "-", "ratio", "too_few"],
        [
            "covisitation",
            *counts,
            "+0.00%",
            "-",
            "-",
            "zero variance",
            "-",
            "-",
            "proportion",
            "zero_variance",
        ],
        ["random", *counts, "-", "-", "-", "not estimable", "-", "-", "proportion", "not_estimable"],
        [
            *("covisitation", *counts, "+1.00%", "-1.00% to +3.00%", "-", "may be 0, within its margin"),
            *("0.33", "-", "ratio", "ok"),
        ],
        [
            *("random", *counts, "+9.00%", "+6.00% to +12.0%", "-", "worse, past its margin"),
            *("2.5e-07", "-", "ratio", "ok"),
        ],
    ]


def test_a_row_names_each_metric(report: Report) -> None:
    root = ElementTree.fromstring(comparisons(report))
    groups = [row for row in root.iterfind(".//tbody/tr") if row.get("class") == "group"]
    assert [said(row) for row in groups] == [
        "click_rate primary; higher is better; Clicks per item shown; p adjusted by Holm",
        "watch_time secondary; higher is better; in seconds; p adjusted by Benjamini-Hochberg",
        "likers secondary; higher is better; p adjusted by Benjamini-Hochberg",
        "hate_rate guardrail; lower is better, margin +5.00%",
    ]
    assert {cell.get("colspan") for row in groups for cell in row} == {"13"}


def test_what_is_unknown_is_a_hyphen(report: Report) -> None:
    unknown = replace(report.comparisons[3], mean=None, control_mean=None, method=None, units=0)
    root = ElementTree.fromstring(comparisons(replace(report, comparisons=[unknown])))
    row = root.findall(".//tbody/tr")[1]
    assert cells([row]) == [
        ["random", "0", "1,226", "-", "-", "-", "-", "-", "too few", "-", "-", "-", "too_few"]
    ]


def test_methods_and_statuses_that_occur_are_explained(report: Report) -> None:
    root = ElementTree.fromstring(comparisons(report))
    names, meanings = root.findall("dl/dt"), root.findall("dl/dd")
    assert [said(name) for name in names] == [
        *("proportion", "ratio", "ok", "too_few", "zero_variance", "not_estimable")
    ]
    assert all(len(said(meaning)) > 15 for meaning in meanings)


def test_what_was_left_out_is_counted_and_explained(report: Report) -> None:
    root = ElementTree.fromstring(left_out(report))
    assert cells(root.findall(".//tbody/tr")) == [
        ["duplicate", "12", "rows equal to an earlier one in every column; dropped"],
        ["request_outside", "3,456", "requests of units outside the traffic share; not asked"],
    ]


def test_a_reason_that_is_not_known_is_listed(report: Report) -> None:
    root = ElementTree.fromstring(left_out(replace(report, dropped={"bot": 3})))
    assert cells(root.findall(".//tbody/tr")) == [["bot", "3", ""]]


@pytest.mark.parametrize("dropped", [{}, {"duplicate": 0}])
def test_nothing_left_out_is_said(report: Report, dropped: dict[str, int]) -> None:
    root = ElementTree.fromstring(left_out(replace(report, dropped=dropped)))
    assert said(root) == "Left out or notedNothing."


def facts(root: Element) -> dict[str, str]:
    return {
        said(name): said(fact)
        for name, fact in zip(root.findall("dl/dt"), root.findall("dl/dd"), strict=True)
    }


def test_the_origin_of_the_numbers_is_told(report: Report) -> None:
    root = ElementTree.fromstring(origin(report))
    assert facts(root) == {
        "Run": "86346f41d52f424c",
        "Experiment": "baselines",
        "Mode": "rerank: each arm orders what the log showed in a session; "
        "the outcomes of its first k items count",
        "Units": "split: every unit meets one arm",
        "k (items in a slate)": "3",
        "Seed": "7",
        "As of": "2022-04-21T23:51:55+08:00",
        "Snapshot": "not stored",
        "Alpha": "0.05, two-sided",
        "Synthetic": "no",
        "Log format": "KuaiRand",
        "Log rows": "41,704",
        "First row": "2022-04-07T15:44:48+00:00",
        "Last row": "2022-04-21T15:51:55+00:00",
        "Replayed from": "2022-04-13T16:00:00+00:00",
    }
    assert cells(root.findall(".//tbody/tr")) == [
        ["popularity", "control", "1", "61cf0ffd8e0c"],
        ["covisitation", "challenger", "1", "e83b66d1e923"],
        ["random", "challenger", "0.5", "db219885b065"],
    ]
    assert [said(file) for file in root.findall("ul/li")] == ["logs/first.csv", "logs/second.csv"]
    assert any("5e" * 32 in said(paragraph) for paragraph in root.findall("p"))
    assert said(root.findall("details/pre")[0]) == report.sql


def test_a_paired_run_says_so(report: Report) -> None:
    root = ElementTree.fromstring(origin(replace(report, run=report.run._replace(paired=True, mode="live"))))
    assert facts(root)["Units"] == "paired: every unit meets every arm"
    assert facts(root)["Mode"] == "live"


def test_a_run_without_a_log_tells_the_rest(report: Report) -> None:
    root = ElementTree.fromstring(origin(replace(report, run=report.run._replace(log={}))))
    assert "Log rows" not in facts(root)
    assert root.findall("ul") == []


def test_a_window_is_told_and_who_it_leaves_out(report: Report) -> None:
    windowed = {name: metric.model_copy(update={"window": "7d"}) for name, metric in report.metrics.items()}
    changed = replace(report, metrics=windowed, dropped={"unit_too_young_likers": 3})
    root = ElementTree.fromstring(comparisons(changed))
    title = next(row for row in root.iterfind(".//tbody/tr") if row.get("class") == "group")
    assert "within 7d of a unit's first exposure" in said(title)
    assert cells(ElementTree.fromstring(left_out(changed)).findall(".//tbody/tr")) == [
        [
            *("unit_too_young_likers", "3"),
            "units first exposed too short a time ago; they do not count in likers",
        ]
    ]
