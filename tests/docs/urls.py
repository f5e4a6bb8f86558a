"""The site of the pages: a view that uses the session."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from dirigible_session import session


def looks(request: HttpRequest) -> HttpResponse:
    """Use the session and change nothing."""
    return HttpResponse(str(session.get_attribute_names()))


urlpatterns = [path("looks/", looks, name="looks")]
