"""The promises of the facade and its signals, on each engine behind each of the two middlewares."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpResponse
from django.template import Context, Template
from django.utils import timezone
from django.utils.safestring import mark_safe

from dirigible_session import signals
from dirigible_session.exceptions import AttributeNotSerializable, SessionNotFound
from dirigible_session.facade import aopen_session, open_session
from dirigible_session.handles import digest
from dirigible_session.middleware import SessionMiddleware

from .conftest import STOCK_ENGINES
from .visiting import Functions, Visitor, run

pytestmark = pytest.mark.django_db

OWN_ENGINES = ("dirigible_session.backends.db", "dirigible_session.backends.redis")
#: Stores that have deleted by themselves what is over, or never had it.
FORGETFUL = ("cache", "signed_cookies", "dirigible_session.backends.redis")
MIDDLEWARE = {
    "in its place": ["dirigible_session.middleware.SessionMiddleware"],
    "after it": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "dirigible_session.middleware.DirigibleSessionMiddleware",
    ],
}
SIGNALS = (
    signals.session_created,
    signals.session_invalidated,
    signals.session_id_changed,
    signals.attribute_added,
    signals.attribute_replaced,
    signals.attribute_removed,
)


@pytest.fixture(autouse=True, params=MIDDLEWARE.values(), ids=MIDDLEWARE.keys())
def _middleware(request, settings):
    settings.MIDDLEWARE = [
        *request.param,
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]


@pytest.fixture(autouse=True, params=[*STOCK_ENGINES, *OWN_ENGINES])
def name(request, use_engine):
    """Use each engine in turn, and give its name."""
    if request.param.endswith("redis"):
        request.getfixturevalue("redis_server")
    use_engine(request.param)
    return request.param


async def _store(session):
    await session.set_attribute("name", [1])


async def _read(session):
    return await session.get_attribute("name")


def _short(seconds):
    async def visit(session):
        await _store(session)
        await session.set_max_inactive_interval(seconds)

    return visit


def _is_authenticated(visitor):
    async def visit(session, request):
        user = await request.auser() if visitor.is_async else request.user
        return user.is_authenticated

    return visitor.visit(visit)


def _log_out(visitor):
    async def visit(session, request):
        if visitor.is_async:
            await auth.alogout(request)
        else:
            auth.logout(request)

    visitor.visit(visit)


def _opened(visitor: Visitor, *args: Any, **named: Any) -> AbstractAsyncContextManager[Any]:
    """Open a session as the visitor's code would, sync or async."""
    if visitor.is_async:
        return aopen_session(*args, **named)

    @asynccontextmanager
    async def opened():
        with open_session(*args, **named) as session:
            yield session

    return opened()


class Weekday(IntEnum):
    MONDAY = 1


class TestAttributes:
    def test_are_in_this_request_what_they_are_in_the_next(self, visitor):
        values = {
            "tuple": (1, (2,)),
            "int keys": {1: {True: None}},
            "safe": mark_safe("<b>"),
            "enum": Weekday.MONDAY,
            "float": -0.0,
            "bool": True,
            "large": 2**80,
            "empty": [],
            "nothing in it": [None],
            "zero": 0,
        }

        async def store(session):
            return {name: await session.set_attribute(name, values[name]) for name in values}

        async def read(session):
            names = await session.get_attribute_names()
            return {name: await session.get_attribute(name) for name in names}

        def types(values):
            return [type(value) for value in values.values()]

        stored = visitor.visit(store)
        assert stored["tuple"] == [1, [2]]
        assert stored["int keys"] == {"1": {"true": None}}
        found = visitor.visit(read)
        assert (repr(found), types(found)) == (repr(stored), types(stored))

    def test_come_in_the_order_in_which_they_were_first_set(self, visitor, user):
        async def change(session):
            await session.set_attribute("z", 2)
            (await session.set_attribute("a", [])).append(1)
            await session.remove_attribute("y")
            await session.set_attribute("y", 3)
            await session.set_default("n", 3)

        async def begin(session):
            for name in "zyxa":
                await session.set_attribute(name, 1)

        visitor.visit(begin)
        visitor.visit(change)
        visitor.visit(lambda session: session.change_session_id())
        visitor.log_in(user)
        names = visitor.visit(lambda session: session.get_attribute_names())
        assert names == ["z", "x", "a", "y", "n"]

    def test_keep_what_is_changed_in_place_whenever_it_is(self, visitor):
        async def visit(session, request):
            value = await session.set_attribute("name", {"a": [1]})
            value["a"].append(2)
            await session.change_session_id()
            value["a"].append(3)
            await request.session.asave() if visitor.is_async else request.session.save()
            value["a"].append(4)
            assert await _read(session) is value

        visitor.visit(visit)
        assert visitor.visit(_read) == {"a": [1, 2, 3, 4]}

    @pytest.mark.parametrize(
        "value", [float("nan"), {"a": [float("-inf")]}, Decimal(1), b"", {(1, 2): 3}, object()]
    )
    def test_that_cannot_be_stored_leave_the_session_as_it_was(self, visitor, value):
        async def visit(session, request):
            before = await _read(session)
            for function in (session.set_attribute, session.set_default):
                with pytest.raises(AttributeNotSerializable) as caught:
                    await function("new", value)
                assert "'new'" in str(caught.value)
                assert type(value).__name__ in str(caught.value)
            with pytest.raises(AttributeNotSerializable):
                await session.set_attribute("name", value)
            assert await _read(session) is before
            assert not request.session.modified

        visitor.visit(visit)
        assert visitor.cookie is None
        visitor.visit(_store)
        visitor.visit(visit)
        assert visitor.cookie is None
        assert visitor.visit(lambda session: session.get_attribute_names()) == ["name"]

    def test_that_a_5xx_changed_are_as_they_were(self, visitor, clock):
        async def fail(session):
            await session.set_attribute("new", 1)
            (await _read(session)).append(2)
            await session.set_max_inactive_interval(7)
            return HttpResponse(status=500)

        async def look(session):
            names = await session.get_attribute_names()
            accessed = await session.get_last_accessed_time()
            return names, await _read(session), accessed

        visitor.visit(_store)
        accessed = clock.datetime()
        clock.tick(1000)
        visitor.visit(fail)
        assert visitor.cookie is None
        assert visitor.visit(look) == (["name"], [1], accessed)

    def test_are_shown_by_the_tag(self, visitor):
        async def visit(session):
            await session.set_attribute("name", "<i>")
            template = Template(
                '{% load dirigible_session %}{% session_attribute "name" %}'
                '{% session_attribute "other" default=1 as other %}{{ other|add:1 }}'
            )
            return template.render(Context())

        assert visitor.visit(visit) == "&lt;i&gt;2"


class TestReading:
    def test_creates_nothing(self, visitor):
        async def visit(session):
            await _read(session)
            await session.remove_attribute("name")
            await session.set_attribute("name", None)
            await session.set_default("name", None)
            await session.get_time_left()
            await session.get_authentication_time()
            await session.get_last_accessed_time()
            await session.get_max_inactive_interval()
            await session.invalidate()
            return await session.is_new()

        assert visitor.visit(visit) is True
        assert visitor.cookie is None

    def test_is_not_done_by_a_page_that_only_asks_whether_it_could(self, visitor, clock):
        visitor.visit(_store)
        clock.tick(days=2)
        visitor.visit(lambda session: session.is_valid())
        assert visitor.cookie is None
        assert not visitor.response.has_header("Vary")


class TestTimes:
    def test_are_exact_where_the_settings_say_so(self, visitor, clock, settings):
        settings.DIRIGIBLE_SESSION_TOUCH_INTERVAL = 0
        clock.tick(0.123456)
        created = accessed = clock.datetime()

        async def visit(session):
            await session.set_attribute("number", clock.now)
            return await session.get_creation_time(), await session.get_last_accessed_time()

        for _ in range(3):
            assert visitor.visit(visit) == (created, accessed)
            accessed = clock.datetime()
            clock.tick(0.01)

    def test_of_the_creation_and_the_login_survive_what_changes_the_id(self, visitor, clock, user):
        created = clock.datetime()
        visitor.visit(_store)
        clock.tick(100)
        visitor.log_in(user)
        authenticated = clock.datetime()
        clock.tick(100)
        visitor.visit(lambda session: session.change_session_id())

        async def look(session):
            times = await session.get_creation_time(), await session.get_authentication_time()
            return *times, await session.is_new()

        assert visitor.visit(look) == (created, authenticated, False)
        _log_out(visitor)
        assert visitor.visit(look) == (clock.datetime(), None, True)

    @pytest.mark.parametrize("interval", [1, 60.0, Weekday.MONDAY, 10**11, 0, -0.0, -5])
    def test_an_interval_is_kept_whatever_changes_the_id(self, visitor, user, interval):
        async def look(session):
            found = await session.get_max_inactive_interval()
            return type(found), found

        visitor.visit(lambda session: session.set_max_inactive_interval(interval))
        visitor.log_in(user)
        visitor.visit(lambda session: session.change_session_id())
        assert visitor.visit(look) == (int, int(interval))

    @pytest.mark.parametrize("interval", [True, "60", b"60", None, Decimal(60), 1.5, 60j])
    def test_what_is_no_interval_leaves_the_session_as_it_was(self, visitor, interval):
        async def visit(session):
            with pytest.raises(TypeError):
                await session.set_max_inactive_interval(interval)
            with pytest.raises(ValueError, match="large"):
                await session.set_max_inactive_interval(10**400)

        visitor.visit(visit)
        assert visitor.cookie is None

    def test_djangos_fixed_date_ends_the_session(self, visitor, clock):
        async def store(session, request):
            await _store(session)
            expiry = timezone.now() + timedelta(seconds=700)
            if visitor.is_async:
                await request.session.aset_expiry(expiry)
            else:
                request.session.set_expiry(expiry)

        async def look(session):
            return await session.get_max_inactive_interval(), await session.get_time_left()

        visitor.visit(store)
        clock.tick(100)
        assert visitor.visit(look) == (600, 600)
        clock.tick(599)
        assert visitor.visit(_read) == [1]
        clock.tick(1)
        assert visitor.visit(_read) is None

    def test_a_session_slides(self, visitor, clock):
        visitor.visit(_short(1000))
        for _ in range(3):
            clock.tick(900)
            assert visitor.visit(_read) == [1]
            assert visitor.cookie["max-age"] == 1000
        clock.tick(1000)
        assert visitor.visit(_read) is None

    def test_a_session_of_the_browser_slides(self, visitor, clock, settings):
        settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = True
        visitor.visit(_short(1000))
        for _ in range(3):
            assert visitor.cookie["max-age"] == visitor.cookie["expires"] == ""
            clock.tick(900)
            assert visitor.visit(_read) == [1]
        clock.tick(1000)
        assert visitor.visit(_read) is None

    def test_a_session_that_never_times_out_still_has_an_absolute_end(
        self, visitor, clock, settings
    ):
        async def look(session):
            return await session.get_time_left()

        visitor.visit(_short(0))
        clock.tick(days=399)
        assert visitor.visit(look) is None
        assert visitor.cookie["max-age"] == 400 * 24 * 60 * 60
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = timedelta(days=400).total_seconds()
        assert visitor.visit(look) == 24 * 60 * 60
        clock.tick(days=1)
        assert visitor.visit(_read) is None


class TestTheEnd:
    def test_leaves_nobody_logged_in_and_another_session(self, visitor, user):
        async def visit(session, request):
            old_id = await session.get_id()
            await session.invalidate()
            assert not request.user.is_authenticated
            auser = request.auser if visitor.is_async else async_to_sync(request.auser)
            found = auser()
            assert not (await found if visitor.is_async else found).is_authenticated
            assert await session.is_new()
            assert await session.get_attribute_names() == []
            new_id = await session.get_id()
            return old_id != new_id, new_id

        visitor.log_in(user)
        visitor.visit(_store)
        old_cookie = visitor.session_key
        is_another, new_id = visitor.visit(visit)
        assert is_another
        assert visitor.session_key != old_cookie
        assert visitor.visit(lambda session: session.get_id()) == new_id

    def test_is_told_with_its_reason(self, visitor, user, receive):
        rival = get_user_model().objects.create_user("bob")

        def change_password():
            user.set_password("another")
            user.save()
            assert not _is_authenticated(visitor)

        ends = {
            lambda: visitor.visit(lambda session: session.invalidate()): signals.Reason.INVALIDATED,
            lambda: _log_out(visitor): signals.Reason.FLUSHED,
            lambda: visitor.log_in(rival): signals.Reason.FLUSHED,
            change_password: signals.Reason.FLUSHED,
        }
        for end, reason in ends.items():
            _log_out(visitor)
            visitor.log_in(user)
            visitor.visit(_store)
            handle = digest(visitor.visit(lambda session: session.get_id()))[:12]
            received = receive(signals.session_invalidated)
            end()
            [(_, named)] = received
            assert (named["reason"], named["user_id"]) == (reason, str(user.pk))
            assert (named["handle"], named["session"]["name"]) == (handle, [1])

    @pytest.mark.parametrize(
        ("setting", "reason"),
        [(None, signals.Reason.IDLE), (1500, signals.Reason.TIMEOUT)],
        ids=["idle", "busy"],
    )
    @pytest.mark.parametrize("by_user", [True, False])
    def test_by_a_limit_is_told_to_who_comes(
        self, name, visitor, user, receive, clock, settings, setting, reason, by_user
    ):
        settings.DIRIGIBLE_SESSION_ABSOLUTE_TIMEOUT = setting
        visitor.log_in(user)
        visitor.visit(_short(1000))
        if setting:
            clock.tick(900)
            assert visitor.visit(_read) == [1]
        clock.tick(1000)
        received = receive(signals.session_invalidated)
        assert not (_is_authenticated(visitor) if by_user else visitor.visit(_read))
        told = [(named["reason"], named["user_id"]) for _, named in received]
        if name in FORGETFUL:
            assert told in ([], [(reason, str(user.pk))])
        else:
            assert told == [(reason, str(user.pk))]
            assert received[0][1]["session"]["name"] == [1]


class TestSignals:
    def test_come_once_and_in_order(self, visitor, user, receive):
        received = receive(*SIGNALS)

        async def visit(session):
            await session.set_default("name", [1])
            (await _read(session)).append(2)
            await session.set_attribute("name", [3])
            await session.set_attribute("new", 1)
            await session.remove_attribute("new")
            (await _read(session)).append(4)

        visitor.visit(visit)
        visitor.log_in(user)
        assert [signal for signal, _ in received] == [
            signals.attribute_added,
            signals.attribute_replaced,
            signals.attribute_added,
            signals.attribute_removed,
            signals.attribute_replaced,
            signals.session_created,
            signals.session_id_changed,
        ]
        assert [named.get("old_value") for _, named in received[1:5]] == [[1], None, 1, [3]]

    def test_carry_sender_session_and_request(self, visitor, receive, store_class):
        received = receive(*SIGNALS)
        visitor.visit(_store)
        for _, named in received:
            assert named["sender"] is store_class
            assert named["session"] is visitor.request.session
            assert named["request"] is visitor.request

    def test_stop_nothing_where_receivers_fail(self, visitor, user, caplog):
        def fail(**named):
            raise LookupError

        async def afail(**named):
            raise LookupError

        async def visit(session):
            await session.set_attribute("name", [1])
            await session.set_attribute("name", [2])
            (await _read(session)).append(3)
            await session.set_attribute("new", 1)
            await session.remove_attribute("new")

        for signal in SIGNALS:
            signal.connect(fail)
            signal.connect(afail)
        try:
            visitor.visit(visit)
            visitor.log_in(user)
            assert visitor.visit(_read) == [2, 3]
            visitor.visit(lambda session: session.invalidate())
            assert visitor.response.status_code == 200
        finally:
            for signal in SIGNALS:
                signal.disconnect(fail)
                signal.disconnect(afail)
        logged = [record for record in caplog.records if record.name == "dirigible_session"]
        assert len(logged) == 2 * 8
        assert visitor.visit(_read) is None


class TestAnOpenedSession:
    @pytest.fixture(autouse=True)
    def _stored_on_the_server(self, name):
        if name == "signed_cookies":
            pytest.skip("its sessions are in browsers")

    def _run(self, visitor, work):
        return async_to_sync(work)() if visitor.is_async else run(work())

    def test_ends_when_it_would_have(self, visitor, clock):
        visitor.visit(_short(100))
        session = Functions(is_async=visitor.is_async)

        async def work():
            async with _opened(visitor, visitor.session_key):
                await session.set_attribute("new", 1)
                return await session.get_time_left(), await session.is_new()

        async def find_it_gone():
            with pytest.raises(SessionNotFound):
                async with _opened(visitor, visitor.session_key):
                    raise AssertionError("it is over")

        clock.tick(60)
        assert self._run(visitor, work) == (40, False)
        clock.tick(40)
        self._run(visitor, find_it_gone)

    def test_that_counts_as_a_visit_goes_on(self, visitor, clock):
        async def work():
            async with _opened(visitor, visitor.session_key, counts_as_visit=True):
                return

        visitor.visit(_short(100))
        clock.tick(60)
        self._run(visitor, work)
        accessed = clock.datetime()
        clock.tick(60)
        assert visitor.visit(lambda session: session.get_last_accessed_time()) == accessed

    def test_inside_a_request_shows_its_progress(self, visitor):
        visitor.visit(_store)

        async def visit(session):
            key = await session.get_id()
            async with _opened(visitor, key):
                await session.set_attribute("progress", 50)
            async with _opened(visitor, key):
                return await session.get_attribute("progress")

        assert visitor.visit(visit) == 50
        assert visitor.visit(lambda session: session.get_attribute("progress")) == 50

    def test_by_its_handle(self, name, visitor):
        handle = visitor.visit(lambda session: session.get_handle())
        visitor.visit(_store)
        assert handle == digest(visitor.session_key)

        async def look():
            async with _opened(visitor, handle=handle) as session:
                return session["name"]

        if name in OWN_ENGINES:
            assert self._run(visitor, look) == [1]
        else:
            with pytest.raises(ImproperlyConfigured):
                self._run(visitor, look)


@pytest.mark.parametrize("name", ["db", "file", OWN_ENGINES[0]], indirect=True)
def test_clearsessions_sends_no_signal(name, store_class):
    session = store_class()
    session["n"] = 1
    session.set_expiry(-10)
    session.save()
    ended = []

    def receive(**kwargs):
        ended.append(kwargs)

    signals.session_invalidated.connect(receive)
    try:
        call_command("clearsessions")
    finally:
        signals.session_invalidated.disconnect(receive)
    assert not store_class().exists(session.session_key)
    assert ended == []


@pytest.mark.parametrize("name", OWN_ENGINES, indirect=True)
def test_two_requests_are_both_answered_after_the_secret_key_was_rotated(
    name, store_class, settings, rf, django_user_model
):
    user = django_user_model.objects.create_user("ada")
    request = rf.get("/")
    request.session = store_class()
    auth.login(request, user)
    request.session.save()
    key = request.session.session_key
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    responses = []

    def late_view(request):
        # Django changes the key here, after the other request has done so.
        request.session.get("n")
        responses.append(answer(view))
        return view(request)

    def view(request):
        assert request.user == user
        return HttpResponse()

    def answer(view):
        request = rf.get("/")
        request.COOKIES[settings.SESSION_COOKIE_NAME] = key
        return SessionMiddleware(AuthenticationMiddleware(view))(request)

    responses.append(answer(late_view))
    for response in responses:
        assert response.status_code == 200
        found = store_class(response.cookies[settings.SESSION_COOKIE_NAME].value)
        assert found["_auth_user_id"] == str(user.pk)
