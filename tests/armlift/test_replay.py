"""Replay: against plain code over the same rows, twice, killed, paired, in both modes."""

import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from brokers import Broker
from sqlalchemy import Engine, func, select

from armlift.errors import InputError
from armlift.lab import Lab, init_lab
from armlift.logs.reader import open_log
from armlift.logs.users import UserTable, read_users
from armlift.replay import cut_of, replay
from armlift.replayer import NO_ARM, Mode, ReplayOptions
from armlift.report import Report, make_report
from armlift.settings import KafkaSettings
from armlift.store.database import open_database
from armlift.store.tables import exposures, unit_days
from armlift.streams.embedded import EmbeddedStream
from armlift.streams.kafka import KafkaStream

COLUMNS = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,"
    "long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
DAY = 86_400_000
START = 1_649_347_200_000  # 2022-04-08 00:00 in Asia/Shanghai


def write_log(
    path: Path, *, users: int = 40, sessions: int = 8, seed: int = 0, random_share: float = 1
) -> Path:
    """Write a small KuaiRand-form log of eight days: some videos are clicked more than others."""
    rng = random.Random(seed)
    rows = []
    for user in range(users):
        for session in range(sessions):
            ts = START + session * DAY + rng.randrange(DAY - 3_600_000)
            for _ in range(rng.choice((1, 2, 4, 7))):
                video = rng.randrange(30)
                click = int(rng.random() < (0.7 if video < 10 else 0.2))
                hate, play = int(rng.random() < 0.05), rng.randrange(60_000)
                exposed = int(rng.random() < random_share)
                outcome = f"{click},0,0,0,0,{hate},{click},{play},30000,0,0,0,{exposed},1"
                rows.append((ts, user, video, f"{user},{video},20220408,0,{ts},{outcome}"))
                ts += rng.randrange(1_000, 600_000)
    rows.sort(key=lambda row: row[:3])
    path.write_text("\n".join([COLUMNS, *(row[3] for row in rows)]) + "\n")
    return path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    init_lab(tmp_path / "lab")
    return Lab(tmp_path / "lab")


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.csv")


def run_replay(
    lab: Lab,
    log: Path,
    *,
    mode: Mode = "rerank",
    paired: bool = False,
    k: int = 2,
    seed: int = 0,
    users: UserTable | None = None,
) -> Report:
    engine = open_database(lab, create=True)
    with EmbeddedStream(lab.folder / "stream") as stream:
        options = ReplayOptions(mode, paired, k, seed)
        run = replay(lab, lab.experiment("baselines"), open_log([log]), engine, stream, options, users=users)
    return make_report(engine, run, lab.calendar)


def tables(lab: Lab) -> dict[str, list[tuple[object, ...]]]:
    """Read every table whole, in a fixed order."""
    with sqlite3.connect(lab.folder / "armlift.db") as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    connection.close()
    # The stream's id is drawn once for each lab, and the last column of arrivals is of the clock.
    found["stream_offsets"] = [row[1:] for row in found["stream_offsets"]]
    found["arrivals"] = [row[1:-1] for row in found["arrivals"]]
    return found


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("mode", ["rerank", "match", "dense", "simulate"])
def test_twice_adds_nothing_and_another_seed_stands_beside(
    lab: Lab, log_file: Path, mode: Mode, paired: bool
) -> None:
    first = run_replay(lab, log_file, mode=mode, paired=paired)
    before = tables(lab)
    again = run_replay(lab, log_file, mode=mode, paired=paired)
    assert tables(lab) == before
    assert again.as_dict() == first.as_dict()
    other = run_replay(lab, log_file, mode=mode, paired=paired, seed=1)
    assert other.run.run != first.run.run
    after = tables(lab)
    for name in ("impressions", "exposures", "unit_days"):
        kept = [row for row in after[name] if first.run.run in row]
        assert kept == before[name]
        assert len(after[name]) > len(before[name])
    assert {row[0] for row in after["runs"]} == {first.run.run, other.run.run}


@pytest.mark.parametrize("change", ["k", "mode", "dense", "simulate", "paired", "weights", "order", "log"])
def test_whatever_changes_the_figures_changes_the_run(lab: Lab, log_file: Path, change: str) -> None:
    first = run_replay(lab, log_file).run.run
    if change == "k":
        other = run_replay(lab, log_file, k=3)
    elif change == "mode":
        other = run_replay(lab, log_file, mode="match")
    elif change in ("dense", "simulate"):
        other = run_replay(lab, log_file, mode=cast(Mode, change))
    elif change == "paired":
        other = run_replay(lab, log_file, paired=True)
    elif change in ("weights", "order"):
        definition = lab.folder / "experiments" / "baselines.yaml"
        arms = {
            "weights": "random: 1, popularity: 2, covisitation: 1",
            "order": "popularity: 1, random: 1, covisitation: 1",
        }
        definition.write_text(
            definition.read_text().replace("random: 1, popularity: 1, covisitation: 1", arms[change])
        )
        other = run_replay(Lab(lab.folder), log_file)
    else:
        other = run_replay(lab, write_log(lab.folder / "other.csv", seed=1))
    assert other.run.run != first


def reference(log: Path, report: Report, arms: dict[str, set[str]], k: int) -> dict[str, tuple[int, int]]:
    """Count clicks and impressions of a rerank replay from the rows, by the arm of each unit.

    Popularity and time play no part here: `arms` gives the units of an arm that ranks by id alone.
    """
    cut = int(str(report.run.log["cut"]))
    found: dict[str, tuple[int, int]] = {}
    rows = [line.split(",") for line in log.read_text().splitlines()[1:]]
    for arm, units in arms.items():
        clicks = shown = 0
        for unit in units:
            own = [row for row in rows if row[0] == unit and int(row[4]) >= cut]
            session: dict[str, int] = {}
            last = None
            for row in [*own, None]:
                if row is None or (last is not None and int(row[4]) - last > 1_800_000):
                    top = sorted(session)[:k]
                    clicks, shown = clicks + sum(session[item] for item in top), shown + len(top)
                    session = {}
                if row is not None:
                    session.setdefault(row[1], int(row[5]))
                    last = int(row[4])
        found[arm] = (clicks, shown)
    return found


def test_figures_equal_a_plain_reading_of_the_rows(lab: Lab, log_file: Path) -> None:
    # Trained on nothing, popularity ranks by item id, which plain code can do too.
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(baselines.read_text().replace("replay:", "replay:\n  train_until: 2022-04-08"))
    report = run_replay(Lab(lab.folder), log_file)
    arms: dict[str, set[str]] = defaultdict(set)
    for row in tables(lab)["exposures"]:
        arms[str(row[9])].add(str(row[5]))
    expected = reference(log_file, report, {"popularity": arms["popularity"]}, 2)["popularity"]
    click_rate = next(
        one for one in report.comparisons if (one.metric, one.arm) == ("click_rate", "popularity")
    )
    assert click_rate.units == len(arms["popularity"])
    assert click_rate.mean == pytest.approx(expected[0] / expected[1], rel=1e-12)
    assert report.resolution["by_arm"]["popularity"]["matched"] == expected[1]


def test_no_event_names_a_row_before_the_cut_and_arms_see_only_earlier_rows(lab: Lab, log_file: Path) -> None:
    report = run_replay(lab, log_file, mode="match", k=5)
    cut = int(str(report.run.log["cut"]))
    assert cut == START + 4 * DAY
    found = tables(lab)
    assert min(int(str(row[4])) for row in found["impressions"]) >= cut
    rows = [line.split(",") for line in log_file.read_text().splitlines()[1:]]
    logged = {(row[0], row[1], int(row[4])) for row in rows}
    assert all((str(row[6]), str(row[9]), int(str(row[4]))) in logged for row in found["impressions"])
    # A recall never returns what the unit met before: no unit has an item twice.
    counts = Counter((str(row[6]), str(row[9])) for row in found["impressions"])
    assert max(counts.values()) == 1


@pytest.mark.parametrize("paired", [False, True])
def test_a_changed_future_changes_no_slate(lab: Lab, tmp_path: Path, paired: bool) -> None:
    log = write_log(tmp_path / "a.csv")
    lines = log.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    middle = START + 6 * DAY
    changed = [lines[0]]
    for row in rows:
        if int(row[4]) >= middle:
            row[5], row[11], row[12] = str(1 - int(row[5])), "0", "1"
        changed.append(",".join(row))
    other = tmp_path / "b.csv"
    other.write_text("\n".join(changed) + "\n")

    def slates(path: Path) -> list[tuple[object, ...]]:
        run = run_replay(lab, path, paired=paired, k=3).run.run
        order = ("unit_id", "arm", "item_id", "position", "score")
        with sqlite3.connect(lab.folder / "armlift.db") as connection:
            found = connection.execute(
                f"SELECT {', '.join(order)}, ts FROM impressions "
                "WHERE run = ? AND ts < ? AND arm != 'random' "
                "ORDER BY ts, unit_id, arm, position",
                (run, middle - 3_600_000),
            ).fetchall()
        connection.close()
        return found

    first = slates(log)
    assert len(first) > 50
    assert slates(other) == first


def test_a_unit_keeps_its_arm_and_is_exposed_once(lab: Lab, log_file: Path) -> None:
    run_replay(lab, log_file)
    found = tables(lab)
    assert max(Counter(row[5] for row in found["exposures"]).values()) == 1
    arm = {row[5]: row[9] for row in found["exposures"]}
    assert all(row[7] in (arm[row[6]], NO_ARM) for row in found["impressions"])


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
import armlift.replay as replaying
from armlift.ingest import Ingester
from armlift.lab import Lab
from armlift.logs.reader import open_log
from armlift.replayer import ReplayOptions
from armlift.store.database import open_database
from armlift.store.tables import exposures, unit_days
from armlift.streams.embedded import EmbeddedStream

left = int(sys.argv[5])

def moment(name):
    global left
    left -= 1
    if left == 0:
        print(name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

def before_and_after(kind, name):
    method = getattr(kind, name)
    def wrapped(*given, **named):
        moment("before " + name)
        answer = method(*given, **named)
        moment("after " + name)
        return answer
    setattr(kind, name, wrapped)

replaying.BATCH = 7
lab = Lab(Path(sys.argv[1]))
engine = open_database(lab, create=True)
before_and_after(EmbeddedStream, "publish")
before_and_after(EmbeddedStream, "flush")
before_and_after(Ingester, "step")
before_and_after(Ingester, "_move_offsets")
event.listen(engine, "commit", lambda connection: moment("before commit"))
with EmbeddedStream(lab.folder / "stream") as stream:
    options = ReplayOptions(sys.argv[3], sys.argv[4] == "paired", 2, 0)
    replaying.replay(lab, lab.experiment("baselines"), open_log([Path(sys.argv[2])]), engine, stream, options)
print("done", flush=True)
"""


@pytest.mark.parametrize(
    ("mode", "paired"), [("rerank", ""), ("match", "paired"), ("dense", "paired"), ("simulate", "")]
)
def test_killed_and_started_again_gives_the_tables_of_a_clean_run(
    tmp_path: Path, log_file: Path, mode: Mode, paired: str
) -> None:
    for name in ("clean", "killed"):
        init_lab(tmp_path / name)
    clean = Lab(tmp_path / "clean")
    run_replay(clean, log_file, mode=mode, paired=bool(paired))
    rng, killed_at = random.Random(5), Counter[str]()
    for _ in range(12):
        killed_at[run_killed(tmp_path / "killed", log_file, mode, paired, rng.randrange(3, 90))] += 1
    assert killed_at.total() - killed_at["done"] >= 8
    assert len(killed_at) >= 4, "the kills should fall in several places"
    assert run_killed(tmp_path / "killed", log_file, mode, paired, 0) == "done"
    killed = tables(Lab(tmp_path / "killed"))
    for name, rows in tables(clean).items():
        assert killed[name] == rows, name


def run_killed(lab: Path, log: Path, mode: str, paired: str, moment: int) -> str:
    """Replay in a process that kills itself at a moment; gives where that was, or "done"."""
    command = [sys.executable, "-c", KILLED, str(lab), str(log), mode, paired, str(moment)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("mode", ["dense", "simulate"])
@pytest.mark.parametrize("paired", [False, True])
def test_batches_change_nothing_where_units_answer(
    lab: Lab, log_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, paired: bool
) -> None:
    """A unit that stands twice in a batch is asked again when its first answer is known."""
    whole = run_replay(lab, log_file, mode=mode, paired=paired, k=3)
    init_lab(tmp_path / "other")
    other = Lab(tmp_path / "other")
    monkeypatch.setattr("armlift.replay.BATCH", 1)
    assert run_replay(other, log_file, mode=mode, paired=paired, k=3).as_dict() == whole.as_dict()
    first, second = tables(lab), tables(other)
    for name in ("exposures", "impressions", "feedback", "unit_days"):
        assert first[name] == second[name], name


def test_what_is_left_out_is_counted(lab: Lab, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", users=20)
    lines = log.read_text().splitlines()
    lines.append(lines[-1])
    lines.append(",9,20220408,0,1649390000000,1,0,0,0,0,0,1,5,30000,0,0,0,1,1")
    log.write_text("\n".join(lines) + "\n")
    settings = lab.folder / "armlift.toml"
    settings.write_text(settings.read_text().replace("share = 0.0", "share = 0.3"))
    report = run_replay(Lab(lab.folder), log)
    assert report.dropped["duplicate"] == 1
    assert report.dropped["blank_user"] == 1
    assert report.dropped["request_holdout"] > 0
    exposed = {row[5] for row in tables(lab)["exposures"]}
    assert 0 < len(exposed) < 20


def test_the_cut(lab: Lab, log_file: Path) -> None:
    experiment, log = lab.experiment("baselines"), open_log([log_file])
    assert cut_of(experiment, log, lab) == START + 4 * DAY
    late = experiment.model_validate({**experiment.model_dump(), "replay": {"train_until": "2023-01-01"}})
    with pytest.raises(
        InputError, match=r"train_until: 2023-01-01T00:00:00\+08:00 is after the log's last row"
    ):
        cut_of(late, log, lab)


def test_a_log_of_one_day_is_replayed_whole(lab: Lab, tmp_path: Path) -> None:
    report = run_replay(lab, write_log(tmp_path / "day.csv", sessions=1))
    assert report.run.log["cut"] == report.run.log["first_ts"]
    assert report.resolution["compared_requests"] == 40


def test_an_artefact_that_knows_the_replayed_rows_is_refused(lab: Lab, log_file: Path) -> None:
    from armlift.training import Trainer

    engine = open_database(lab, create=True)
    trainer = Trainer(lab, engine, open_log([log_file]), START + 7 * DAY)
    version = trainer.arm(lab.arm("popularity")).version
    trainer.close()
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(
        baselines.read_text().replace("replay:", f"replay:\n  versions: {{popularity: {version}}}")
    )
    with pytest.raises(InputError, match=f"popularity/{version} was trained on data until 2022-04-15"):
        run_replay(Lab(lab.folder), log_file)
    baselines.write_text(baselines.read_text().replace("replay:", "replay:\n  train_until: 2022-04-15"))
    assert run_replay(Lab(lab.folder), log_file).run.arms["popularity"] == version


def test_the_report_is_one_json_document_of_the_fixed_shape(lab: Lab, log_file: Path) -> None:
    document = json.loads(json.dumps(run_replay(lab, log_file).as_dict(), allow_nan=False))
    assert {"run", "experiment", "mode", "synthetic", "as_of", "snapshot", "resolution", "verdict"} <= set(
        document
    )
    assert set(document["resolution"]) >= {"differing_requests", "matched", "mde"}
    assert set(document["comparisons"][0]) == {
        "metric", "role", "arm", "control", "segment", "method", "adjusted", "units", "control_units", "mean",
        "control_mean", "lift", "lift_low", "lift_high", "always_low", "always_high", "p_value", "p_adjusted",
        "status", "difference", "difference_low", "difference_high", "always_difference_low",
        "always_difference_high", "numerator", "denominator", "control_numerator", "control_denominator",
    }  # fmt: skip
    assert {"name", "status", "value"} <= set(document["checks"][0])
    assert set(document["verdict"]) == {
        "status", "sentence", "reasons", "why_not_ship", "trace", "days_left", "ships",
    }  # fmt: skip
    assert set(document["verdict"]["trace"][0]) == {"rule", "outcome", "sentence"}


def test_an_audience_needs_attributes_and_only_it_takes_part(lab: Lab, log_file: Path) -> None:
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(baselines.read_text().replace("replay:", "audience: days >= 30\nreplay:"))
    lab = Lab(lab.folder)
    with pytest.raises(InputError, match="its audience needs attributes, give --users FILE"):
        run_replay(lab, log_file)
    users = lab.folder / "users.csv"
    users.write_text("user_id,days\n" + "".join(f"{user},{user * 2}\n" for user in range(39)))
    report = run_replay(lab, log_file, users=read_users(users, {"days"}))
    exposed = {int(str(row[5])) for row in tables(lab)["exposures"]}
    assert exposed == set(range(15, 39))
    assert report.dropped["request_audience"] == 16 * 4
    counted = [row for row in tables(lab)["impressions"] if row[7] != NO_ARM]
    assert sum(one["matched"] for one in report.resolution["by_arm"].values()) == len(counted)


@pytest.mark.parametrize("traffic", [1.0, 0.5])
def test_what_units_did_before_adjusts_metrics_that_ask_for_it(
    lab: Lab, tmp_path: Path, traffic: float
) -> None:
    """Their past is the log's in the `cuped` time before first exposure, each item of a session once."""
    log_file = write_log(tmp_path / "log.csv", users=150)
    plain = run_replay(lab, log_file)
    metrics = lab.folder / "metrics.yaml"
    own = "\n".join(
        [
            "by_past: {kind: mean, cuped: 60h, of: {event: click}}",
            "rate_by_past: {kind: ratio, cuped: 60h, numerator: {event: click},",
            "  denominator: {event: impression}}",
        ]
    )
    metrics.write_text(f"{metrics.read_text()}\n{own}\n")
    baselines = lab.folder / "experiments" / "baselines.yaml"
    text = baselines.read_text().replace("primary: [click_rate]", "primary: [rate_by_past, by_past]")
    phases = f"phases:\n  - {{traffic: {traffic}}}\n  - {{start: 2022-04-14, traffic: 1.0}}"
    baselines.write_text(text.replace("phases:\n  - traffic: 1.0", phases))
    lab = Lab(lab.folder)
    report = run_replay(lab, log_file)
    e, d = exposures.c, unit_days.c
    with open_database(lab).connect() as connection:
        met = select(e.unit_id, func.min(e.ts)).where(e.run == report.run.run).group_by(e.unit_id)
        first: dict[str, int] = dict(connection.execute(met).all())
        past = select(d.unit_id, d.metric, func.sum(d.num), func.sum(d.den))
        past = past.where(d.run == report.run.run, d.side == "pre").group_by(d.unit_id, d.metric)
        sums = {(unit, metric): (num, den) for unit, metric, num, den in connection.execute(past)}
    assert len(first) == 150
    clicks: dict[str, float] = defaultdict(float)
    shown: dict[str, float] = defaultdict(float)
    sessions: dict[str, tuple[int, set[str]]] = {}
    for line in log_file.read_text().splitlines()[1:]:
        user, video, _, _, ts, click, *_ = line.split(",")
        when, before = int(ts), first[user] - int(ts)
        if user not in sessions or when - sessions[user][0] > 1_800_000:
            sessions[user] = (when, set())
        items = sessions[user][1]
        sessions[user] = (when, items | {video})
        if 0 < before <= 60 * 3_600_000 and video not in items:
            clicks[user] += int(click)
            shown[user] += 1
    for unit in first:
        assert sums.get((unit, "by_past"), (0.0, 0.0))[0] == clicks[unit]
        assert sums.get((unit, "rate_by_past"), (0.0, 0.0)) == (clicks[unit], shown[unit])
    methods = {one.metric: one.method for one in report.comparisons}
    assert (methods["by_past"], methods["rate_by_past"]) == ("cuped", "cuped_ratio")
    bias = next(check for check in report.checks if check.name == "pre_exposure_bias")
    assert bias.value is not None
    if traffic == 1.0:
        assert report.resolution["matched"] == plain.resolution["matched"]
    stored = tables(lab)
    assert run_replay(lab, log_file).as_dict() == report.as_dict()
    assert tables(lab) == stored


def test_segments_need_attributes_and_are_compared_by_themselves(lab: Lab, log_file: Path) -> None:
    baselines = lab.folder / "experiments" / "baselines.yaml"
    plan = "alpha: 0.05, minimum_units: 2, segments: [old, town]"
    baselines.write_text(baselines.read_text().replace("alpha: 0.05", plan))
    lab = Lab(lab.folder)
    with pytest.raises(InputError, match="its segments need attributes, give --users FILE"):
        run_replay(lab, log_file)
    users = lab.folder / "users.csv"
    rows = "".join(f"{user},{str(user % 4 > 0).lower()},{'a' if user < 20 else ''}\n" for user in range(38))
    users.write_text("user_id,old,town\n" + rows)
    report = run_replay(lab, log_file, users=read_users(users, {"old", "town"}))
    told = [one for one in report.comparisons if one.segment is None]
    split = {"old": ("-", "false", "true"), "town": ("-", "a")}
    found = {(one.metric, one.arm, one.segment): one for one in report.comparisons}
    assert len(found) == 6 * len(told)
    for one in told:
        for attribute, values in split.items():
            parts = [found[one.metric, one.arm, f"{attribute}={value}"] for value in values]
            assert sum(part.units for part in parts) == one.units
            assert sum(part.control_units for part in parts) == one.control_units
            assert {part.adjusted for part in parts} == {"benjamini_hochberg"}
    assert found["clicks", told[0].arm, "town=a"].p_value is not None
    again = run_replay(lab, log_file, users=read_users(users, {"old", "town"}))
    assert again.as_dict() == report.as_dict()


def test_an_attribute_of_too_many_values_is_refused_before_anything_is_replayed(
    lab: Lab, log_file: Path
) -> None:
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(baselines.read_text().replace("alpha: 0.05", "alpha: 0.05, segments: [days]"))
    users = lab.folder / "users.csv"
    users.write_text("user_id,days\n" + "".join(f"{user},{user}\n" for user in range(51)))
    with pytest.raises(InputError, match="segments: 'days' has 51 values, must have at most 50"):
        run_replay(Lab(lab.folder), log_file, users=read_users(users, {"days"}))
    assert tables(lab)["runs"] == []


def test_phases_ramp_without_moving_and_early_requests_are_counted(lab: Lab, log_file: Path) -> None:
    baselines = lab.folder / "experiments" / "baselines.yaml"
    phases = "phases:\n  - {start: 2022-04-13, traffic: 0.4}\n  - {start: 2022-04-14, traffic: 1.0}"
    baselines.write_text(baselines.read_text().replace("phases:\n  - traffic: 1.0", phases))
    report = run_replay(Lab(lab.folder), log_file)
    assert report.dropped["request_before_first_phase"] == 40
    assert report.dropped["request_outside"] > 10
    found = tables(lab)["exposures"]
    assert {row[8] for row in found} == {0, 1}
    assert len({row[5] for row in found}) == len(found) == 40


def test_a_standard_log_may_train_what_a_random_one_tells(lab: Lab, tmp_path: Path) -> None:
    random_log = write_log(tmp_path / "random.csv", seed=1)
    standard = write_log(tmp_path / "standard.csv", seed=2, random_share=0)
    first = [
        line for line in standard.read_text().splitlines()[1:] if int(line.split(",")[4]) < START + 4 * DAY
    ]
    later = [
        line for line in random_log.read_text().splitlines()[1:] if int(line.split(",")[4]) >= START + 4 * DAY
    ]
    both = tmp_path / "both.csv"
    both.write_text("\n".join([COLUMNS, *first, *later]) + "\n")
    report = run_replay(lab, both)
    assert {check.name: check.value for check in report.checks}["random_exposure"] == 1.0
    mixed = tmp_path / "mixed.csv"
    lines = [COLUMNS, *first, *later[:-1], later[-1].replace(",1,1", ",0,1")]
    mixed.write_text("\n".join(lines) + "\n")
    check = next(check for check in run_replay(lab, mixed).checks if check.name == "random_exposure")
    assert check.status == "warn"
    assert check.value is not None
    assert 0.99 < check.value < 1


def test_a_database_lost_beside_its_stream_comes_back(lab: Lab, log_file: Path) -> None:
    first = run_replay(lab, log_file)
    run_replay(lab, log_file, seed=1)
    before = tables(lab)
    for path in lab.folder.glob("armlift.db*"):
        path.unlink()
    run_replay(lab, log_file, seed=1)  # ingests the events of both runs, of which it knows one
    again = run_replay(lab, log_file)
    assert again.as_dict() == first.as_dict()
    after = tables(lab)
    for name in ("exposures", "impressions", "feedback", "unit_days", "stream_offsets", "models"):
        assert after[name] == before[name], name


def test_an_experiment_of_one_arm_is_refused(lab: Lab, log_file: Path) -> None:
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(
        baselines.read_text().replace("random: 1, popularity: 1, covisitation: 1", "random: 1")
    )
    with pytest.raises(
        InputError, match="experiment baselines: has one arm, random; a replay compares two or more"
    ):
        run_replay(Lab(lab.folder), log_file)
    assert tables(Lab(lab.folder))["runs"] == []


def test_a_slate_of_a_fallback_marks_its_events(lab: Lab, log_file: Path) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arm = lab.folder / "arms" / "remote.yaml"
    arm.write_text(arm.read_text().replace(":8900/", f":{port}/"))
    baselines = lab.folder / "experiments" / "baselines.yaml"
    baselines.write_text(baselines.read_text().replace("covisitation: 1}", "remote: 1}"))
    run_replay(Lab(lab.folder), log_file)
    with closing(sqlite3.connect(lab.folder / "armlift.db")) as connection:
        for table in ("impressions", "exposures"):
            found = set(connection.execute(f"SELECT arm, fallback FROM {table} WHERE arm <> '{NO_ARM}'"))
            assert found == {("random", 0), ("popularity", 0), ("remote", 1)}


@pytest.mark.parametrize("mode", ["rerank", "match"])
@pytest.mark.parametrize("paired", [False, True])
def test_kafka_and_postgresql_give_the_report_of_the_laptop(
    lab: Lab, log_file: Path, broker: Broker, engine: Engine, mode: Mode, paired: bool
) -> None:
    """Number for number; the broker and the databases are real."""
    if not broker.durable:
        pytest.skip(f"{broker.name} counts batches, not records")
    here = run_replay(lab, log_file, mode=mode, paired=paired)
    url = broker.url(f"replay-{engine.dialect.name}-{mode}-{paired}".lower())
    with KafkaStream(url, KafkaSettings(partitions=2)) as stream:
        options = ReplayOptions(mode, paired, 2, 0)
        run = replay(lab, lab.experiment("baselines"), open_log([log_file]), engine, stream, options)
    found = make_report(engine, run, lab.calendar)
    assert replace(found, sql=here.sql) == here  # the databases' SQL differs, its numbers do not
