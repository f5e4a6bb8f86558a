from __future__ import annotations

from django.urls import path

from .visiting import async_view, sync_view

urlpatterns = [
    path("sync/<int:number>/", sync_view),
    path("async/<int:number>/", async_view),
]
