"""API keys: who holds one, what it opens, and when it ends, wherever the database is."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from armlift import keys
from armlift.errors import InputError
from armlift.keys import Key, KeyRing, NewKey
from armlift.store.database import connect, writing
from armlift.store.tables import api_keys, audit_log

AT = 1_700_000_000_000
DAY = 86_400_000


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Iterator[Engine]:
    """Give an engine where the database cannot matter."""
    shutil.copyfile(sqlite_template, tmp_path / "armlift.db")
    made = connect("sqlite:///armlift.db", tmp_path)
    yield made
    made.dispose()


def create(
    engine: Engine, name: str = "shop", scopes: Sequence[str] = ("recommend",), expires: int | None = None
) -> NewKey:
    with writing(engine) as connection:
        return keys.create(connection, name, scopes, by="ada", at=AT, expires=expires)


def rotate(engine: Engine, at: int, grace: int) -> NewKey:
    with writing(engine) as connection:
        return keys.rotate(connection, "shop", by="bo", at=at, grace=grace)


def revoke(engine: Engine, which: str, at: int = AT + 1) -> list[keys.StoredKey]:
    with writing(engine) as connection:
        return keys.revoke(connection, which, by="bo", at=at)


def ring(engine: Engine) -> KeyRing:
    made = KeyRing(engine)
    made.refresh()
    assert made.failure is None
    return made


def test_a_key_opens_what_it_is_made_for(engine: Engine) -> None:
    made = create(engine, scopes=("events", "recommend", "events"), expires=AT + DAY)
    prefix, identity, secret = made.text.split("_", 2)
    assert (prefix, identity, len(secret)) == ("armlift", made.key.id, 43)
    found = ring(engine)
    key = Key(identity, "shop", frozenset({"recommend", "events"}), AT + DAY)
    assert found.find(made.text, AT) == key
    assert found.find(made.text, AT + DAY - 1) == key
    assert found.find(made.text, AT + DAY) is None
    with engine.connect() as connection:
        assert keys.stored(connection) == [made.key]
    assert made.key.scopes == ("recommend", "events")


def test_the_secret_is_kept_nowhere(engine: Engine) -> None:
    made = [create(engine)]
    made.append(rotate(engine, AT + 1, 0))
    revoke(engine, "shop", AT + 2)
    with engine.connect() as connection:
        rows = connection.execute(select(api_keys)).all()
        log = connection.execute(select(audit_log).order_by(audit_log.c.number)).all()
    assert {row.hash for row in rows} == {
        sha256(one.text.split("_", 2)[2].encode()).hexdigest() for one in made
    }
    assert [(row.at, row.by, row.action, row.subject) for row in log] == [
        (AT, "ada", "create", "key/shop"),
        (AT + 1, "bo", "rotate", "key/shop"),
        (AT + 2, "bo", "revoke", "key/shop"),
    ]
    assert log[1].details["created"]["id"] == log[2].details["ended"][0]["id"] == made[1].key.id
    assert [one["revoked"] for one in log[1].details["ended"]] == [AT + 1]
    written = repr((rows, [row.details for row in log]))
    assert not any(one.text.split("_", 2)[2] in written for one in made)
    assert all(row.hash not in repr([row.details for row in log]) for row in rows)


@pytest.mark.parametrize("position", [0, 8, 19, 20, 21, 63])
def test_a_key_of_which_one_character_differs_is_none(sqlite: Engine, position: int) -> None:
    made = create(sqlite).text
    other = made[:position] + ("b" if made[position] != "b" else "c") + made[position + 1 :]
    assert ring(sqlite).find(other, AT) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "armlift_",
        "' OR '1'='1",
        "armlift_000000000000_' OR 1=1; DROP TABLE api_keys; --",
        "../../etc/passwd",
        "é" * 64,
        "\0",
        "armlift_" + "0" * 12 + "_" + "A" * 43,
        "x" * 100_000,
    ],
)
def test_a_text_that_is_no_key_finds_none(sqlite: Engine, text: str) -> None:
    made, found = create(sqlite).text, ring(sqlite)
    assert found.find(text, AT) is None
    assert found.find(f" {made}", AT) is found.find(f"{made}\n", AT) is None
    assert found.find(made, AT) is not None


def test_a_rotated_key_lives_on_for_its_grace(engine: Engine) -> None:
    first = create(engine, scopes=("items", "metrics"), expires=AT + 10 * DAY)
    second = rotate(engine, AT + 5, DAY)
    assert second.key[3:] == (("items", "metrics"), AT + 5, "bo", AT + 5 + 10 * DAY, None)
    found = ring(engine)
    assert found.find(first.text, AT + 4 + DAY) == Key(
        first.key.id, "shop", frozenset(second.key.scopes), AT + 5 + DAY
    )
    assert found.find(first.text, AT + 5 + DAY) is None
    assert found.find(second.text, AT + 5 + DAY) is not None
    third = rotate(engine, AT + 6, 0)
    found = ring(engine)
    assert [found.find(one.text, AT + 6) is not None for one in (first, second, third)] == [
        False,
        False,
        True,
    ]
    with engine.connect() as connection:
        states = [one.state(AT + 6) for one in keys.stored(connection)]
    assert sorted(states) == ["revoked", "revoked", "valid"]


def test_a_grace_never_prolongs(engine: Engine) -> None:
    first = create(engine, expires=AT + 10)
    rotate(engine, AT + 5, DAY)
    second = rotate(engine, AT + 6, 2 * DAY)
    found = ring(engine)
    assert found.find(first.text, AT + 9) is not None
    assert found.find(first.text, AT + 10) is None
    with engine.connect() as connection:
        old = next(one for one in keys.stored(connection) if one.id == first.key.id)
    assert (old.ends, old.revoked, old.state(AT + 9), old.state(AT + 10)) == (
        AT + 10,
        AT + 5 + DAY,
        "replaced",
        "expired",
    )
    assert second.key.expires == AT + 6 + 10


def test_revoking_a_name_ends_all_its_keys_and_an_id_one(engine: Engine) -> None:
    first = create(engine)
    second = rotate(engine, AT + 1, DAY)
    other = create(engine, "other")
    assert [one.id for one in revoke(engine, first.key.id)] == [first.key.id]
    found = ring(engine)
    assert [found.find(one.text, AT + 2) is not None for one in (first, second, other)] == [False, True, True]
    revoke(engine, "shop")
    assert ring(engine).find(second.text, AT + 2) is None
    with pytest.raises(InputError, match=r"^key shop: has ended, must be valid; `armlift keys create` makes"):
        revoke(engine, "shop")
    with pytest.raises(InputError, match=r"^key shop: has ended"):
        rotate(engine, AT + 3, 0)
    with pytest.raises(InputError, match=r"^key 'none' is not known, must be one of other$"):
        revoke(engine, "none")
    create(engine)


def test_a_name_that_expired_may_be_had_again(engine: Engine) -> None:
    first = create(engine, expires=AT + 5)
    with pytest.raises(InputError, match=r"^key shop: is there already, must be another name; `armlift keys"):
        create(engine)
    with writing(engine) as connection:
        second = keys.create(connection, "shop", ["items"], by="ada", at=AT + 5)
    found = ring(engine)
    assert (found.find(first.text, AT + 5), found.find(second.text, AT + 5) is None) == (None, False)
    with engine.connect() as connection:
        assert [one.state(AT + 5) for one in keys.stored(connection)] == ["expired", "valid"]


def test_a_key_that_expired_is_rotated_into_one_of_the_same_length(engine: Engine) -> None:
    create(engine, expires=AT + DAY)
    second = rotate(engine, AT + 3 * DAY, DAY)
    assert second.key.expires == AT + 4 * DAY


@pytest.mark.parametrize(
    ("name", "scopes", "by", "says"),
    [
        ("Shop", ["items"], "ada", "key name 'Shop': must be 1 to 63 lower-case letters"),
        ("x'; DROP TABLE api_keys; --", ["items"], "ada", "key name "),
        ("0123456789ab", ["items"], "ada", "not 12 hexadecimal digits, as ids are"),
        ("shop", [], "ada", "scopes: are none, must be at least one of recommend, assignments, events"),
        ("shop", ["items", "all"], "ada", "scope 'all': must be one of recommend, assignments, events"),
        ("shop", ["items"], " ", "--by ' ': must have 1 to 200 characters"),
    ],
)
def test_bad_words_are_refused(sqlite: Engine, name: str, scopes: list[str], by: str, says: str) -> None:
    with writing(sqlite) as connection, pytest.raises(InputError) as caught:
        keys.create(connection, name, scopes, by=by, at=AT)
    assert says in str(caught.value)
    with sqlite.connect() as connection:
        assert keys.stored(connection) == []


def test_two_who_make_a_key_of_one_name_at_once_make_one(engine: Engine) -> None:
    ended: list[object] = []

    def make() -> None:
        try:
            ended.append(create(engine).text)
        except InputError as error:
            ended.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(isinstance(one, str) for one in ended) == 1


def until(done: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_ring_notices_new_and_revoked_keys(engine: Engine) -> None:
    first = create(engine)
    with KeyRing(engine, seconds=0.05) as found:
        assert found.find(first.text, AT) is not None, "keys are there from the start"
        second = create(engine, "other")
        assert until(lambda: found.find(second.text, AT) is not None)
        revoke(engine, first.key.id)
        assert until(lambda: found.find(first.text, AT + 2) is None)
        assert found.find(second.text, AT + 2) is not None
    assert not any(one.name == "armlift-keys" for one in threading.enumerate())


def test_a_ring_keeps_what_it_knew_while_the_database_is_away(engine: Engine) -> None:
    made = create(engine)
    with KeyRing(engine, seconds=0.05) as found:
        with writing(engine) as connection:
            connection.execute(text("ALTER TABLE api_keys RENAME TO gone"))
        assert until(lambda: found.failure is not None)
        assert "api_keys" in str(found.failure)
        assert found.find(made.text, AT) is not None
        with writing(engine) as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO api_keys"))
        assert until(lambda: found.failure is None)
        assert found.find(made.text, AT) is not None
