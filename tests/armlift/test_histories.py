"""Histories: the log's, those that went on under an arm, and what a unit met without doing anything."""

from armlift.arm import Behaviour
from armlift.histories import Histories
from armlift.logs.sessions import LoggedImpression, Session


def shown(item: str, ts: int, *kinds: str) -> LoggedImpression:
    return LoggedImpression(item, ts, None, tuple((kind, 1.0) for kind in kinds))


def items(behaviours: tuple[Behaviour, ...]) -> list[str]:
    return [f"{one.item}:{one.kind}" for one in behaviours]


def test_the_latest_behaviours_are_kept() -> None:
    histories = Histories(3)
    assert histories.logged("u") == ()
    histories.log(Session("u", [shown("a", 1, "click", "like"), shown("b", 2), shown("c", 3, "click")]))
    histories.log(Session("v", [shown("d", 1, "click")]))
    assert items(histories.logged("u")) == ["a:click", "a:like", "c:click"]
    histories.log(Session("u", [shown("e", 4, "hate")]))
    assert histories.logged("u")[-1] == Behaviour("e", "hate", 1.0, 4)
    assert items(histories.logged("u")) == ["a:like", "c:click", "e:hate"]


def test_a_history_goes_on_under_each_arm_by_itself() -> None:
    histories = Histories(10)
    histories.log(Session("u", [shown("a", 1, "click")]))
    assert histories.lived("u", "x") == histories.logged("u")
    histories.live("u", "x", 5, ["b", "c"], {"b": shown("b", 5, "like")})
    assert items(histories.lived("u", "x")) == ["a:click", "b:like"]
    assert items(histories.lived("u", "y")) == ["a:click"]
    histories.live("new", "x", 5, ["b"], {"b": shown("b", 5, "like")})
    assert items(histories.lived("new", "x")) == ["b:like"]


def test_a_whole_history_has_all_that_was_met() -> None:
    histories = Histories(1, whole=True)
    histories.log(Session("u", [shown("a", 1, "click"), shown("b", 2)]))
    histories.live("u", "x", 5, ["c", "d"], {"c": shown("c", 5)})
    assert items(histories.lived("u", "x")) == ["a:click", "b:impression", "c:impression", "d:impression"]
    assert histories.lived("u", "x")[-1].ts == 5
