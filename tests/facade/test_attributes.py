"""Attributes: get, set, remove, names, and what is changed in place."""

from __future__ import annotations

import json
import os
import pickle
from datetime import date

import pytest
from django.http import HttpResponse
from django.utils.safestring import SafeString

from dirigible_session import facade
from dirigible_session.current.attributes import Attributes, Snapshot
from dirigible_session.exceptions import AttributeNotSerializable, ReservedAttributeName
from dirigible_session.signals import attribute_replaced

from ..visiting import Visitor

pytestmark = pytest.mark.usefixtures("engine")

VALUES = ["text", "", 7, 0, -1.5, True, False, [1, [2, {"three": 3}]], {"key": [None, "ü"]}, [], {}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_in_the_next_request_with_its_type(visitor, value):
    assert visitor.visit(lambda session: session.set_attribute("name", value)) == value
    again = visitor.visit(lambda session: session.get_attribute("name"))
    assert again == value
    assert type(again) is type(value)


def test_an_attribute_that_is_not_there_is_none_or_the_default(visitor):
    async def visit(session):
        return [
            await session.get_attribute("name"),
            await session.get_attribute("name", "default"),
            await session.get_attribute("name", default=[]),
        ]

    assert visitor.visit(visit) == [None, "default", []]


def test_names_come_in_the_order_in_which_they_were_first_set(visitor):
    async def first(session):
        for name in ("b", "a", "c"):
            await session.set_attribute(name, 1)
        await session.set_attribute("b", 2)
        return await session.get_attribute_names()

    assert visitor.visit(first) == ["b", "a", "c"]
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["b", "a", "c"]


def test_what_a_request_reads_is_what_the_next_one_reads(visitor):
    async def first(session):
        stored = await session.set_attribute("pair", (1, {2: (3,)}))
        return stored, await session.get_attribute("pair")

    expected = [1, {"2": [3]}]
    assert visitor.visit(first) == (expected, expected)
    assert visitor.visit(lambda session: session.get_attribute("pair")) == expected


def test_setting_none_removes(visitor):
    visitor.visit(lambda session: session.set_attribute("name", 1))

    async def second(session):
        return await session.set_attribute("name", None), await session.get_attribute_names()

    assert visitor.visit(second) == (None, [])
    assert visitor.visit(lambda session: session.get_attribute("name")) is None


def test_removing_returns_what_was_there(visitor):
    visitor.visit(lambda session: session.set_attribute("name", [1]))
    assert visitor.visit(lambda session: session.remove_attribute("name")) == [1]
    assert visitor.visit(lambda session: session.get_attribute_names()) == []
    assert visitor.visit(lambda session: session.remove_attribute("name")) is None


@pytest.mark.parametrize(
    "visit",
    [
        lambda session: session.get_attribute("name"),
        lambda session: session.get_attribute_names(),
        lambda session: session.remove_attribute("name"),
        lambda session: session.set_attribute("name", None),
        lambda session: session.get_creation_time(),
        lambda session: session.get_last_accessed_time(),
        lambda session: session.get_max_inactive_interval(),
        lambda session: session.is_new(),
        lambda session: session.is_valid(),
    ],
    ids=["get", "names", "remove", "set None", "created", "accessed", "interval", "new", "valid"],
)
def test_nothing_of_this_creates_a_session(visitor, visit, store_class, settings, tmp_path):
    visitor.visit(visit)
    assert visitor.cookie is None
    assert list(tmp_path.iterdir()) == []
    from django.contrib.sessions.models import Session

    assert not Session.objects.exists()


async def _change(session, path):
    cart = await session.get_attribute("cart")
    for step in path:
        cart = cart[step]
    cart.update(changed=1) if isinstance(cart, dict) else cart.append(1)


@pytest.mark.parametrize(
    ("value", "path", "after"),
    [
        ([], [], [1]),
        ({}, [], {"changed": 1}),
        ([{"items": [0]}], [0, "items"], [{"items": [0, 1]}]),
        ({"a": {"b": {}}}, ["a", "b"], {"a": {"b": {"changed": 1}}}),
    ],
    ids=repr,
)
def test_what_is_changed_in_place_is_kept(visitor, value, path, after):
    visitor.visit(lambda session: session.set_attribute("cart", value))
    visitor.visit(lambda session: _change(session, path))
    assert visitor.visit(lambda session: session.get_attribute("cart")) == after


def test_what_set_attribute_returned_can_be_changed_in_place(visitor):
    async def visit(session):
        cart = await session.set_attribute("cart", [])
        cart.append("tea")

    visitor.visit(visit)
    assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]


def test_a_default_that_is_changed_in_place_is_no_attribute(visitor):
    async def visit(session):
        (await session.get_attribute("cart", [])).append("tea")

    visitor.visit(visit)
    assert visitor.cookie is None
    assert visitor.visit(lambda session: session.get_attribute("cart")) is None


def test_a_value_that_is_only_read_causes_no_write(visitor):
    visitor.visit(lambda session: session.set_attribute("cart", [1, {"a": []}]))
    visitor.visit(lambda session: session.get_attribute("cart"))
    assert visitor.cookie is None


def test_a_value_that_was_changed_and_then_removed_is_gone(visitor):
    visitor.visit(lambda session: session.set_attribute("cart", []))

    async def visit(session):
        (await session.get_attribute("cart")).append(1)
        return await session.remove_attribute("cart")

    assert visitor.visit(visit) == [1]
    assert visitor.visit(lambda session: session.get_attribute_names()) == []


def test_changed_into_what_cannot_be_stored_is_an_error_and_leaves_the_session(visitor):
    visitor.visit(lambda session: session.set_attribute("cart", [1]))

    async def visit(session):
        await session.set_attribute("other", 1)
        (await session.get_attribute("cart")).append(object())

    with pytest.raises(AttributeNotSerializable, match="'cart'"):
        visitor.visit(visit)
    visitor.client.raise_request_exception = False
    visitor.visit(visit)
    assert visitor.response.status_code == 500
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["cart"]
    assert visitor.visit(lambda session: session.get_attribute("cart")) == [1]


def test_where_one_change_cannot_be_stored_none_is_told(visitor, receive):
    visitor.visit(lambda session: session.set_attribute("cart", [1]))
    visitor.visit(lambda session: session.set_attribute("other", [1]))
    received = receive(attribute_replaced)

    async def visit(session):
        (await session.get_attribute("cart")).append(2)
        (await session.get_attribute("other")).append(object())

    with pytest.raises(AttributeNotSerializable, match="'other'"):
        visitor.visit(visit)
    assert received == []
    assert visitor.visit(lambda session: session.get_attribute("cart")) == [1]


def _circle():
    circle = []
    circle.append(circle)
    return circle


def _nest(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


UNSTORABLE = {
    "NaN": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "NaN in a list": [1, [float("nan")]],
    "inf in a dict": {"a": {"b": float("inf")}},
    "set": {1},
    "bytes": b"bytes",
    "object": object(),
    "circle": _circle(),
    "very deep": _nest(100_000),
    "deep": _nest(600),
    "huge int": 10**5000,
    "tuple key": {(1, 2): 3},
    "NaN as a key": {"a": [{float("nan"): 1}]},
    "inf as a key": {float("inf"): 1},
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_what_cannot_be_stored_is_refused_at_once(visitor, value):
    visitor.visit(lambda session: session.set_attribute("name", "before"))

    async def visit(session):
        for name in ("name", "new"):
            with pytest.raises(AttributeNotSerializable) as caught:
                await session.set_attribute(name, value)
            assert repr(name) in str(caught.value)
            assert type(value).__name__ in str(caught.value)
            assert isinstance(caught.value, TypeError)
        return await session.get_attribute("name"), await session.get_attribute_names()

    assert visitor.visit(visit) == ("before", ["name"])
    assert visitor.cookie is None


def test_a_value_that_nests_deep_is_stored(engine, visitor):
    # A cache pickles, which takes more of the stack than JSON does before Python 3.12.
    value = _nest(200 if "cache" in engine else 500)
    visitor.visit(lambda session: session.set_attribute("deep", value))
    assert visitor.visit(lambda session: session.get_attribute("deep")) == value


ODD_NAMES = {
    "empty": "",
    "very long": "n" * 2000,
    "NUL": "a\0b",
    "emoji": "🧺",
    "surrogate": "\ud83e",
    "escape": "\x1b[2J\x1b]0;title\x07",
    "space": " _leading",
    "quotes": "'\"\n",
    "dotted": "a.b.0",
    "dunder inside": "a__b",
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_any_str_names_an_attribute(visitor, name):
    visitor.visit(lambda session: session.set_attribute(name, name))

    async def visit(session):
        names = await session.get_attribute_names()
        return names, await session.get_attribute(name), await session.remove_attribute(name)

    assert visitor.visit(visit) == ([name], name, name)
    assert visitor.visit(lambda session: session.get_attribute_names()) == []


def test_a_name_in_two_halves_is_the_one_under_which_it_comes_back(visitor):
    whole, halves = "🧺", "\ud83e\uddfa"

    async def visit(session):
        await session.set_attribute(halves, [1])
        (await session.get_attribute(halves)).append(2)
        return await session.get_attribute_names(), await session.get_attribute(whole)

    assert visitor.visit(visit) == ([whole], [1, 2])
    assert visitor.visit(lambda session: session.get_attribute(halves)) == [1, 2]
    assert visitor.visit(lambda session: session.remove_attribute(halves)) == [1, 2]
    assert visitor.visit(lambda session: session.get_attribute_names()) == []


@pytest.mark.parametrize("name", ["_", "_auth_user_id", "_session_expiry", "__", "_dirigible"])
def test_names_with_an_underscore_are_reserved(visitor, name):
    async def visit(session):
        for call in (
            session.get_attribute(name),
            session.set_attribute(name, 1),
            session.set_attribute(name, None),
            session.remove_attribute(name),
        ):
            with pytest.raises(ReservedAttributeName, match=name) as caught:
                await call
            assert isinstance(caught.value, ValueError)

    visitor.visit(visit)
    assert visitor.cookie is None


@pytest.mark.parametrize("name", [None, 1, b"name", ["name"], ("_a",)], ids=repr)
def test_a_name_is_a_str(visitor, name):
    async def visit(session):
        for call in (
            session.get_attribute(name),
            session.set_attribute(name, 1),
            session.set_attribute(name, None),
            session.remove_attribute(name),
        ):
            with pytest.raises(TypeError, match="name of an attribute must be a str"):
                await call

    visitor.visit(visit)
    assert visitor.cookie is None


def test_a_str_of_a_type_of_its_own_names_an_attribute(visitor):
    async def visit(session):
        await session.set_attribute(SafeString("name"), 1)
        return await session.get_attribute(SafeString("name"))

    assert visitor.visit(visit) == 1
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1


def test_djangos_own_names_never_show(visitor, user):
    visitor.log_in(user)

    async def visit(session):
        await session.set_max_inactive_interval(-1)
        await session.set_attribute("name", 1)
        return await session.get_attribute_names()

    assert visitor.visit(visit) == ["name"]
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["name"]


def test_keys_of_request_session_that_are_no_str_are_no_attributes(visitor):
    async def visit(session, request):
        request.session[5] = 1
        return await session.get_attribute_names()

    assert visitor.visit(visit) == []


def test_what_request_session_holds_is_an_attribute(visitor):
    async def visit(session, request):
        await session.get_attribute_names()
        request.session["name"] = [1]
        return await session.get_attribute("name")

    assert visitor.visit(visit) == [1]

    async def look(session, request):
        await session.get_attribute_names()
        return request.session["name"]

    assert visitor.visit(look) == [1]


def test_a_session_that_the_view_put_there_is_held_to_its_limits_too(
    visitor, another_visitor, store_class, settings, clock
):
    another_visitor.visit(lambda session: session.set_attribute("name", "over"))
    settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = 60
    clock.tick(61)

    async def visit(session, request):
        await session.get_attribute("name")
        request.session = store_class(another_visitor.session_key)
        return await session.get_attribute("name"), await session.get_attribute_names()

    assert visitor.visit(visit) == (None, [])


def test_a_value_no_serializer_takes_can_be_read_until_the_request_ends(visitor):
    async def visit(session, request):
        await session.get_attribute_names()
        request.session["name"] = [lambda: 1]
        return len(await session.get_attribute("name")), request.session.pop("name") and None

    assert visitor.visit(visit) == (1, None)


def test_a_value_no_serializer_takes_is_an_error_of_djangos(visitor):
    visitor.visit(lambda session: session.set_attribute("other", 1))

    async def visit(session, request):
        await session.get_attribute_names()
        request.session["name"] = [lambda: 1]
        await session.get_attribute("name")

    visitor.client.raise_request_exception = False
    visitor.visit(visit)
    # Where a cache comes behind the database, the serializer is the first to refuse.
    assert visitor.response.status_code == 500
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["other"]


class PickleSerializer:
    """A project's own serializer, which takes more than JSON does."""

    def dumps(self, value):
        return pickle.dumps(value)

    def loads(self, data):
        return pickle.loads(data)


def test_values_are_what_the_projects_serializer_makes_of_them(visitor, settings):
    settings.SESSION_SERIALIZER = f"{__name__}.PickleSerializer"
    value = (1, {2: b"bytes"}, {3})

    async def visit(session):
        assert await session.set_attribute("name", value) == value
        nan = float("nan")
        for bad in (
            _circle(),
            nan,
            {"a": (float("inf"),)},
            {nan},
            frozenset([nan]),
            {frozenset([(nan,)]): 1},
            complex(0, nan),
            lambda: 1,
        ):
            with pytest.raises(AttributeNotSerializable):
                await session.set_attribute("name", bad)

    visitor.visit(visit)
    assert visitor.visit(lambda session: session.get_attribute("name")) == value

    async def change(session):
        (await session.get_attribute("name"))[2].add(4)

    visitor.visit(change)
    assert visitor.visit(lambda session: session.get_attribute("name"))[2] == {3, 4}


class DateSerializer:
    """A serializer that counts on what Django promises it: the dict of a session's data."""

    def dumps(self, data):
        return json.dumps(
            {
                name: [value.isoformat()] if isinstance(value, date) else value
                for name, value in data.items()
            }
        ).encode()

    def loads(self, text):
        return {
            name: date.fromisoformat(value[0]) if name == "day" else value
            for name, value in json.loads(text).items()
        }


def test_a_serializer_is_given_the_dict_it_is_promised(visitor, settings, receive):
    settings.SESSION_SERIALIZER = f"{__name__}.DateSerializer"
    day = date(2024, 2, 29)

    async def visit(session):
        return await session.set_attribute("day", day), await session.set_attribute("cart", (1,))

    assert visitor.visit(visit) == (day, [1])
    received = receive(attribute_replaced)

    async def change(session):
        (await session.get_attribute("cart")).append(2)
        return await session.get_attribute("day")

    assert visitor.visit(change) == day
    assert [named["name"] for _, named in received] == ["cart"]
    assert visitor.visit(lambda session: session.get_attribute("cart")) == [1, 2]


class SaltingSerializer:
    """A serializer that never says the same twice, as one that encrypts."""

    def dumps(self, data):
        return os.urandom(8) + json.dumps(data).encode()

    def loads(self, salted):
        return json.loads(salted[8:])


def test_what_is_only_read_causes_no_write_whatever_the_serializer(visitor, settings, receive):
    settings.SESSION_SERIALIZER = f"{__name__}.SaltingSerializer"
    visitor.visit(lambda session: session.set_attribute("cart", [1, {"a": []}]))
    received = receive(attribute_replaced)
    visitor.visit(lambda session: session.get_attribute("cart"))
    assert received == []
    assert visitor.cookie is None


def test_what_is_changed_into_its_equal_is_changed(visitor, settings):
    settings.SESSION_SERIALIZER = f"{__name__}.SaltingSerializer"
    visitor.visit(lambda session: session.set_attribute("flags", [1, 1]))

    async def change(session):
        (await session.get_attribute("flags"))[:] = [True, 1.0]

    visitor.visit(change)
    flags = visitor.visit(lambda session: session.get_attribute("flags"))
    assert [type(flag) for flag in flags] == [bool, float]


class TestThreads:
    """Where threads of one request meet: the rival does its work at the seam."""

    def _visit(self, work):
        visitor = Visitor(is_async=False)
        visitor.visit(lambda session: session.set_attribute("a", [1]))
        visitor.visit(lambda session: session.set_attribute("b", [1]))

        async def visit(session):
            work()

        visitor.visit(visit)

        async def look(session):
            return await session.get_attribute("a"), await session.get_attribute("b")

        return visitor.visit(look)

    def test_two_that_are_the_first_to_read_keep_one_book(self, monkeypatch):
        init = Attributes.__init__

        def init_late(attributes, session, notices):
            monkeypatch.undo()
            facade.get_attribute("b").append(2)
            init(attributes, session, notices)

        def work():
            monkeypatch.setattr(Attributes, "__init__", init_late)
            facade.get_attribute("a")

        assert self._visit(work) == ([1], [1, 2])

    def test_two_that_read_the_same_keep_what_it_was_before_both(self, monkeypatch):
        init = Snapshot.__init__

        def init_late(snapshot, *args):
            monkeypatch.undo()
            facade.get_attribute("a").append(2)
            init(snapshot, *args)

        def work():
            monkeypatch.setattr(Snapshot, "__init__", init_late)
            facade.get_attribute("a")

        assert self._visit(work) == ([1, 2], [1])


def test_a_5xx_saves_nothing(visitor):
    visitor.visit(lambda session: session.set_attribute("cart", [1]))

    async def visit(session):
        await session.set_attribute("name", 1)
        (await session.get_attribute("cart")).append(2)
        return HttpResponse(status=503)

    visitor.visit(visit)
    assert visitor.cookie is None
    assert visitor.visit(lambda session: session.get_attribute_names()) == ["cart"]
    assert visitor.visit(lambda session: session.get_attribute("cart")) == [1]


def test_a_4xx_saves(visitor):
    async def visit(session):
        await session.set_attribute("name", 1)
        return HttpResponse(status=404)

    visitor.visit(visit)
    assert visitor.visit(lambda session: session.get_attribute("name")) == 1
