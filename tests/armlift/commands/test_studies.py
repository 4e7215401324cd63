"""evaluate --study: its tables, document and page, and one line for every bad input."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from armlift.cli import run
from armlift.commands.studies import SEEDS

Refused = Callable[..., str]
UNTIL = "2022-04-10"
SMALL = {"dim": 4, "layers": 1, "negatives": 8, "epochs": 1, "pretraining_epochs": 1, "length": 8}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sequences.txt"
    rows = [
        f"{unit} " + " ".join(str((unit + 3 * at) % 30) for at in range(6 + unit % 3)) for unit in range(24)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def small(lab: Path) -> Path:
    """Give a lab whose neural arms are as small as they can be."""
    for path in (lab / "arms").glob("*.yaml"):
        text = path.read_text()
        for key, value in SMALL.items():
            text = re.sub(rf"^{key}: .*$", f"{key}: {value}", text, flags=re.M)
        path.write_text(text)
    return lab


def test_a_study_is_a_table_a_sentence_and_a_page(
    small: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "study.html"
    words = ["evaluate", "recgpt", "--lab", str(small), "--sequences", str(file), "--seed", "0"]
    assert run([*words, "--study", "recall", "--html", str(page)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "recall: Is recall in one step, two, or more the best?"
    assert "[7, 7, 6]" in out
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith(".")
    assert "\nAnswer: " in out
    assert err.count("training recgpt, seed 0") == 1  # all plans have the same weights
    assert "<svg" in page.read_text()
    assert run([*words, "--study", "recall", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["study"], found["arm"], found["seeds"], found["split"]) == ("recall", "recgpt", [0], "test")
    (section,) = found["sections"]
    assert [row["setting"] for row in section["rows"]][:2] == ["[20]", "[18, 2]"]
    value, low, high = section["rows"][1]["differences"]["HR@20"]
    assert low <= value <= high
    assert found["answer"] == section["answer"]


def test_kinds_of_a_log_are_studied_and_those_it_lacks_are_no_data(
    small: Path, log_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In the log everybody meets the same videos: nothing is new after the cut. A new one is added.
    later = log_file.parent / "later.csv"
    header, *rows = log_file.read_text().splitlines()
    new = [row.replace(",1,20220408", ",77,20220408") for row in rows if row.split(",")[1] == "1"][-6:]
    later.write_text("\n".join([header, *rows, *new]) + "\n")
    words = ["evaluate", "sasrec", "--lab", str(small), "--log", str(later), "--until", UNTIL]
    assert run([*words, "--study", "feedback", "--seed", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["split"] == "time"
    rows_of = {row["setting"]: row for row in found["sections"][0]["rows"]}
    assert rows_of["click: sasrec"]["status"] == "ok"
    assert rows_of["click: recgpt"]["differences"]["NDCG@10"]
    assert rows_of["like: sasrec"]["reason"].startswith("like: no unit has such a behaviour before the cut")
    assert rows_of["purchase: sasrec"]["reason"] == "the data tell nothing of purchase"
    assert "are items that no row before the cut shows" in found["notes"][-1]
    assert run(["evaluate", "popularity", "random", *words[2:], "--json"]) == 0
    (first, second) = json.loads(capsys.readouterr().out)["evaluations"]
    assert (first["split"], first["users"]) == ("time", second["users"])


def test_units_are_grouped_by_a_table(
    small: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id,level\n" + "".join(f"{unit},{'ab'[unit % 2]}\n" for unit in range(24)))
    words = ["evaluate", "recgpt", "--lab", str(small), "--sequences", str(file), "--seed", "0"]
    assert run([*words, "--study", "k", "--users", str(users), "--by", "level", "--json"]) == 0
    sections = json.loads(capsys.readouterr().out)["sections"]
    names = [section["name"] for section in sections]
    assert names[0] == "all units"
    assert names[-2:] == ["level: a", "level: b"]
    assert [section["units"] for section in sections[-2:]] == [12, 12]


def test_bad_input_is_one_line(lab: Path, file: Path, log_file: Path, refused: Refused) -> None:
    words = ("evaluate", "recgpt", "--lab", lab, "--sequences", file)
    assert refused(*words, "--study", "ks") == (
        "--study ks: must be one of those of arm recgpt: k, recall, pretrain, ablation, prompts, decoding, "
        "length, feedback, cost"
    )
    sasrec = ("evaluate", "sasrec", "--lab", lab, "--sequences", file)
    assert refused(*sasrec, "--study", "k") == (
        "--study k: must be one of those of arm sasrec: length, feedback"
    )
    popularity = ("evaluate", "popularity", "--lab", lab, "--sequences", file)
    assert refused(*popularity, "--study", "k") == (
        "--study k: arm popularity (model popularity) answers no study"
    )
    both = ("evaluate", "recgpt", "sasrec", "--lab", lab, "--sequences", file)
    assert refused(*both, "--study", "k") == "--study k: must be of one arm, is of recgpt, sasrec"
    assert refused(*words, "--study", "k", "--html", lab / "no" / "page.html").startswith("--html ")
    assert refused(*words, "--study", "k", "--by", "x") == "--study: --users FILE must stand with --by COLUMN"
    alone = "evaluate: --users, --by and --html must stand with --study"
    assert refused(*words, "--html", lab / "page.html") == alone
    assert not (lab / "armlift.db").exists()


def test_what_to_evaluate_on_is_said_once(lab: Path, file: Path, log_file: Path, refused: Refused) -> None:
    neither = "evaluate must have either --sequences FILE, or --log FILE with --until TIME"
    for study in ((), ("--study", "length")):
        words = ("evaluate", "recgpt", "--lab", lab, *study)
        assert refused(*words) == neither
        assert refused(*words, "--log", log_file) == neither
        assert refused(*words, "--until", UNTIL) == neither
        assert refused(*words, "--sequences", file, "--until", UNTIL) == neither
        line = refused(*words, "--log", log_file, "--until", "2022-05-01")
        assert line.startswith("--until 2022-05-01: must leave rows on both sides, be after 2022-04-08")
        assert refused(*words, "--log", log_file, "--until", "soon").startswith(
            "--until: 'soon' is not a time"
        )
    line = refused("evaluate", "recgpt", "--lab", lab, "--log", log_file, "--until", UNTIL, "--kind", "like")
    assert line == "--kind like: must stand with --sequences"


def test_three_seeds_are_the_default() -> None:
    assert SEEDS == (0, 1, 2)
