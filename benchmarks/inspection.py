"""How fast stored sessions are read, and in how much memory.

Stores 100,000 sessions of about 300 bytes in a table (``--count 1000000`` for more), and dumps
them to json lines, side by side with the loops that one would write without this package::

    python benchmarks/inspection.py [--count N] [--rounds N]

Each measurement is a process of its own. The contenders take turns, so that a busy machine is
busy for all of them; the medians are printed. The naive loops only decode, and write nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CONTENDERS = {
    "all": "for s in Session.objects.all(): s.get_decoded()",
    "iterator": "... with .iterator()",
    "read": "for s in Inspector().stored(Query(now=now)): s.data",
    "dump": "sessions_dump --state all --format jsonl",
}
CHUNK = 1000
USERS = 5000


def set_up(database: str) -> None:
    """Configure a site whose sessions are in this SQLite file."""
    import django
    from django.conf import settings

    sys.path.insert(0, str(ROOT))
    settings.configure(
        SECRET_KEY="benchmark",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "dirigible_session",
        ],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
    )
    django.setup()


def store(count: int) -> None:
    """Store so many sessions, with a user and a few attributes each."""
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command
    from django.utils import timezone

    call_command("migrate", verbosity=0)
    User.objects.bulk_create(User(pk=pk, username=f"user{pk}") for pk in range(1, USERS + 1))
    numbers = random.Random(7)
    encode = SessionStore().encode
    expires = timezone.now() + timedelta(days=14)

    def rows() -> Iterator[Session]:
        for number in range(count):
            now = time.time()
            data = {
                "_auth_user_id": str(number % USERS + 1),
                "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
                "_auth_user_hash": f"{numbers.getrandbits(256):064x}",
                "_dirigible": {"created": now - 3600, "accessed": now},
                "cart": [numbers.randrange(10_000) for _ in range(5)],
                "language": "de",
            }
            key = f"{numbers.getrandbits(128):032x}"
            yield Session(session_key=key, session_data=encode(data), expire_date=expires)

    pending = rows()
    while batch := list(islice(pending, CHUNK)):
        Session.objects.bulk_create(batch)


def loop_over_all() -> int:
    """Decode each session, all rows in memory."""
    from django.contrib.sessions.models import Session

    count = 0
    for session in Session.objects.all():
        session.get_decoded()
        count += 1
    return count


def loop_with_iterator() -> int:
    """Decode each session, rows read in chunks."""
    from django.contrib.sessions.models import Session

    count = 0
    for session in Session.objects.all().iterator():
        session.get_decoded()
        count += 1
    return count


def read() -> int:
    """Decode each session with this package's reader."""
    from dirigible_session.inspection import Inspector
    from dirigible_session.stored import Query

    return sum(stored.data is not None for stored in Inspector().stored(Query(now=time.time())))


def dump() -> int:
    """Dump each session as a line of JSON, as the command does."""
    from django.core.management import call_command

    class Lines:
        count = 0

        def write(self, text: str) -> None:
            self.count += text.count("\n")

        def flush(self) -> None:
            """Nothing is kept back."""

    lines = Lines()
    call_command("sessions_dump", "--state=all", "--format=jsonl", stdout=lines)
    return lines.count


RUN: dict[str, Callable[[], int]] = {
    "all": loop_over_all,
    "iterator": loop_with_iterator,
    "read": read,
    "dump": dump,
}


def measure(contender: str) -> dict[str, float]:
    """Run one contender in this process."""
    began = time.perf_counter(), time.process_time()
    count = RUN[contender]()
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"count": count, "wall": count / wall, "cpu": count / cpu, "peak": peak / 1024}


def measure_apart(contender: str, database: str) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, __file__, "--contender", contender, "--database", database]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output)


def compare(count: int, rounds: int) -> None:
    """Store sessions, run all contenders in turn, print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        database = os.path.join(folder, "sessions.sqlite3")
        set_up(database)
        store(count)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name in CONTENDERS:
                results[name].append(measure_apart(name, database))

    def median(name: str, figure: str) -> float:
        return statistics.median(result[figure] for result in results[name])

    assert all(median(name, "count") == count for name in CONTENDERS)
    print(f"{count} sessions, {rounds} rounds, Python {sys.version.split()[0]}")
    print(f"{'':55} {'rows/s':>9} {'rows/cpu s':>11} {'of all':>7} {'peak MB':>8}")
    for name, title in CONTENDERS.items():
        ratio = median(name, "cpu") / median("all", "cpu")
        print(
            f"{title:55} {median(name, 'wall'):9.0f} {median(name, 'cpu'):11.0f} "
            f"{ratio:7.2f} {median(name, 'peak'):8.0f}"
        )


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--database", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        set_up(options.database)
        print(json.dumps(measure(options.contender)))
    else:
        compare(options.count, options.rounds)


if __name__ == "__main__":
    main()
