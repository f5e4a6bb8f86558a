"""Attributes: get, set, remove, names, and what is changed in place."""

from __future__ import annotations

import pytest

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
