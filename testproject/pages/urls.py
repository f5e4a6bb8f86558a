"""The URLs of the pages."""

from __future__ import annotations

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("basic/", views.basic, name="basic"),
    path("basic/async/", views.basic_async, name="basic-async"),
    path("cart/", views.cart, name="cart"),
    path("cart/add/", views.add_to_cart, name="cart-add"),
    path("cart/remove/", views.remove_from_cart, name="cart-remove"),
    path("session/", views.session_page, name="session"),
    path("session/end/", views.end_session, name="session-end"),
    path("sessions/", views.sessions_page, name="sessions"),
    path("sessions/end/", views.sign_out_there, name="sessions-end"),
    path("sessions/end-others/", views.sign_out_elsewhere, name="sessions-end-others"),
    path("progress/", views.progress, name="progress"),
    path("progress/work/", views.work, name="progress-work"),
    path("plain/", views.plain, name="plain"),
    path("login/", LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
]
