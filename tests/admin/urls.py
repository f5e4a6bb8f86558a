from __future__ import annotations

from django.contrib import admin
from django.urls import path

SESSIONS = "/admin/dirigible_session/session/"

urlpatterns = [path("admin/", admin.site.urls)]
