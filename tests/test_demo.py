from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest

from .demonstration import (
    MANAGE,
    PATIENCE,
    ROOT,
    address_in,
    browser,
    demo,
    environment,
    serving,
    until_it_stays_up,
)
from .redis_servers import binary

pytestmark = pytest.mark.slow


HANDLE = re.compile(r"^[0-9a-f]{12}\b", re.MULTILINE)


@dataclass(frozen=True)
class Story:
    told: str
    left_behind: set[Path]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    temporary = tmp_path_factory.mktemp("demo")
    before = set(MANAGE.parent.rglob("*"))
    result = demo(temporary)
    assert result.returncode == 0, result.stderr
    added = set(MANAGE.parent.rglob("*")) - before | set(temporary.iterdir())
    return Story(result.stdout, {path for path in added if "__pycache__" not in path.parts})


@pytest.mark.parametrize(
    "line",
    [
        r"Ada +GET +/basic/ +200 +\[Attribute\]: value1",
        r"Ada +GET +/basic/async/ +200 +\[Attribute\]: value1",
        r"Ada +POST +/login/ as ada +302 -> 200 +Welcome, ada\.",
        r"Ada +GET +/cart/ +200 +In the cart: Tea\.",
        r"Ben +POST +/cart/remove/ product=Cake +302 -> 200 +In the cart: Coffee, Cake\.",
        r"Ben +POST +/session/ seconds=soon +200 .*Enter a whole number\.",
        r"Cleo +POST +/session/end/ +302 -> 200 +No session of yours is stored\.",
        r"Bot +GET +/plain/ +200 +This page uses no session\.",
        r"Eve +GET +/session/ +200 +No session of yours is stored\.\n\n",
    ],
)
def test_the_demo_tells_what_everybody_did_and_got(story, line):
    assert re.search(line, story.told)


def test_the_demo_tells_no_password(story):
    assert "lovelace" not in story.told


def test_the_demo_ends_with_the_sessions_that_are_left(story):
    dump = story.told[story.told.index("`manage.py sessions_dump`") :]
    assert len(HANDLE.findall(dump)) == 2
    assert "ada" in dump
    assert '["Coffee", "Cake"]' in dump


def test_the_demo_leaves_no_file(story):
    assert not story.left_behind


def test_the_demo_leaves_no_server_running(story):
    with pytest.raises(URLError):
        browser.open(address_in(story.told), timeout=PATIENCE)


@pytest.mark.parametrize(
    ("engine", "last_words"),
    [("cached_db", "HANDLE"), ("signed_cookies", "can't be listed: they are in their visitors'")],
)
def test_the_demo_runs_on_another_engine(tmp_path, engine, last_words):
    path = f"django.contrib.sessions.backends.{engine}"
    result = demo(tmp_path, DIRIGIBLE_DEMO_ENGINE=path)
    assert result.returncode == 0, result.stderr
    assert f"sessions in {path}." in result.stdout
    assert last_words in result.stdout.rpartition("sessions_dump")[2]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", ["cache", "dirigible_session.backends.redis"])
def test_the_demo_brings_the_server_that_an_engine_needs(tmp_path, engine):
    binary("server")
    result = demo(tmp_path, "--engine", engine)
    assert result.returncode == 0, result.stderr
    assert f"{engine}." in result.stdout
    assert len(HANDLE.findall(result.stdout.rpartition("sessions_dump")[2])) == 2
    assert not list(tmp_path.iterdir())


def test_an_engine_that_is_none_is_told_in_one_line(tmp_path):
    result = demo(tmp_path, "--engine", "no.such.engine")
    assert result.returncode == 1
    assert result.stderr.startswith("CommandError: 'no.such.engine' is n")
    assert result.stderr.count("\n") == 1


def test_serve_tells_the_login_of_the_admin(tmp_path):
    with serving(tmp_path, "--engine", "dirigible_session.backends.db") as process:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("The site stays up at "):
                break
    assert re.search(r"The admin is at http://\S+/admin/\. Log in as grace with .* hopper\.", told)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_serve_keeps_the_site_up_until_it_is_told_to_stop(tmp_path, signal_number):
    with serving(tmp_path) as process:
        address = until_it_stays_up(process)
        with browser.open(address, timeout=PATIENCE) as response:
            assert response.status == 200
        with browser.open(f"{address}static/pages/site.css", timeout=PATIENCE) as response:
            assert response.status == 200
        process.send_signal(signal_number)
        _, complaints = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, complaints
        assert "Traceback" not in complaints
        assert "GET /" not in complaints
    assert not list(tmp_path.iterdir())


def test_the_address_is_told_before_the_first_visit(tmp_path):
    with serving(tmp_path) as process:
        assert process.stdout is not None
        assert address_in(process.stdout.readline())


def test_a_demo_that_is_stopped_leaves_nothing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(MANAGE), "demo"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Interrupted." in complaints
    assert "Traceback" not in complaints
    assert not list(tmp_path.iterdir())


def test_the_port_can_be_chosen(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = demo(tmp_path, "--port", str(port))
    assert address_in(result.stdout) == f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize("port", ["taken", "70000"])
def test_a_port_that_can_not_be_had_is_told_in_one_line(tmp_path, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = str(taken.getsockname()[1]) if port == "taken" else port
        result = demo(tmp_path, "--port", wanted)
    assert result.returncode == 1
    assert result.stderr.startswith("CommandError: The site could not be served")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_page_that_breaks_its_promise_fails_the_demo(tmp_path):
    # Without our middleware there is no current request, so the first page answers with a 500.
    (tmp_path / "broken.py").write_text(
        "from config.settings import *\n"
        "DEBUG = False\n"
        "MIDDLEWARE = [path.replace('dirigible_session.', 'django.contrib.sessions.')\n"
        "              for path in MIDDLEWARE]\n"
        "SILENCED_SYSTEM_CHECKS = ['dirigible_session.E001']\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    temporary = Path(tempfile.mkdtemp(dir=tmp_path))
    result = demo(temporary, PYTHONPATH=paths, DJANGO_SETTINGS_MODULE="broken")
    assert result.returncode == 1
    assert "Something went wrong: Ada expected '[Attribute]: value1' of /basic/" in result.stderr
    assert not list(temporary.iterdir())


def test_the_demo_comes_to_its_end_when_nobody_reads_on(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(MANAGE), "demo"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    complaints = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(PATIENCE) == 0, complaints
    assert "Broken" not in complaints
    assert not list(tmp_path.iterdir())
