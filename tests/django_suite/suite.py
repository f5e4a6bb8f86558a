"""Django's tests of sessions, run on SESSION_ENGINE; what can't hold is listed with its reason."""

from __future__ import annotations

import unittest
from importlib import import_module
from typing import Any
from unittest import mock

from django.conf import settings
from django.test import TestCase, override_settings
from sessions_tests import tests as djangos

from dirigible_session.middleware import SessionMiddleware

#: Tests of Django's engines that look into Django's table.
OF_DJANGOS_TABLE = {
    "test_session_str": "asks the table for a session key, which ours does not keep",
    "test_session_get_decoded": "asks the table for a session key, which ours does not keep",
    "test_sessionmanager_save": "stores through the manager of Django's model, by session key",
}


OF_DJANGOS_TABLE_TOO = {
    "test_empty_session_saved": "looks for the session in Django's table, by its key",
}


def without(reasons: dict[str, str]) -> Any:
    """Return a class decorator that leaves tests out, for the reason that is given."""

    def decorate(tests: Any) -> Any:
        for name, reason in reasons.items():
            setattr(tests, name, unittest.skip(reason)(getattr(tests, name)))
        return tests

    return decorate


SessionStore = import_module(settings.SESSION_ENGINE).SessionStore


class SessionTests(djangos.SessionTestsMixin, TestCase):
    backend = SessionStore


@override_settings(USE_TZ=True)
class SessionWithTimeZoneTests(SessionTests):
    pass


@without(OF_DJANGOS_TABLE_TOO)
class SessionMiddlewareTests(djangos.SessionMiddlewareTests):
    pass


class OwnSessionMiddlewareTests(SessionMiddlewareTests):
    """The same of the middleware that stands in the place of Django's."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(djangos, "SessionMiddleware", SessionMiddleware)
        patch.start()
        self.addCleanup(patch.stop)


if hasattr(SessionStore, "get_model_class"):

    @without(OF_DJANGOS_TABLE)
    class DatabaseSessionTests(djangos.DatabaseSessionTests):
        backend = SessionStore
        session_engine = settings.SESSION_ENGINE


def load_tests(loader: Any, tests: Any, pattern: str | None) -> unittest.TestSuite:
    """Leave Django's tests of its own engines alone: only what is defined here is run."""
    here = [value for value in globals().values() if isinstance(value, type)]
    cases = [case for case in here if issubclass(case, TestCase) and case.__module__ == __name__]
    return unittest.TestSuite(map(loader.loadTestsFromTestCase, cases))
