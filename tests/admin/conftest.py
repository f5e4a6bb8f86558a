"""Fixtures: the engines whose sessions the admin shows, and staff who look at them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import caches
from django.core.cache.backends.redis import RedisCache
from django.test import Client

from .urls import SESSIONS

OWN_DB = "dirigible_session.backends.db"
OWN_REDIS = "dirigible_session.backends.redis"
CACHES = {
    "cache": "django.core.cache.backends.redis.RedisCache",
    "cache of django-redis": "django_redis.cache.RedisCache",
}
ENGINES = ("db", "cached_db", "file", *CACHES, OWN_DB, OWN_REDIS)


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    """A project with the admin."""
    settings.ROOT_URLCONF = "tests.admin.urls"
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    processors = [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]
    (templates,) = settings.TEMPLATES
    settings.TEMPLATES = [templates | {"OPTIONS": {"context_processors": processors}}]


@pytest.fixture
def own_db(use_engine: Any) -> None:
    use_engine(OWN_DB)


@pytest.fixture
def stock_db(use_engine: Any) -> None:
    use_engine("db")


@pytest.fixture(params=ENGINES)
def any_engine(request: pytest.FixtureRequest, settings: Any, use_engine: Any) -> Any:
    """Each engine whose sessions can be listed in turn; its name."""
    if request.param == OWN_REDIS:
        request.getfixturevalue("redis_server")
    elif request.param in CACHES:
        url = request.getfixturevalue("redis_server_url")
        settings.DJANGO_REDIS_CLOSE_CONNECTION = True
        settings.CACHES = {"default": {"BACKEND": CACHES[request.param], "LOCATION": url}}
        use_engine("cache")
    else:
        use_engine(request.param)
    yield request.param
    for cache in caches.all(initialized_only=True):
        if isinstance(cache, RedisCache):
            for pool in cache._cache._pools.values():
                pool.disconnect()


@pytest.fixture
def store(settings: Any) -> Any:
    """Give a function that stores a session of the engine in use and returns it."""

    def store(data: dict[str, Any] | None = None, **attributes: Any) -> Any:
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session.update(data or {})
        session.update(attributes)
        session.create()
        return session

    return store


@pytest.fixture
def staff(db: None) -> Any:
    """Give a function that logs a member of the staff in who may do what is named."""

    def staff(*codenames: str, name: str = "staff") -> Client:
        user = get_user_model().objects.create_user(name, is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return staff


@pytest.fixture
def operator(db: None) -> Any:
    """Somebody who may do everything. The engine is chosen before: it holds their session."""
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op", password="op"))
    return client


class Pages:
    """The pages of the admin as text, the path and the query as the site gave them."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str = "", **query: str) -> Any:
        return self.client.get(SESSIONS + path, query)

    def post(self, path: str = "", **form: Any) -> Any:
        return self.client.post(SESSIONS + path, form, follow=True)

    def search(self, term: str) -> Any:
        return self.post(q=term)


@pytest.fixture
def pages(operator: Client) -> Pages:
    return Pages(operator)
