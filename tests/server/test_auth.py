"""Accounts and tokens: one account for a name, and no token but ours."""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from server import tokens as tokens_module
from server.auth import Auth
from server.names import InvalidName, fold, tidy_untrusted
from server.tokens import Tokens, open_key
from signalling.identifiers import AccountId
from signalling.refusals import Refused
from tests.server.test_store import open_store

KEY = bytes(range(32))


@asynccontextmanager
async def open_auth(path: Path) -> AsyncIterator[Auth]:
    async with open_store(path / "db") as store:
        yield Auth(store, Tokens(KEY), 3600)


async def test_who_signed_up_can_log_in_and_is_who_the_token_says(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as auth:
        account = await auth.sign_up("Ann", "correct horse")
        session = await auth.log_in("ANN", "correct horse")
        actor = auth.verify(session.token)
        assert (actor.account, actor.name, actor.admin) == (account.id, "Ann", False)
        assert abs(session.expires_at - (time.time() + 3600) * 1000) < 5000


async def test_who_is_suspended_logs_in_to_see_why_and_for_nothing_else(tmp_path: Path) -> None:
    suspended = set[AccountId]()
    async with open_store(tmp_path / "db") as store:
        auth = Auth(store, Tokens(KEY), 3600, suspended)
        account = await auth.sign_up("Ann", "correct horse")
        suspended.add(account.id)
        session = await auth.log_in("ann", "correct horse")
        assert auth.read(session.token, suspended_too=True).actor.account == account.id
        with pytest.raises(Refused) as caught:
            auth.read(session.token)
        assert caught.value.code == "suspended"


def test_a_token_is_verified_once_while_it_holds_and_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MAX_KNOWN", 2)
    verified: list[str] = []
    decode = jwt.decode
    monkeypatch.setattr(
        jwt, "decode", lambda token, *args, **how: verified.append(token) or decode(token, *args, **how)
    )
    tokens = Tokens(KEY)
    one, other, third = (tokens.issue(AccountId(name), name, 100, "user") for name in ("a_1", "a_2", "a_3"))
    for token in (one, other, one, other, one):
        assert tokens.read_untrusted(token).actor.name in ("a_1", "a_2")
    assert verified == [one, other]
    tokens.read_untrusted(third)
    tokens.read_untrusted(one)
    tokens.read_untrusted(other)
    assert verified == [one, other, third, other]

    later = time.time() + 101
    monkeypatch.setattr(time, "time", lambda: later)
    tokens.read_untrusted(other)  # by PyJWT's own clock it still holds
    assert verified[4:] == [other]


def test_a_token_that_was_right_is_refused_when_it_has_expired() -> None:
    tokens = Tokens(KEY)
    token = tokens.issue(AccountId("a_1"), "ann", 100, "user")
    claims = tokens.read_untrusted(token)
    expired = tokens.issue(AccountId("a_1"), "ann", -1, "user")
    tokens._known[expired] = replace(claims, expires_at=int(time.time() - 1) * 1000)
    with pytest.raises(Refused) as caught:
        tokens.read_untrusted(expired)
    assert caught.value.code == "no_session"
    assert expired not in tokens._known


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("bob", "correct horse"), ("tokenly", "")])
async def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(
    tmp_path: Path, name: str, password: str
) -> None:
    async with open_auth(tmp_path) as auth:
        await auth.sign_up("ann", "correct horse")
        await auth.add_account("tokenly")
        with pytest.raises(Refused) as caught:
            await auth.log_in(name, password)
        assert (caught.value.code, caught.value.detail) == ("bad_credentials", caught.value.title)


async def test_of_many_who_want_one_name_exactly_one_gets_it(tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def attempt(name: str) -> None:
        try:
            await auth.sign_up(name, "correct horse")
            outcomes.append("made")
        except Refused as refusal:
            outcomes.append(refusal.code)

    async with open_auth(tmp_path) as auth, trio.open_nursery() as nursery:
        for name in ("ann", "Ann", "ANN", "ａnn"):
            nursery.start_soon(attempt, name)
    assert sorted(outcomes) == ["made", "name_taken", "name_taken", "name_taken"]


async def test_adding_an_account_twice_finds_the_first(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as auth:
        assert await auth.add_account("encoder") == await auth.add_account("Encoder")


@pytest.mark.parametrize("name", ["", " ann", "a\u200bnn", "a\nb", "x" * 65, "a/b", "\ud800", "a\u202eb"])
def test_names_that_deceive_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        tidy_untrusted(name)


@given(st.text(max_size=80))
def test_a_tidy_name_stays_as_it_is(name: str) -> None:
    try:
        tidy = tidy_untrusted(name)
    except InvalidName:
        return
    assert tidy_untrusted(tidy) == tidy
    assert fold(tidy) == fold(tidy.swapcase().swapcase()) or tidy.casefold() != tidy.swapcase().casefold()


def claims(**changed: object) -> dict[str, object]:
    now = int(time.time())
    usual = {"sub": "a_1", "name": "ann", "kind": "user", "iat": now, "exp": now + 60, "aud": "mesi"}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def foreign(said: dict[str, object], algorithm: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the key is too short for this algorithm, and that is the point
        return jwt.encode(said, KEY, algorithm)


def test_a_token_of_ours_is_read() -> None:
    token = jwt.encode(claims(), KEY, "HS256")
    assert Tokens(KEY).read_untrusted(token).actor.account == "a_1"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "x" * 5000,
        jwt.encode(claims(), bytes(32), "HS256"),
        foreign(claims(), "HS512"),
        jwt.encode(claims(), None, "none"),
        jwt.encode(claims(exp=int(time.time()) - 1), KEY, "HS256"),
        jwt.encode(claims(exp=None), KEY, "HS256"),
        jwt.encode(claims(sub=None), KEY, "HS256"),
        jwt.encode(claims(kind=None), KEY, "HS256"),
        jwt.encode(claims(aud="another"), KEY, "HS256"),
        jwt.encode(claims(iat=int(time.time()) + 3600), KEY, "HS256"),
    ],
)
def test_any_other_token_is_no_session(token: str) -> None:
    with pytest.raises(Refused, match="no_session"):
        Tokens(KEY).read_untrusted(token)


@given(st.data())
def test_no_changed_token_is_read(data: st.DataObject) -> None:
    token = Tokens(KEY).issue(AccountId("a_1"), "ann", 60, "user")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCDabcd0123-_.=~\x00ä"))
    changed = token[:place] + other + token[place + 1 :]
    try:
        read = Tokens(KEY).read_untrusted(changed)
    except Refused:
        return
    # The last character of a part carries bits that say nothing.
    assert read == Tokens(KEY).read_untrusted(token)


def test_a_key_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert open_key(path) == open_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("spoiled")
    with pytest.raises(ValueError, match="remove it"):
        open_key(path)


async def test_the_administrator_is_an_account_whose_name_nobody_else_can_have(tmp_path: Path) -> None:
    async with open_auth(tmp_path) as auth:
        for _ in range(2):
            actor = auth.verify(await auth.admin_token())
            assert actor.admin
            found = await auth.find("admin")
            assert found is not None
            assert found.id == actor.account
        with pytest.raises(Refused, match="name_taken"):
            await auth.sign_up("Admin", "correct horse")
        with pytest.raises(Refused, match="bad_credentials"):
            await auth.log_in("admin", "")
