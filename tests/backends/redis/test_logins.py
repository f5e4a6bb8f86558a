"""Several requests change the key of one session at once: each is answered, and loses nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from .sessions import content, new, store

AT_ONCE = 6
ROUNDS = 20


def log_in(request: HttpRequest, number: int) -> HttpResponse:
    """Do to the session what Django's login() does."""
    assert request.session["start"] == 1
    barriers[0].wait()
    request.session.cycle_key()
    request.session["_auth_user_id"] = "7"
    request.session[f"n{number}"] = number
    return HttpResponse()


barriers: list[Barrier] = []
urlpatterns = [path("login/<int:number>/", log_in)]


@pytest.mark.slow
@pytest.mark.usefixtures("redis_anywhere")
@pytest.mark.urls(__name__)
def test_each_of_them_is_answered_with_a_live_session() -> None:
    for _ in range(ROUNDS):
        key = new(start=1)
        barriers[:] = [Barrier(AT_ONCE)]

        def post(number: int, key: str = key) -> Any:
            client = Client()
            client.cookies[django_settings.SESSION_COOKIE_NAME] = key
            response = client.post(f"/login/{number}/")
            return response.status_code, response.cookies[django_settings.SESSION_COOKIE_NAME].value

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(post, range(AT_ONCE)))
        assert [status for status, _ in answers] == [200] * AT_ONCE
        assert len({cookie for _, cookie in answers}) == AT_ONCE
        for number, (_, cookie) in enumerate(answers):
            found = content(cookie)
            assert (found["start"], found["_auth_user_id"], found[f"n{number}"]) == (1, "7", number)
        assert not store().exists(key)
