"""Charts say what their axes are, and keep the order of their parts."""

from armlift_dashboards.bars import Part, Titles, stacked

PARTS = [
    Part("Monday", "train", 5.0, "train"),
    Part("Monday", "data", 2.0, "data"),
    Part("Tuesday", "train", 6.0, "train"),
]
KINDS = ["data", "train"]
TITLES = Titles("Night", "Seconds of work", "Part")


def test_bars_are_stacked_in_the_order_of_their_parts() -> None:
    drawn = stacked(PARTS, KINDS, TITLES).to_dict()
    bars, words = drawn["layer"]
    assert bars["encoding"]["x"]["title"] == "Night"
    assert bars["encoding"]["x"]["sort"] == ["Monday", "Tuesday"]
    assert bars["encoding"]["y"]["title"] == "Seconds of work"
    assert bars["encoding"]["color"]["scale"]["domain"] == ["data", "train"]
    assert "datum.size / 7.0 * height" in words["transform"][0]["calculate"]
    (rows,) = drawn["datasets"].values()
    assert [row["order"] for row in rows] == [1, 0, 1]


def test_lying_bars_grow_to_the_right() -> None:
    bars, words = stacked(PARTS, KINDS, TITLES, lying=True).to_dict()["layer"]
    assert (bars["encoding"]["y"]["title"], bars["encoding"]["x"]["title"]) == ("Night", "Seconds of work")
    assert "* width" in words["transform"][0]["calculate"]


def test_bars_of_nothing_are_no_error() -> None:
    assert stacked([Part("Monday", "data", 0.0, "")], ["data"], TITLES).to_dict()["layer"]
