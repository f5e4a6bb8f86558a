"""What stands in the store where a page's console block begins, and when that is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from unittest import mock

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import Client
from freezegun import freeze_time

from dirigible_session import session
from dirigible_session.testing import stored_session

NOW = datetime(2026, 5, 1, 11, tzinfo=timezone.utc)


@contextmanager
def shop() -> Iterator[None]:
    """Run the block at a fixed time, with four sessions of a shop's visitors, two of them Ada's."""
    Session.objects.all().delete()
    ada, bob = user("ada", 1), user("bob", 2)
    with same_keys():
        _visitor(None, 1.1, 8 * 60, {"language": "fr"})
        _visitor(bob, 1.0, 22, {"step": 3})
        _visitor(ada, 25.0, 3700, {"language": "de", "api_token": "t0ps3cret", "cart": [12]})
        _visitor(ada, 3.0, 190, {"cart": [17, 4], "language": "de"})
    with freeze_time(NOW):
        yield


def user(name: str, number: int) -> Any:
    """Return a user who has the same id in each run."""
    found, _ = get_user_model().objects.get_or_create(username=name, defaults={"id": number})
    return found


@contextmanager
def same_keys() -> Iterator[None]:
    """Make the keys of sessions the same in each run, and so their handles."""
    chance = random.Random(1)

    def chosen(length: int, allowed: str) -> str:
        return "".join(chance.choices(allowed, k=length))

    with mock.patch("django.contrib.sessions.backends.base.get_random_string", chosen):
        yield


def _visitor(user: Any, hours: float, accessed: float, attributes: dict[str, Any]) -> None:
    client = Client()
    with freeze_time(NOW - timedelta(hours=hours)):
        if user is not None:
            client.force_login(user)
        with stored_session(client):
            for name, value in attributes.items():
                session.set_attribute(name, value)
        client.get("/looks/")
    with freeze_time(NOW - timedelta(seconds=accessed)):
        client.get("/looks/")
