"""URLs of the test project: its one app stands at the root."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [path("", include("pages.urls"))]
