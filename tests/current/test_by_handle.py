"""Opening a stored session by its full handle, so that no id need go through a broker."""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured

from dirigible_session import facade
from dirigible_session.exceptions import SessionNotFound
from dirigible_session.handles import digest

pytestmark = pytest.mark.django_db


@pytest.fixture
def handle(db_engine, visitor):
    async def visit(session):
        await session.set_attribute("name", 1)
        return await session.get_handle()

    return visitor.visit(visit)


def test_what_is_changed_is_saved(handle, visitor):
    with facade.open_session(handle=handle):
        assert facade.get_attribute("name") == 1
        assert facade.get_handle() == handle
        facade.set_attribute("name", 2)
    assert visitor.visit(lambda session: session.get_attribute("name")) == 2


def test_the_last_attribute_can_be_removed(handle, visitor):
    with facade.open_session(handle=handle):
        facade.remove_attribute("name")
    assert visitor.visit(lambda session: session.get_attribute_names()) == []


def test_async(handle, visitor):
    async def run():
        async with facade.aopen_session(handle=handle):
            await facade.aset_attribute("name", 3)

    async_to_sync(run)()
    assert visitor.visit(lambda session: session.get_attribute("name")) == 3


def test_the_id_is_not_known(handle):
    with facade.open_session(handle=handle), pytest.raises(SessionNotFound, match="get_handle"):
        facade.get_id()


@pytest.mark.parametrize("wrong", [digest("nosuchsession"), "abcdef123456", ""])
def test_one_that_names_no_session(handle, wrong):
    with pytest.raises(SessionNotFound), facade.open_session(handle=wrong):
        pass


def test_what_can_be_none(handle):
    with pytest.raises(SessionNotFound), facade.open_session(None):
        pass
    with pytest.raises(TypeError, match="not both"), facade.open_session("id", handle=handle):
        pass
    with pytest.raises(TypeError, match="a handle must be a str"), facade.open_session(handle=5):
        pass


def test_engines_of_djangos_say_why_they_cannot(use_engine):
    use_engine("db")
    with pytest.raises(ImproperlyConfigured, match="handle"), facade.open_session(handle="a" * 40):
        pass
