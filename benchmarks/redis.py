"""Session engines on Redis side by side: time, lost updates, memory.

    python benchmarks/redis.py [--rounds 300] [--url redis://127.0.0.1:6379]

Without ``--url`` it starts a ``redis-server`` of its own on a free port of the loopback address.
With it, it uses the databases 1 to 4 of that server, and empties them first. The engines take
turns, some operations at a time, so that other load of the machine affects all of them alike. The
figures are medians.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

# Python puts the folder of a script first, and this script has the name of the library.
sys.path[0] = str(Path(__file__).parents[1])

import django  # noqa: E402
import redis  # noqa: E402
from django.conf import settings  # noqa: E402

CACHE = "django.contrib.sessions.backends.cache"
#: Name, engine, alias of its cache, database.
ENGINES = (
    ("dirigible_session redis", "dirigible_session.backends.redis", "django", 1),
    ("cache, Django's Redis", CACHE, "django", 2),
    ("cache, django-redis", CACHE, "django_redis", 3),
    ("cached_db, Django's Redis", "django.contrib.sessions.backends.cached_db", "cached_db", 4),
)
OURS, BASE = ENGINES[0], ENGINES[2][0]
#: The base for the requests that keep the last access, in the same turns.
ONLY_READING = ("dirigible_session redis, only reading", *OURS[1:])
#: The operations in a turn of an engine, and those before them that don't count.
TURN = 50
WARM_UP = 5

SMALL = {
    "_auth_user_id": "7",
    "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
    "_auth_user_hash": "0123456789abcdef" * 4,
    "cart": [1, 2, 3],
    "language": "de",
}
LARGE = SMALL | {f"part{number}": f"{number:04}" * 250 for number in range(20)}

Operation = Callable[[Any, str, int], Any]


def configure(url: str, directory: str) -> None:
    """Set Django up with a cache for each engine."""

    def cache(backend: str, database: int) -> dict[str, str]:
        return {"BACKEND": backend, "LOCATION": f"{url}/{database}"}

    django_cache = "django.core.cache.backends.redis.RedisCache"
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{directory}/db.sqlite3"}
        },
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "dirigible_session",
        ],
        CACHES={
            "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "django": cache(django_cache, 2),
            "django_redis": cache("django_redis.cache.RedisCache", 3),
            "cached_db": cache(django_cache, 4),
        },
        DIRIGIBLE_SESSION_REDIS_URL=f"{url}/1",
    )
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@contextmanager
def engine_in_use(engine: str, alias: str) -> Iterator[Any]:
    """Set the engine and yield its store class."""
    from django.test import override_settings

    with override_settings(SESSION_ENGINE=engine, SESSION_CACHE_ALIAS=alias):
        yield import_module(engine).SessionStore


def new(store_class: Any, data: dict[str, Any]) -> str:
    """Store a session and return its key."""
    session = store_class()
    session.update(data)
    session.save()
    return str(session.session_key)


def read(store_class: Any, key: str, number: int) -> Any:
    """Read an attribute, as a request does."""
    return store_class(key)["cart"]


def write(store_class: Any, key: str, number: int) -> None:
    """Change one attribute, as a request does."""
    session = store_class(key)
    session["number"] = number
    session.save()


def request(*middleware: str, saves: bool = False) -> Operation:
    """Return a request, through Django's SessionMiddleware, to a view that reads.

    With ``saves``, the session is saved, as by SESSION_SAVE_EVERY_REQUEST. That is Django's way to
    keep a last access.
    """
    from django.http import HttpRequest, HttpResponse
    from django.utils.module_loading import import_string

    def view(request: HttpRequest) -> HttpResponse:
        request.session.get("cart")
        request.session.modified = saves
        return HttpResponse()

    handlers: dict[str, Any] = {}

    def do(store_class: Any, key: str, number: int) -> None:
        handler = handlers.get(settings.SESSION_ENGINE)
        if handler is None:
            handler = view
            for path in (*middleware, "django.contrib.sessions.middleware.SessionMiddleware"):
                handler = import_string(path)(handler)
            handlers[settings.SESSION_ENGINE] = handler
        request = HttpRequest()
        request.COOKIES[settings.SESSION_COOKIE_NAME] = key
        handler(request)

    return do


def times_of(
    operations: dict[tuple[str, str, str, int], Operation], data: dict[str, Any], rounds: int
) -> dict[str, float]:
    """Return the median time of each engine's operation in microseconds."""
    taken: dict[str, list[float]] = {name: [] for name, *_ in operations}
    keys = {}
    for name, engine, alias, _ in operations:
        with engine_in_use(engine, alias) as store_class:
            keys[name] = new(store_class, data)

    for first in range(0, rounds, TURN):
        for (name, engine, alias, _), operation in operations.items():
            with engine_in_use(engine, alias) as store_class:
                for number in range(first - WARM_UP, first + TURN):
                    start = time.perf_counter()
                    operation(store_class, keys[name], number)
                    if number >= first:
                        taken[name].append(time.perf_counter() - start)

    return {name: statistics.median(found) * 1e6 for name, found in taken.items()}


def lost_of(engine: str, alias: str, threads: int = 8, updates: int = 400) -> int:
    """Return the number of lost updates, if many threads make them at once."""
    from django.db import connection

    with engine_in_use(engine, alias) as store_class:
        key = new(store_class, {})

        def update(number: int) -> None:
            try:
                session = store_class(key)
                session[f"n{number}"] = number
                session.save()
            finally:
                connection.close()

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(update, range(updates)))
        return updates - len(store_class(key).keys())


def memory_of(
    server: Any, engine: str, alias: str, data: dict[str, Any], count: int = 500
) -> float:
    """Return the bytes of one session in Redis, including the index entry of its user."""
    with engine_in_use(engine, alias) as store_class:
        before = server.info("memory")["used_memory"]
        for number in range(count):
            new(store_class, data | {"_auth_user_id": str(number), "cart": [number, 2, 3]})
        return float(server.info("memory")["used_memory"] - before) / count


def table(title: str, figures: dict[str, float], *, unit: str, base: str = BASE) -> None:
    """Print one table of figures and their ratios to ``base``."""
    print(f"\n| {title} | {unit} | of {base} |\n| --- | ---: | ---: |")
    for name, figure in figures.items():
        print(f"| {name} | {figure:.0f} | {figure / figures[base]:.2f} |")


def run(url: str, rounds: int) -> None:
    """Measure everything and print it."""
    server = redis.Redis.from_url(url)
    print(
        f"Django {django.get_version()}, redis-py {redis.__version__}, "
        f"Redis {server.info('server')['redis_version']}, Python {sys.version.split()[0]}"
    )
    for size, data in (("small", SMALL), ("20 kB", LARGE)):
        reads = times_of(dict.fromkeys(ENGINES, read), data, rounds)
        table(f"read, {size}", reads, unit="µs")
        table(f"write, {size}", times_of(dict.fromkeys(ENGINES, write), data, rounds), unit="µs")
        requests = dict.fromkeys(ENGINES, request(saves=True))
        requests[OURS] = request("dirigible_session.middleware.DirigibleSessionMiddleware")
        requests[ONLY_READING] = request()
        kept = times_of(requests, data, rounds)
        table(f"request that keeps the last access, {size}", kept, unit="µs", base=ONLY_READING[0])
        table(
            f"memory, {size}",
            {name: memory_of(server, engine, alias, data) for name, engine, alias, _ in ENGINES},
            unit="bytes",
        )
    print("\n| lost of 400 updates by 8 threads | |\n| --- | ---: |")
    for name, engine, alias, _ in ENGINES:
        print(f"| {name} | {lost_of(engine, alias)} |")


@contextmanager
def own_server(directory: str) -> Iterator[str]:
    """Run a Redis server that keeps nothing on disk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen([*command, "--dir", directory], stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                redis.Redis(port=port).ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--url", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if options.url:
            for *_, database in ENGINES:
                redis.Redis.from_url(f"{options.url}/{database}").flushdb()
            configure(options.url, directory)
            run(options.url, options.rounds)
            return
        with own_server(directory) as url:
            configure(url, directory)
            run(url, options.rounds)


if __name__ == "__main__":
    main()
