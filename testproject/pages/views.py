"""The views. They use the session without ``request.session``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import sleep
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from dirigible_session import session
from dirigible_session.exceptions import SessionNotFound
from dirigible_session.inspection import AmbiguousHandle, NotListable
from dirigible_session.users import end_session as end_session_of
from dirigible_session.users import end_sessions, sessions_of

from .examples import async_attribute_example, attribute_example, put_into_cart, take_out_of_cart
from .forms import PRODUCTS, IdleLimitForm, ProductForm

#: What the long request does.
STEPS = 5
SECONDS_OF_A_STEP = 1.0


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the links to the pages."""
    return render(request, "pages/home.html")


@require_safe
def basic(request: HttpRequest) -> HttpResponse:
    """Show Dirigible's "Basic Usage"."""
    return render(
        request, "pages/basic.html", _shown(attribute_example(), by=attribute_example, kind="sync")
    )


@require_safe
async def basic_async(request: HttpRequest) -> HttpResponse:
    """Show Dirigible's "Basic Usage", natively async."""
    shown = _shown(await async_attribute_example(), by=async_attribute_example, kind="async")
    # The template uses request.user, which is loaded without await.
    return await sync_to_async(render)(request, "pages/basic.html", shown)


def _shown(result: str, *, by: Callable[[], Any], kind: str) -> dict[str, str]:
    return {"result": result, "kind": kind, "code": inspect.getsource(by)}


@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    """Show the cart, which the template reads with a tag."""
    code = f"{inspect.getsource(put_into_cart)}\n\n{inspect.getsource(take_out_of_cart)}"
    return render(request, "pages/cart.html", {"products": PRODUCTS, "code": code})


@require_POST
def add_to_cart(request: HttpRequest) -> HttpResponse:
    """Put a product into the cart."""
    return _change_cart(request, put_into_cart)


@require_POST
def remove_from_cart(request: HttpRequest) -> HttpResponse:
    """Take a product out of the cart, once."""
    return _change_cart(request, take_out_of_cart)


def _change_cart(request: HttpRequest, change: Callable[[str], None]) -> HttpResponse:
    form = ProductForm(request.POST)
    if not form.is_valid():
        return HttpResponse("The shop has no such product.", status=400, content_type="text/plain")
    change(form.cleaned_data["product"])
    return redirect("cart")


def session_page(request: HttpRequest) -> HttpResponse:
    """Show and change the idle limit of the session."""
    form = IdleLimitForm(request.POST or None)
    if form.is_valid():
        session.set_max_inactive_interval(form.cleaned_data["seconds"])
        return redirect("session")
    context = {
        "form": form,
        "is_new": session.is_new(),
        "limit": session.get_max_inactive_interval(),
    }
    return render(request, "pages/session.html", context)


@require_POST
def end_session(request: HttpRequest) -> HttpResponse:
    """End the visitor's session."""
    session.invalidate()
    return redirect("session")


@require_safe
@login_required
def sessions_page(request: HttpRequest) -> HttpResponse:
    """Show where the visitor is logged in."""
    said = session.remove_attribute("said")
    try:
        records, reason = sessions_of(request.user), ""
    except NotListable as error:
        records, reason = [], str(error)
    context = {"records": records, "reason": reason, "said": said}
    return render(request, "pages/sessions.html", context)


@require_POST
@login_required
def sign_out_there(request: HttpRequest) -> HttpResponse:
    """End one session of the user, perhaps the current one."""
    try:
        is_ended = end_session_of(request.user, request.POST.get("handle", ""))
    except AmbiguousHandle:
        is_ended = False
    if not request.user.is_authenticated:
        return redirect("home")
    session.set_attribute("said", "Signed out there." if is_ended else "It was signed out already.")
    return redirect("sessions")


@require_POST
@login_required
def sign_out_elsewhere(request: HttpRequest) -> HttpResponse:
    """End all sessions of the user except the current one."""
    count = end_sessions(request.user, keep_current=True)
    session.set_attribute("said", f"Signed out in {count} other place{'s' * (count != 1)}.")
    return redirect("sessions")


@require_safe
@session.passive
def progress(request: HttpRequest) -> HttpResponse:
    """Show the progress of another request. This does not count as an access."""
    context = {"done": session.get_attribute("done", 0), "steps": STEPS}
    return render(request, "pages/progress.html", context)


@require_POST
def work(request: HttpRequest) -> HttpResponse:
    """Run for some time, and store the progress after each step."""
    session_id = session.get_id()
    for done in range(STEPS + 1):
        try:
            with session.open_session(session_id):
                session.set_attribute("done", done)
        except SessionNotFound:
            # The session has ended, or its data is in a cookie, so the progress can't be shown.
            break
        sleep(SECONDS_OF_A_STEP)
    return redirect("progress")


@require_safe
def plain(request: HttpRequest) -> HttpResponse:
    """Show a page that does not use the session."""
    return render(request, "pages/plain.html")
