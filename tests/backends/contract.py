"""What every engine of our own keeps. An engine passes by naming itself:

    class TestDb(EngineContract):
        engine = "dirigible_session.backends.db"

Rivals need no threads here: two stores of one key that were both loaded before either saves are
two requests, with the rival's write exactly between the read and the write of the other.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.test import override_settings
from django.utils.safestring import SafeString

from dirigible_session import handles
from dirigible_session.backends import base
from dirigible_session.exceptions import AttributeNotSerializable
from dirigible_session.lifecycle import COOKIE_LIFETIME, EXPIRY_KEY, Times
from dirigible_session.stored import Query
from tests.stores import Api

HOUR = 60 * 60


class EngineContract:
    """The suite."""

    engine: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _engine(self, settings: Any) -> None:
        settings.SESSION_ENGINE = self.engine

    @property
    def store_class(self) -> Any:
        return import_module(self.engine).SessionStore

    def store(self, key: str | None = None) -> Any:
        return self.store_class(key)

    def loaded(self, api: Api, key: str) -> Any:
        store = self.store(key)
        api.keys(store)
        return store

    def new(self, **attributes: Any) -> str:
        store = self.store()
        store.update(attributes)
        store.save()
        return store.session_key

    def content(self, key: str) -> dict[str, Any]:
        return dict(self.store(key).items())

    # Data.

    @pytest.mark.parametrize(
        "value",
        [
            "text",
            "",
            "\0",
            "\ud800",
            "Straße 🦆",
            0,
            -1,
            2**70,
            1.5,
            1e300,
            True,
            False,
            None,
            [],
            {},
            [1, [2, {"a": None}]],
            {"a": {"b": [1.0, "\0"]}},
            "x" * 100_000,
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_a_value_comes_back_with_its_type(self, api: Api, value: Any) -> None:
        store = self.store()
        store["value"] = value
        api.save(store)
        back = self.loaded(api, store.session_key)["value"]
        assert back == value
        assert type(back) is type(value)

    @pytest.mark.parametrize(
        "name", ["a b", "ü", "\0", "\ud800", "", '"', "{", "digest", "x" * 500]
    )
    def test_any_name_is_taken(self, api: Api, name: str) -> None:
        store = self.store()
        store[name] = 1
        api.save(store)
        assert dict(api.items(self.store(store.session_key))) == {name: 1}

    def test_data_is_json_whatever_the_setting_says(self, api: Api) -> None:
        with override_settings(SESSION_SERIALIZER="tests.backends.contract.NoSerializer"):
            store = self.store()
            store["pair"] = (1, 2)
            store["keys"] = {1: 2}
            api.save(store)
            assert self.content(store.session_key) == {"pair": [1, 2], "keys": {"1": 2}}

    def test_what_is_no_json_is_refused_and_nothing_is_stored(self, api: Api) -> None:
        key = self.new(a=1)
        store = self.loaded(api, key)
        store["a"] = 2
        store["b"] = object()
        with pytest.raises(TypeError):
            api.save(store)
        assert self.content(key) == {"a": 1}

    def test_attributes_keep_the_order_in_which_they_were_first_set(self, api: Api) -> None:
        key = self.new(b=1, a=2, c=3)
        store = self.loaded(api, key)
        store["a"] = 4
        api.save(store)
        assert list(self.content(key)) == ["b", "a", "c"]

    def test_an_attribute_that_was_removed_and_set_again_comes_last(self, api: Api) -> None:
        key = self.new(a=1, b=2, c=3)
        store = self.loaded(api, key)
        store["a"] = store.pop("a")
        api.save(store)
        assert list(self.content(key)) == ["b", "c", "a"]

    def test_the_order_holds_where_a_rival_wrote_meanwhile(self, api: Api) -> None:
        key = self.new(a=1, b=2)
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival["theirs"] = 1
        api.save(rival)
        late["a"] = late.pop("a")
        late["ours"] = 1
        api.save(late)
        assert list(self.content(key)) == ["b", "theirs", "a", "ours"]

    def test_many_attributes_keep_their_order(self, api: Api) -> None:
        names = [f"name{number * 7919 % 10_000}" for number in range(5_000)]
        store = self.store()
        store.update(dict.fromkeys(names, 1))
        api.save(store)
        assert list(self.content(store.session_key)) == names

    def test_keys_that_are_no_text_become_what_json_makes_of_them(self, api: Api) -> None:
        store = self.store()
        store.update({1: "int", None: "none", False: "bool"})
        api.save(store)
        assert self.content(store.session_key) == {
            "1": "int",
            "null": "none",
            "false": "bool",
        }

    def test_what_is_encoded_can_be_decoded_and_damage_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = self.store()
        assert store.decode(store.encode({"a": [1]})) == {"a": [1]}
        assert store.decode("no json") == {}
        assert store.decode("[]") == {}
        assert caplog.text.count("Session data corrupted") == 2

    # No lost updates.

    def test_two_requests_that_set_different_attributes_keep_both(self, api: Api) -> None:
        key = self.new(seen=0)
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["one"] = 1
        other["other"] = 2
        api.save(one)
        api.save(other)
        assert self.content(key) == {"seen": 0, "one": 1, "other": 2}

    def test_of_two_requests_that_set_one_attribute_the_last_wins(self, api: Api) -> None:
        key = self.new(a=0)
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["a"] = 1
        other["a"] = 2
        api.save(other)
        api.save(one)
        assert self.content(key) == {"a": 1}

    @pytest.mark.parametrize("way", ["set", "update", "setdefault", "in a second save"])
    def test_the_last_wins_even_if_it_sets_what_it_loaded(self, api: Api, way: str) -> None:
        key = self.new(**({} if way == "setdefault" else {"a": "old"}))
        late, rival = self.loaded(api, key), self.loaded(api, key)
        if way == "in a second save":
            late["a"] = "old"
            api.save(late)
        rival["a"] = "new"
        api.save(rival)
        if way == "setdefault":
            late.setdefault("a", "old")
        elif way == "update":
            late.update({"a": "old"})
        else:
            late["a"] = "old"
        api.save(late)
        assert self.content(key) == {"a": "old"}

    def test_what_a_request_only_read_is_not_written_back(self, api: Api) -> None:
        key = self.new(a=0, b=0)
        late, rival = self.loaded(api, key), self.loaded(api, key)
        assert late["a"] == 0
        rival["a"] = 1
        del rival["b"]
        api.save(rival)
        late["c"] = 1
        api.save(late)
        assert self.content(key) == {"a": 1, "c": 1}

    def test_a_removal_is_kept_where_a_rival_wrote_meanwhile(self, api: Api) -> None:
        key = self.new(a=0, b=0)
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival["c"] = 1
        api.save(rival)
        del late["a"]
        api.save(late)
        assert self.content(key) == {"b": 0, "c": 1}

    def test_a_removal_of_what_a_rival_removed_too_is_fine(self, api: Api) -> None:
        key = self.new(a=0, b=0)
        one, other = self.loaded(api, key), self.loaded(api, key)
        del one["a"], other["a"]
        api.save(one)
        api.save(other)
        assert self.content(key) == {"b": 0}

    def test_a_change_in_place_is_kept_where_a_rival_wrote_meanwhile(self, api: Api) -> None:
        key = self.new(cart=[1])
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival["rival"] = 1
        api.save(rival)
        late["cart"].append(2)
        late.modified = True
        api.save(late)
        assert self.content(key) == {"cart": [1, 2], "rival": 1}

    def test_a_second_save_of_one_request_loses_nothing_either(self, api: Api) -> None:
        key = self.new()
        store, rival = self.loaded(api, key), self.loaded(api, key)
        rival["rival"] = 1
        api.save(rival)
        store["first"] = 1
        api.save(store)
        again = self.loaded(api, key)
        again["again"] = 1
        api.save(again)
        store["second"] = 1
        api.save(store)
        assert self.content(key) == {"rival": 1, "first": 1, "again": 1, "second": 1}

    def test_clear_removes_what_a_rival_set_too(self, api: Api) -> None:
        key = self.new(a=0)
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival["rival"] = 1
        api.save(rival)
        late.clear()
        late["b"] = 1
        api.save(late)
        assert self.content(key) == {"b": 1}

    def test_clear_without_a_load_removes_everything(self, api: Api) -> None:
        key = self.new(a=0)
        store = self.store(key)
        store.clear()
        api.save(store)
        assert self.content(key) == {}
        assert api.exists(store, key)

    @pytest.mark.parametrize("way", ["look one up", "read all"])
    @pytest.mark.parametrize("rivals", [2, None], ids=["set", "removed"])
    def test_what_a_request_only_read_is_the_rivals_after_a_change_of_key(
        self, api: Api, way: str, rivals: int | None
    ) -> None:
        key = self.new(n=1, other=1)
        store, rival = self.store(key), self.loaded(api, key)
        assert api.get(store, "n") == 1
        if way == "read all":
            api.keys(store)
        if rivals is None:
            api.pop(rival, "n")
        else:
            rival["n"] = rivals
        api.save(rival)
        api.cycle_key(store)
        assert api.get(store, "n") == 1
        api.save(store)
        assert self.content(store.session_key).get("n") == rivals

    def test_a_name_may_be_of_a_kind_of_str(self, api: Api) -> None:
        name = SafeString("a")
        key = self.new(a=0)
        store, rival = self.loaded(api, key), self.loaded(api, key)
        rival["a"] = 1
        rival["b"] = 1
        api.save(rival)
        store[name] = 0
        store[SafeString("b")] = 2
        del store["b"]
        api.save(store)
        assert self.content(key) == {"a": 0}

    @pytest.mark.parametrize("way", ["", "all"])
    @pytest.mark.parametrize(
        ("what", "cart"),
        [("", [1, "rival"]), ("change", [1, "mine"]), ("change&remove", None), ("remove", None)],
    )
    @pytest.mark.urls("tests.backends.urls")
    def test_a_change_in_place_wins_over_what_was_taken_over_from_a_rival(
        self, client: Any, way: str, what: str, cart: Any
    ) -> None:
        client.cookies["sessionid"] = self.new(cart=[1], other=1)
        client.get(f"/change-late/?{way}&{what}")
        content = self.content(client.cookies["sessionid"].value)
        assert content.get("cart") == cart
        assert content["other"] == 1

    @pytest.mark.parametrize("has_rival", [False, True])
    @pytest.mark.parametrize("reads_all", [False, True])
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda store: store.update({"late": 1}), {"a": 1, "cart": [1], "late": 1}),
            (lambda store: store.update({"a": 2}), {"a": 2, "cart": [1]}),
            (lambda store: store.pop("a"), {"cart": [1]}),
            (lambda store: store["cart"].append(2), {"a": 1, "cart": [1, 2]}),
        ],
        ids=["add", "replace", "remove", "change in place"],
    )
    def test_what_a_task_changes_while_another_waits_for_the_store_is_kept(
        self, change: Any, expected: dict[str, Any], reads_all: bool, has_rival: bool
    ) -> None:
        key = self.new(a=1, cart=[1])

        async def visit() -> Any:
            store, rival = self.store(key), self.store(key)
            assert (await store.aget("a"), await store.aget("cart")) == (1, [1])
            if reads_all:
                await store.akeys()
            if has_rival:
                await rival.aset("rival", 1)
                await rival.asave()

            async def change_meanwhile() -> None:
                await asyncio.sleep(0)
                change(store)

            await asyncio.gather(store.acycle_key(), change_meanwhile())
            await store.asave()
            return dict(await self.store(store.session_key).aitems())

        assert async_to_sync(visit)() == expected | ({"rival": 1} if has_rival else {})

    @pytest.mark.urls("tests.backends.urls")
    def test_what_is_spoiled_in_place_after_that_is_an_error_too(self, client: Any) -> None:
        client.cookies["sessionid"] = self.new(cart=[1])
        with pytest.raises(AttributeNotSerializable, match="cart"):
            client.get("/change-late/?all&spoil")

    def test_a_removal_of_what_was_set_before_wins_over_a_rival(self, api: Api) -> None:
        key = self.new(a=0)
        store, rival = self.loaded(api, key), self.loaded(api, key)
        store["step"] = 1
        rival["step"] = 2
        api.save(rival)
        del store["step"]
        api.save(store)
        assert self.content(key) == {"a": 0}

    def test_a_loaded_session_survives_pickling(self, api: Api) -> None:
        key = self.new(cart=[1], other=1)
        store = self.store(key)
        api.get(store, "cart")
        copied = pickle.loads(pickle.dumps(store))
        copied["cart"].append(2)
        api.save(copied)
        assert self.content(key) == {"cart": [1, 2], "other": 1}

    def test_a_login_and_a_rival_attribute_both_stay(self, api: Api) -> None:
        key = self.new()
        login, rival = self.loaded(api, key), self.loaded(api, key)
        rival["cart"] = [1]
        api.save(rival)
        login["_auth_user_id"] = "7"
        api.cycle_key(login)
        api.save(login)
        assert self.content(login.session_key) == {"cart": [1], "_auth_user_id": "7"}

    def test_what_was_given_out_stays_the_same_object(self, api: Api) -> None:
        key = self.new(cart=[1], other=1)
        store = self.loaded(api, key)
        cart = store["cart"]
        store["more"] = 1
        api.save(store)
        cart.append(2)
        assert dict(store.items())["cart"] is cart
        api.save(store)
        assert self.content(key) == {"cart": [1, 2], "other": 1, "more": 1}

    # No resurrection; missing is no error.

    def test_a_session_that_is_not_there_loads_as_nothing(self, api: Api) -> None:
        store = self.store("a" * 32)
        assert api.load(store) == {}
        assert store.session_key is None

    def test_deleting_twice_is_fine(self, api: Api) -> None:
        key = self.new()
        for _ in range(2):
            api.delete(self.store(), key)
        assert not api.exists(self.store(), key)

    def test_deleting_a_store_without_a_key_does_nothing(self, api: Api) -> None:
        api.delete(self.store())

    def test_a_save_after_the_end_raises_and_stores_nothing(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        api.delete(self.store(), key)
        late["a"] = 2
        with pytest.raises(UpdateError):
            api.save(late)
        assert not api.exists(self.store(), key)

    def test_a_save_of_an_unknown_session_raises(self, api: Api) -> None:
        with pytest.raises(UpdateError):
            api.save(self.store("a" * 32))

    def test_a_cleared_session_that_is_gone_stays_gone(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        api.flush(self.store(key))
        late.clear()
        with pytest.raises(UpdateError):
            api.save(late)
        assert not api.exists(self.store(), key)

    def test_a_change_of_key_after_the_end_brings_nothing_back(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        api.flush(self.store(key))
        api.cycle_key(late)
        assert not api.exists(self.store(), late.session_key)
        with pytest.raises(UpdateError):
            api.save(late)
        assert not api.exists(self.store(), late.session_key)

    def test_a_save_under_the_old_key_raises(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        api.cycle_key(self.store(key))
        late["a"] = 2
        with pytest.raises(UpdateError):
            api.save(late)
        assert not api.exists(self.store(), key)

    def test_a_touch_of_a_gone_session_says_so_and_brings_nothing_back(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        api.delete(self.store(), key)
        assert api.touch(late, time.time() + 100) is False
        assert not api.exists(self.store(), key)

    def test_a_taken_key_is_not_taken_again(self, api: Api) -> None:
        key = self.new(a=1)
        with pytest.raises(CreateError):
            api.save(self.store(key), True)
        assert self.content(key) == {"a": 1}

    # Keys.

    def test_a_change_of_key_keeps_attributes_and_creation(self, api: Api) -> None:
        key = self.new(a=1)
        store = self.loaded(api, key)
        created = store.times.created
        store["b"] = 2
        api.cycle_key(store)
        assert store.session_key != key
        assert not api.exists(self.store(), key)
        assert self.content(store.session_key) == {"a": 1, "b": 2}
        assert self.loaded(api, store.session_key).times.created == created

    def test_a_change_of_key_that_fails_leaves_the_session_where_it_was(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = self.new(a=1)
        store = self.loaded(api, key)

        def fail(*args: Any) -> None:
            raise ConnectionError

        for name in ("_update", "_in_async"):
            monkeypatch.setattr(self.store_class, name, fail)
        with pytest.raises(ConnectionError):
            api.cycle_key(store)
        monkeypatch.undo()
        assert store.session_key == key
        store["b"] = 2
        api.save(store)
        assert self.content(key) == {"a": 1, "b": 2}

    def test_a_session_without_a_key_gets_one_by_a_change_of_key(self, api: Api) -> None:
        store = self.store()
        store["a"] = 1
        api.cycle_key(store)
        assert self.content(store.session_key) == {"a": 1}

    def test_a_new_key_that_is_taken_is_drawn_again(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken = self.new(a=1)
        drawn = iter([taken, "b" * 32])
        monkeypatch.setattr(base, "get_random_string", lambda *args: next(drawn))
        store = self.store()
        api.save(store)
        assert store.session_key == "b" * 32
        assert self.content(taken) == {"a": 1}

    def test_flush_leaves_nothing_and_the_next_save_makes_another(self, api: Api) -> None:
        key = self.new(a=1)
        store = self.loaded(api, key)
        api.flush(store)
        assert store.session_key is None
        assert not api.exists(self.store(), key)
        store["b"] = 1
        api.save(store)
        assert store.session_key != key
        assert self.content(store.session_key) == {"b": 1}

    # Times.

    def test_times_are_stored_with_the_session(self, api: Api) -> None:
        store = self.store()
        store.times = Times(time.time() - HOUR, time.time() - 60.25, None)
        api.save(store)
        assert self.loaded(api, store.session_key).times == store.times

    def test_a_touch_writes_the_last_access_and_no_attribute(self, api: Api) -> None:
        key = self.new(a=1)
        reader, rival = self.loaded(api, key), self.loaded(api, key)
        rival["a"] = 2
        api.save(rival)
        accessed = time.time() + 100
        assert api.touch(reader, accessed) is True
        assert self.content(key) == {"a": 2}
        assert self.loaded(api, key).times.accessed == accessed

    def test_a_touch_without_a_session_finds_none(self, api: Api) -> None:
        assert api.touch(self.store(), time.time()) is False

    def test_a_touch_of_a_cleared_session_removes_nothing(self, api: Api) -> None:
        store = self.loaded(api, self.new(a=1))
        store.clear()
        assert api.touch(store, time.time() + 100) is True
        assert self.content(store.session_key) == {"a": 1}

    def test_the_last_access_never_goes_back(self, api: Api) -> None:
        key = self.new()
        early, late = self.loaded(api, key), self.loaded(api, key)
        now = time.time()
        assert api.touch(late, now + 100) is True
        assert api.touch(early, now + 50) is True
        early["a"] = 1
        early.times = Times(early.times.created, now + 50)
        api.save(early)
        assert self.loaded(api, key).times.accessed == now + 100

    def test_a_save_does_not_take_back_a_touch_that_came_between(self, api: Api) -> None:
        key = self.new()
        slow, reader = self.loaded(api, key), self.loaded(api, key)
        now = time.time()
        assert api.touch(reader, now + 100) is True
        slow["a"] = 1
        slow.times = Times(slow.times.created, now + 50)
        api.save(slow)
        assert self.loaded(api, key).times.accessed == now + 100
        assert self.content(key) == {"a": 1}

    def test_a_touch_follows_the_interval_that_a_rival_set(self, api: Api) -> None:
        key = self.new()
        reader, rival = self.loaded(api, key), self.loaded(api, key)
        rival.set_expiry(10 * HOUR)
        api.save(rival)
        accessed = time.time() + 100
        api.touch(reader, accessed)
        assert self.listed(key).expires == pytest.approx(accessed + 10 * HOUR)

    def test_a_save_follows_the_interval_that_a_rival_set(self, api: Api) -> None:
        key = self.new()
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival[EXPIRY_KEY] = COOKIE_LIFETIME
        rival.times = Times(rival.times.created, rival.times.accessed, -5)
        api.save(rival)
        late["a"] = 1
        api.save(late)
        assert self.loaded(api, key).times.interval == -5
        assert self.listed(key).expires is None

    def test_a_session_that_is_over_is_not_loaded(self, api: Api) -> None:
        store = self.store()
        store["a"] = 1
        store.times = Times(time.time() - 2 * HOUR, time.time() - 2 * HOUR)
        store.set_expiry(HOUR)
        api.save(store)
        late = self.store(store.session_key)
        assert api.load(late) == {}
        assert late.session_key is None

    def test_a_session_whose_end_is_in_reach_is_loaded(self, api: Api) -> None:
        store = self.store()
        store["a"] = 1
        store.set_expiry(HOUR)
        api.save(store)
        assert self.content(store.session_key)["a"] == 1

    @pytest.mark.parametrize("limit", ["DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT", "SESSION_COOKIE_AGE"])
    def test_a_limit_that_was_lowered_since_ends_it(
        self, api: Api, settings: Any, limit: str
    ) -> None:
        store = self.store()
        store.times = Times(time.time() - 100, time.time() - 100)
        store.save()
        for seconds, is_there in ((130, True), (70, False)):
            setattr(settings, limit, seconds)
            late = self.store(store.session_key)
            api.load(late)
            assert (late.session_key is not None) == is_there

    def test_the_absolute_timeout_ends_a_busy_session(self, api: Api, settings: Any) -> None:
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = HOUR
        store = self.store()
        store.times = Times(time.time() - 2 * HOUR, time.time())
        api.save(store)
        assert api.load(self.store(store.session_key)) == {}

    # Ids at rest, readers.

    def listed(self, key: str) -> Any:
        query = Query(now=time.time(), digest_prefix=handles.digest(key))
        (stored,) = self.store_class.list_stored(query)
        return stored

    def test_a_session_is_listed_by_its_digest(self) -> None:
        key = self.new(a=1)
        self.new(b=1)
        stored = self.listed(key)
        assert stored.digest == handles.digest(key)
        assert stored.data == {"a": 1}
        assert stored.times is not None
        assert stored.size > 0
        assert key not in json.dumps(dict(stored.data))

    def test_sessions_are_found_by_their_user(self) -> None:
        mine = {self.new(_auth_user_id="7") for _ in range(3)}
        self.new(_auth_user_id="77")
        self.new()
        found = self.store_class.list_stored(Query(now=time.time(), user_id="7"))
        assert {stored.digest for stored in found} == {handles.digest(key) for key in mine}

    def test_a_logged_out_session_is_no_longer_found_by_its_user(self, api: Api) -> None:
        key = self.new(_auth_user_id="7")
        store = self.loaded(api, key)
        del store["_auth_user_id"]
        api.save(store)
        assert not list(self.store_class.list_stored(Query(now=time.time(), user_id="7")))

    def test_active_and_expired_sessions_are_told_apart(self) -> None:
        live = self.new(a=1)
        over = self.store()
        over.set_expiry(-HOUR)
        over.save()
        never = self.store()
        never.times = Times(time.time(), time.time(), 0)
        never.set_expiry(COOKIE_LIFETIME)
        never.save()

        def found(state: Any) -> set[str]:
            query = Query(now=time.time(), state=state)
            return {stored.digest for stored in self.store_class.list_stored(query)}

        active = {handles.digest(live), handles.digest(never.session_key)}
        assert found("active") == active
        assert found("expired") <= {handles.digest(over.session_key)}

    def test_a_session_found_by_its_digest_can_be_ended(self, api: Api) -> None:
        key = self.new(a=1)
        store = self.store_class.by_digest(handles.digest(key))
        assert dict(store.items()) == {"a": 1}
        api.flush(store)
        assert not api.exists(self.store(), key)

    @pytest.mark.parametrize("rival", ["save", "touch", "flush", None])
    def test_it_is_ended_only_if_it_is_still_what_was_found(
        self, api: Api, rival: str | None
    ) -> None:
        key = self.new(a=1, _auth_user_id="7")
        store, digest = self.store(), handles.digest(key)
        found = store._read(digest)
        other = self.loaded(api, key)
        if rival == "save":
            other["b"] = 1
        if rival == "touch":
            assert api.touch(other, time.time() + 100)
        elif rival:
            getattr(api, rival)(other)
        assert store._remove_if(digest, found) is (rival is None)
        assert api.exists(store, key) is (rival in ("save", "touch"))

    def test_a_digest_that_names_nothing_is_a_lookup_error(self) -> None:
        with pytest.raises(LookupError):
            self.store_class.by_digest("0" * 40)

    # Ending several at once, and what a load found over.

    def test_several_are_ended_at_once_and_each_digest_is_given_to_one_caller(self) -> None:
        digests = [handles.digest(self.new(number=number)) for number in range(3)]
        kept = self.new(kept=True)
        asked = [*digests[:2], digests[0], "0" * 40]
        assert self.store_class.end_stored(asked) == set(digests[:2])
        assert self.store_class.end_stored(digests) == {digests[2]}
        assert self.store_class.end_stored([]) == set()
        assert self.content(kept) == {"kept": True}

    def over(self, **attributes: Any) -> str:
        store = self.store()
        store.update(attributes)
        store.times = Times(time.time() - 2 * HOUR, time.time() - HOUR - 1)
        store.save()
        return store.session_key

    def test_a_load_keeps_what_it_found_over_and_one_of_two_ends_it(
        self, api: Api, settings: Any
    ) -> None:
        key = self.over(a=1, _auth_user_id="7")
        settings.SESSION_COOKIE_AGE = HOUR
        stores = [self.store(key), self.store(key)]
        for store in stores:
            assert api.load(store) == {}
            assert store.session_key is None
            assert store.found_over.parsed() == {"a": 1, "_auth_user_id": "7"}
            assert store.found_over.times.accessed < time.time() - HOUR
        assert [api.end_found_over(store) for store in stores] == [True, False]
        assert not api.exists(self.store(), key)

    def test_what_was_found_over_is_not_ended_once_a_rival_renewed_it(
        self, api: Api, settings: Any
    ) -> None:
        key = self.over(a=1)
        settings.SESSION_COOKIE_AGE = HOUR
        store = self.store(key)
        api.load(store)
        settings.SESSION_COOKIE_AGE = 3 * HOUR
        assert api.touch(self.loaded(api, key), time.time())
        assert api.end_found_over(store) is False
        assert self.content(key) == {"a": 1}

    def test_a_live_session_and_one_that_is_gone_are_not_found_over(self, api: Api) -> None:
        for key in (self.new(a=1), "a" * 32):
            store = self.store(key)
            api.load(store)
            assert store.found_over is None
            assert api.end_found_over(store) is False

    # The login.

    def test_the_time_of_the_login_is_stored_with_the_session(self, api: Api) -> None:
        store, now = self.store(), time.time()
        store.times = Times(now - HOUR, now, None, now - 60.5)
        api.save(store)
        assert self.loaded(api, store.session_key).times == store.times

    def test_the_login_of_a_rival_is_kept(self, api: Api) -> None:
        key, now = self.new(), time.time()
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival.times = replace(rival.times, authenticated=now)
        api.save(rival)
        late["a"] = 1
        api.save(late)
        assert self.loaded(api, key).times.authenticated == now

    def test_the_absolute_timeout_counts_from_the_login(self, api: Api, settings: Any) -> None:
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = HOUR
        now = time.time()
        store = self.store()
        store["a"] = 1
        store.times = Times(now - 2 * HOUR, now, None, now - HOUR + 60)
        api.save(store)
        assert self.content(store.session_key) == {"a": 1}
        assert self.listed(store.session_key).expires == pytest.approx(now + 60)


class RivalContract(EngineContract):
    """What two requests of one session that change its key, or one dict, at once may count on."""

    # A change of key hurts nobody.

    def test_of_two_that_change_the_key_both_have_a_live_session(self, api: Api) -> None:
        key = self.new(a=1)
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["one"] = 1
        other["other"] = 2
        for store in (one, other):
            api.cycle_key(store)
            api.save(store)
        assert len({key, one.session_key, other.session_key}) == 3
        assert self.content(one.session_key) == {"a": 1, "one": 1}
        assert self.content(other.session_key) == {"a": 1, "one": 1, "other": 2}
        assert not api.exists(self.store(), key)

    def test_of_two_logins_at_once_none_gets_what_the_other_stored(self, api: Api) -> None:
        key = self.new(cart=[1])
        one, other = self.loaded(api, key), self.loaded(api, key)
        created = one.times.created
        for store, user in ((one, "7"), (other, "8")):
            api.cycle_key(store)
            store["_auth_user_id"] = user
            store["letter"] = user
            api.save(store)
        for store, user in ((one, "7"), (other, "8")):
            content = {"cart": [1], "_auth_user_id": user, "letter": user}
            assert self.content(store.session_key) == content
            assert self.loaded(api, store.session_key).times.created == created

    def test_several_change_the_key_of_a_user_and_lose_nothing(self, api: Api) -> None:
        key = self.new(_auth_user_id="7")
        stores = [self.loaded(api, key) for _ in range(4)]
        for number, store in enumerate(stores):
            api.cycle_key(store)
            store[f"n{number}"] = number
            api.save(store)
        for number, store in enumerate(stores):
            content = self.content(store.session_key)
            assert content["_auth_user_id"] == "7"
            assert content[f"n{number}"] == number

    def test_a_session_whose_key_was_changed_several_times_is_found(self, api: Api) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        for _ in range(3):
            store = self.loaded(api, key)
            api.cycle_key(store)
            key = store.session_key
        api.cycle_key(late)
        late["b"] = 2
        api.save(late)
        assert self.content(late.session_key) == {"a": 1, "b": 2}
        assert self.content(key) == {"a": 1}

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_session_that_was_ended_after_a_change_of_key_stays_dead(
        self, api: Api, times: int
    ) -> None:
        key = self.new(a=1)
        late = self.loaded(api, key)
        for _ in range(times):
            store = self.loaded(api, key)
            api.cycle_key(store)
            key = store.session_key
        api.flush(self.loaded(api, key))
        api.cycle_key(late)
        with pytest.raises(UpdateError):
            api.save(late)
        assert not api.exists(self.store(), late.session_key)

    def test_a_request_ends_the_session_that_it_loaded_also_under_another_key(
        self, api: Api
    ) -> None:
        key = self.new(a=1)
        late, rival = self.loaded(api, key), self.loaded(api, key)
        api.cycle_key(rival)
        api.flush(late)
        assert late.was_deleted is True
        assert not api.exists(self.store(), rival.session_key)
        api.flush(rival)
        assert rival.was_deleted is False

    def test_a_delete_tells_whether_it_did(self, api: Api) -> None:
        key = self.new(a=1)
        assert api.delete(self.store(), key) is True
        assert api.delete(self.store(), key) is False
        assert api.delete(self.store()) is False

    # Changes of one dict are merged.

    @pytest.mark.parametrize("way", ["in place", "set"])
    def test_what_two_requests_put_into_one_dict_is_kept(self, api: Api, way: str) -> None:
        key = self.new(cart={"tea": 1, "lists": [1], "more": {"deep": {"a": 1, "b": 2}}})
        one, other = self.loaded(api, key), self.loaded(api, key)
        for store, name in ((one, "coffee"), (other, "cake")):
            cart = store["cart"] if way == "in place" else json.loads(json.dumps(store["cart"]))
            cart[name] = 1
            cart["more"]["deep"][name] = 2
            cart["last"] = name
            if way == "set":
                store["cart"] = cart
        del one["cart"]["tea"], other["cart"]["more"]["deep"]["b"]
        api.save(one)
        api.save(other)
        assert self.content(key)["cart"] == {
            "lists": [1],
            "more": {"deep": {"a": 1, "coffee": 2, "cake": 2}},
            "coffee": 1,
            "last": "cake",
            "cake": 1,
        }

    def test_a_second_change_of_a_merged_dict_keeps_both(self, api: Api) -> None:
        key = self.new(cart={})
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["cart"]["one"] = 1
        api.save(one)
        other["cart"]["other"] = 1
        api.save(other)
        assert other["cart"] == {"other": 1}
        one["cart"]["again"] = 1
        del one["cart"]["one"]
        api.save(one)
        assert self.content(key)["cart"] == {"other": 1, "again": 1}
        del other["cart"]["other"]
        api.save(other)
        assert self.content(key)["cart"] == {"again": 1}

    def test_a_dict_that_both_added_is_not_merged(self, api: Api) -> None:
        key = self.new()
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["cart"], other["cart"] = {"one": 1}, {"other": 1}
        api.save(one)
        api.save(other)
        assert self.content(key) == {"cart": {"other": 1}}

    @pytest.mark.parametrize("theirs", [[1], "text", None])
    def test_a_dict_that_a_rival_replaced_or_removed_is_not_merged(
        self, api: Api, theirs: Any
    ) -> None:
        key = self.new(cart={"tea": 1})
        one, other = self.loaded(api, key), self.loaded(api, key)
        if theirs is None:
            del one["cart"]
        else:
            one["cart"] = theirs
        other["cart"]["cake"] = 1
        api.save(one)
        api.save(other)
        assert self.content(key) == {"cart": {"tea": 1, "cake": 1}}

    def test_a_cleared_session_keeps_only_its_own_dict(self, api: Api) -> None:
        key = self.new(cart={"tea": 1})
        one, other = self.loaded(api, key), self.loaded(api, key)
        one["cart"]["one"] = 1
        other.clear()
        other["cart"] = {"other": 1}
        api.save(one)
        api.save(other)
        assert self.content(key) == {"cart": {"other": 1}}

    def test_a_dict_is_merged_when_the_key_is_changed(self, api: Api) -> None:
        key = self.new(cart={})
        late, rival = self.loaded(api, key), self.loaded(api, key)
        rival["cart"]["rival"] = 1
        api.save(rival)
        late["cart"]["late"] = 1
        api.cycle_key(late)
        api.save(late)
        assert self.content(late.session_key) == {"cart": {"rival": 1, "late": 1}}

    # A request that is longer than the session may idle.

    def test_a_session_that_was_live_when_the_request_came_is_loaded_and_saved(
        self, api: Api
    ) -> None:
        store = self.store()
        store.set_expiry(HOUR)
        store.times = Times(time.time() - 2 * HOUR, time.time() - HOUR - 1)
        store["a"] = 1
        store.save()
        if not self.store().exists(store.session_key):
            pytest.skip("the store has deleted it by itself")
        for judged_at, is_live in ((time.time() - 60, True), (None, False)):
            late = self.store(store.session_key)
            late.judged_at = judged_at
            assert bool(api.load(late)) is is_live
        late = self.store(store.session_key)
        late.judged_at = time.time() - 60
        late.times = Times(time.time() - 2 * HOUR, time.time())
        api.keys(late)
        late["b"] = 2
        api.save(late)
        assert self.content(store.session_key)["b"] == 2

    # By its digest.

    def test_a_session_found_by_its_digest_can_be_saved_and_given_a_key(self, api: Api) -> None:
        key = self.new(a=1)
        digest = handles.digest(key)
        store = api.by_digest(self.store_class, digest)
        store["b"] = 2
        api.save(store)
        assert self.content(key) == {"a": 1, "b": 2}
        for name in list(store.keys()):
            del store[name]
        api.save(store)
        assert self.content(key) == {}
        api.cycle_key(store)
        assert api.exists(self.store(), store.session_key)
        with pytest.raises(LookupError):
            api.by_digest(self.store_class, digest)

    def test_a_session_that_is_over_is_not_found_by_its_digest(
        self, api: Api, settings: Any
    ) -> None:
        key = self.over(a=1)
        settings.SESSION_COOKIE_AGE = HOUR
        with pytest.raises(LookupError):
            api.by_digest(self.store_class, handles.digest(key))


class NoSerializer:
    """Stands where another serializer than JSON is set; nobody may call it."""
