"""Views for the tests of the engines."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from dirigible_session import session


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(session.get_attribute("a")))


def change(request: HttpRequest) -> HttpResponse:
    session.set_attribute("a", (session.get_attribute("a") or 0) + 1)
    return HttpResponse()


def change_late(request: HttpRequest) -> HttpResponse:
    """Change a value in place after a change of key that found a rival's."""
    cart = session.get_attribute("cart")
    if "all" in request.GET:
        session.get_attribute_names()
    engine: Any = import_module(settings.SESSION_ENGINE)
    rival = engine.SessionStore(session.get_id())
    rival["cart"] = [1, "rival"]
    rival.save()
    session.change_session_id()
    if "change" in request.GET:
        cart.append("mine")
    if "spoil" in request.GET:
        cart.append(object())
    if "remove" in request.GET:
        session.remove_attribute("cart")
    return HttpResponse()


def use_no_session(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


async def end_and_set(request: HttpRequest) -> HttpResponse:
    """Set an attribute of a session that is ended elsewhere meanwhile."""
    await session.aset_attribute("a", 2)
    engine: Any = import_module(settings.SESSION_ENGINE)
    await engine.SessionStore(await session.aget_id()).aflush()
    return HttpResponse()


urlpatterns = [
    path("read/", read),
    path("none/", use_no_session),
    path("set/", change),
    path("change-late/", change_late),
    path("end-and-set/", end_and_set),
]
