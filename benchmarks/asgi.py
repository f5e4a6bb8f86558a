"""``python -m benchmarks.asgi``: a request under ASGI, with Django's middleware and with ours.

Through Django's ASGI handler, each stack a handler of its own. Django's ``SessionMiddleware`` hops
to a thread twice for every request. The session that a page reads is in Redis, in our engine for
both; a ``redis-server`` of its own is started on a free port of the loopback address.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from statistics import median
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path

DJANGOS = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "dirigible_session.middleware.SessionMiddleware"
STACKS: dict[str, list[str]] = {"none": [], "Django's": [DJANGOS], "ours": [OURS]}
TURN = 20
WARM_UP = 3


async def plain(request: HttpRequest) -> HttpResponse:
    """Use no session."""
    return HttpResponse()


async def reading(request: HttpRequest) -> HttpResponse:
    """Read an attribute."""
    return HttpResponse(str(await request.session.aget("n")))


urlpatterns = [path("plain", plain), path("reading", reading)]


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a server on loopback and give its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        process = subprocess.Popen([*command, "--dir", directory], stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


async def request(application: Any, url: str, cookie: str) -> None:
    """Send a GET request to a handler and wait for the whole answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": url,
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())],
    }
    is_sent = False
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if is_sent:
            await gone.wait()
        is_sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message

    await application(scope, receive, send)


async def measured(url: str, stacks: list[str], cookie: str, rounds: int) -> dict[str, float]:
    """Return the median microseconds of a request through each stack; they take turns."""
    applications = {}
    for name in stacks:
        with override_settings(MIDDLEWARE=STACKS[name]):
            applications[name] = get_asgi_application()
    turns: dict[str, list[float]] = {name: [] for name in stacks}
    for number in range(rounds + WARM_UP):
        for name, application in applications.items():
            begin = time.perf_counter()
            for _ in range(TURN):
                await request(application, url, cookie)
            if number >= WARM_UP:
                turns[name].append((time.perf_counter() - begin) / TURN * 1e6)
    return {name: median(spent) for name, spent in turns.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asgi", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="100 by default")
    rounds = parser.parse_args().rounds
    with redis_server() as url:
        settings.configure(
            SECRET_KEY="benchmark",
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            INSTALLED_APPS=["dirigible_session"],
            DATABASES={},
            SESSION_ENGINE="dirigible_session.backends.redis",
            DIRIGIBLE_SESSION_REDIS_URL=url,
        )
        django.setup()
        store = import_module(settings.SESSION_ENGINE).SessionStore()
        store["n"] = 1
        store.save()
        cookie = f"{settings.SESSION_COOKIE_NAME}={store.session_key}"
        print(f"Django {django.get_version()}; median of {rounds} turns of {TURN} requests\n")
        plain_times = asyncio.run(measured("/plain", list(STACKS), cookie, rounds))
        base = plain_times.pop("none")
        for name, spent in plain_times.items():
            print(f"no session, {name:<10}{spent - base:9.1f} us added to {base:.1f} us")
        djangos, ours = (spent - base for spent in plain_times.values())
        print(f"   ratio of what is added  {ours / djangos:6.2f}")
        read_times = asyncio.run(measured("/reading", list(plain_times), cookie, rounds))
        for name, spent in read_times.items():
            print(f"reads Redis, {name:<10}{spent:8.1f} us")
        djangos, ours = read_times.values()
        print(f"   ratio of the whole      {ours / djangos:6.2f}")


if __name__ == "__main__":
    main()
