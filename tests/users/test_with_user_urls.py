from __future__ import annotations

from django.contrib import admin
from django.urls import path

from tests.urls import urlpatterns as visits

urlpatterns = [*visits, path("admin/", admin.site.urls)]
