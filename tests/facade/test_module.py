"""The facade is a module: what is mistaken for request.session says what to write instead."""

from __future__ import annotations

import inspect
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation

from dirigible_session import facade
from dirigible_session import session as alias
from dirigible_session.exceptions import AttributeNotSerializable
from dirigible_session.testing import session_request


def test_a_value_set_on_the_module_is_refused():
    with pytest.raises(AttributeError, match=r"set_attribute\('cart', \.\.\.\)"):
        facade.cart = []
    with pytest.raises(AttributeError, match="modified"):
        facade.modified = True
    assert "cart" not in vars(facade)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("get", "get_attribute"),
        ("cart", r"get_attribute\('cart'\)"),
        ("flush", "invalidate"),
        ("session_key", "get_id"),
        ("pop", "remove_attribute"),
        ("setdefault", "set_default"),
    ],
)
def test_a_method_of_request_session_is_answered_by_what_to_write(name, hint):
    with pytest.raises(AttributeError, match=hint):
        getattr(facade, name)


def test_so_are_brackets():
    with pytest.raises(AttributeError, match=r"get_attribute\('cart'\)"):
        facade["cart"]
    with pytest.raises(AttributeError, match=r"set_attribute\('cart'"):
        facade["cart"] = 1
    with pytest.raises(AttributeError, match=r"remove_attribute\('cart'\)"):
        del facade["cart"]
    with pytest.raises(AttributeError, match="get_attribute_names"):
        "cart" in facade  # noqa: B015


def test_dir_offers_the_functions_and_nothing_else():
    assert set(dir(alias)) == set(facade.__all__)


def test_a_test_can_replace_a_function():
    with mock.patch("dirigible_session.facade.get_attribute", return_value=5):
        assert facade.get_attribute("name") == 5


@pytest.mark.parametrize("name", [name for name in facade.__all__ if name.startswith("a")])
def test_the_text_of_an_async_twin_says_what_it_does(name):
    first_line = inspect.getdoc(getattr(facade, name)).splitlines()[0]
    assert not first_line.startswith("Async twin")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["get_attribute", "set_attribute", "get_id", "invalidate"])
def test_a_sync_function_in_an_event_loop_names_its_async_twin(settings, name):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    arguments = {"get_attribute": ("n",), "set_attribute": ("n", 1)}.get(name, ())

    async def run():
        with session_request() as request:
            request.session._session_key = "x" * 32
            getattr(facade, name)(*arguments)

    with pytest.raises(SynchronousOnlyOperation, match=f"session.a{name}"):
        async_to_sync(run)()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"lines": [{"at": object()}]}, r"order\['lines'\]\[0\]\['at'\]"),
        ([1, {2}], r"order\[1\]"),
        ([[0.0, float("nan")]], r"order\[0\]\[1\]"),
    ],
)
@pytest.mark.django_db
def test_what_cannot_be_stored_is_told_with_its_place(value, place):
    with session_request(), pytest.raises(AttributeNotSerializable, match=place):
        facade.set_attribute("order", value)


@pytest.mark.django_db
class TestSetDefault:
    def test_stores_the_default_and_what_is_put_into_it(self, engine, visitor):
        async def visit(session):
            (await session.set_default("cart", [])).append("tea")

        visitor.visit(visit)
        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea", "tea"]

    def test_leaves_what_is_there(self, visitor):
        async def visit(session):
            await session.set_attribute("name", 1)
            return await session.set_default("name", 2)

        assert visitor.visit(visit) == 1

    def test_the_default_of_get_attribute_is_not_stored(self, visitor):
        async def visit(session):
            (await session.get_attribute("cart", [])).append("tea")

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute("cart")) is None


@pytest.mark.django_db
class TestTheObjectThatWasSet:
    def test_is_kept_with_what_is_done_to_it_later(self, engine, visitor):
        async def visit(session):
            cart = []
            assert await session.set_attribute("cart", cart) is cart
            cart.append("tea")

        visitor.visit(visit)
        assert visitor.visit(lambda session: session.get_attribute("cart")) == ["tea"]

    def test_is_no_part_of_the_session_where_the_serializer_makes_something_else(
        self, engine, visitor
    ):
        async def visit(session):
            pair = {"at": (1, 2)}
            stored = await session.set_attribute("pair", pair)
            pair["late"] = True
            return stored

        assert visitor.visit(visit) == {"at": [1, 2]}
        assert visitor.visit(lambda session: session.get_attribute("pair")) == {"at": [1, 2]}

    def test_that_is_made_unfit_later_is_told_at_the_end(self, engine, visitor):
        async def visit(session):
            cart = []
            await session.set_attribute("cart", cart)
            cart.append(object())

        with pytest.raises(AttributeNotSerializable, match="cart"):
            visitor.visit(visit)
