"""The words of the admin, the panel and the hints: all can be translated, and are into three."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from gettext import GNUTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session as StockSession
from django.core.management import call_command
from django.core.signing import JSONSerializer, TimestampSigner
from django.template import Context, Template
from django.test import Client
from django.utils import translation

import dirigible_session
from dirigible_session import facade, handles
from dirigible_session.admin.rows import REASONS
from dirigible_session.models import Session

from .conftest import OWN_DB
from .reading import html_of
from .urls import SESSIONS

PACKAGE = Path(dirigible_session.__file__).parent
LANGUAGES = ("de", "fr", "es")
#: What the tests put into sessions, and names that are the same in every language.
DATA = re.compile(r"\b([0-9a-f]{12,40}|ada|op|cart|tea|[A-Z]{3,4}|cache|default|min)\b")
#: Attributes of elements that people read or hear.
SPOKEN = ("alt", "aria-label", "placeholder", "title", "value")


class Texts(HTMLParser):
    """What people read or hear of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if known.get("type") not in ("hidden", "checkbox") and tag != "option":
            self.texts += [known[name] or "" for name in SPOKEN if name in known]
        elif "aria-label" in known:
            self.texts.append(known["aria-label"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language that puts all that can be translated between «these»."""

    def one(message: str) -> str:
        return f"«{message}»"

    def many(singular: str, plural: str, number: int) -> str:
        return one(singular if number == 1 else plural)

    trans: Any = translation._trans
    monkeypatch.setattr(trans, "gettext", one)
    monkeypatch.setattr(trans, "ngettext", many)
    monkeypatch.setattr(trans, "pgettext", lambda context, message: one(message))
    monkeypatch.setattr(trans, "npgettext", lambda context, *plural: many(*plural))


def untranslated(html: str) -> list[str]:
    found = []
    for text in Texts(html).texts:
        rest, count = text, 1
        while count:
            rest, count = re.subn(r"«[^«»]*»", "", rest)
        if re.search(r"[A-Za-z]{2,}", DATA.sub("", rest)):
            found.append(text.strip())
    return found


def ours(response: Any) -> str:
    """Return the part of a page that is ours, and its messages."""
    html = html_of(response)
    return html[html.index('<main id="content-start"') : html.index("</main>")]


def test_every_word_of_every_page_can_be_translated(own_db, store, user, pages, marked):
    session = store({"_auth_user_id": str(user.pk)}, cart=["tea"])
    store({"_auth_user_id": "4711"})
    digest = handles.digest(session.session_key)
    selected = {"action": "delete_selected", "_selected_action": [digest]}
    responses = [
        pages.get(),
        pages.get(user=str(user.pk), state="active", idle_over="1h"),
        pages.get(handle="abcd"),
        pages.get(f"{digest}/change/"),
        pages.get(f"{digest}/delete/"),
        pages.get("end/", user=str(user.pk)),
        pages.get("summary/"),
        pages.post(**selected),
        pages.search("nobody"),
        pages.get(state="nonsense"),
        pages.get(),
        pages.post(action="", _selected_action=digest),
        pages.post(f"{digest}/delete/", post="yes"),
        pages.post(post="yes", **selected),
        pages.client.get(f"{SESSIONS}{digest}/change/", follow=True),
    ]
    for response in responses:
        if response.status_code == 200:
            assert not untranslated(ours(response)), response.request["PATH_INFO"]


@pytest.mark.parametrize("seconds", [0])
def test_every_word_of_a_page_that_goes_on_can_be_translated(
    stock_db, store, user, pages, marked, monkeypatch, seconds
):
    monkeypatch.setattr("dirigible_session.admin.SessionAdmin.seconds", seconds)
    for n in range(3):
        store({"_auth_user_id": str(user.pk)}, cart=n)
    digest = handles.digest("none")
    for response in (
        pages.get(idle_over="1h"),
        pages.get(f"{digest}/change/"),
        pages.get("summary/"),
        pages.post("end/", user=str(user.pk), post="yes"),
    ):
        assert not untranslated(ours(response).replace("manage.py sessions_dump --summary", ""))


def damaged_row(**columns: Any) -> Any:
    return lambda key, tmp_path: StockSession.objects.filter(pk=key).update(**columns)


def damaged_own_row(**columns: Any) -> Any:
    return lambda key, tmp_path: Session.objects.filter(pk=handles.digest(key)).update(**columns)


def damaged_file(content: bytes) -> Any:
    return lambda key, tmp_path: (tmp_path / f"sessionid{key}").write_bytes(content)


def changed(data: Any) -> Any:
    return lambda key, tmp_path: StockSession.objects.filter(pk=key).update(
        session_data=TimestampSigner(salt="django.contrib.sessions.SessionStore").sign_object(
            data, serializer=JSONSerializer
        )
    )


@pytest.mark.parametrize(
    ("engine", "damage", "reason"),
    [
        ("db", damaged_row(session_data="x"), "«signature does not match: signed with another key"),
        ("db", changed([1]), "«payload is not a dict»"),
        ("db", changed({"_session_expiry": "soon"}), "«expiry is neither a number nor a date»"),
        ("file", damaged_file(b"\xff"), "«file is not text»"),
        (OWN_DB, damaged_own_row(session_data="{"), "«damaged»: Expecting property name"),
        (OWN_DB, damaged_own_row(version=-1), "«damaged: a column has a value"),
    ],
)
def test_the_reason_why_a_session_is_unreadable_can_be_translated(
    use_engine, store, marked, settings, tmp_path, engine, damage, reason, db
):
    settings.SESSION_FILE_PATH = str(tmp_path)
    use_engine(engine)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op"))
    session = store(n=1)
    damage(session.session_key, tmp_path)
    path = f"{SESSIONS}{handles.digest(session.session_key)}/change/"
    assert f"«unreadable»: {reason}" in html_of(client.get(path))


def test_the_admin_knows_every_reason_of_the_readers():
    texts = set()
    for path in [*PACKAGE.glob("inspection/**/*.py"), *PACKAGE.glob("backends/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value.partition(" (")[0])
    starts = (
        r"(payload|value|file|row|the data of the row|key|expiry|signature|damaged)\b"
        r"(:| is | can't | does )"
    )
    found = {text.rstrip(": ") for text in texts if re.match(starts, text)}
    assert found == set(REASONS)


@pytest.mark.parametrize("engine", ["signed_cookies", "cache"])
def test_the_reason_why_there_is_no_list_can_be_translated(use_engine, db, marked, engine):
    use_engine(engine)
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("op"))
    assert not untranslated(ours(client.get(SESSIONS)))


@pytest.mark.parametrize("data", [{}, {"cart": ["tea"]}, {f"n{n}": n for n in range(200)}])
def test_every_word_of_the_panel_can_be_translated(use_engine, rf, marked, data):
    request = rf.get("/")
    request.session = use_engine("db")()
    request.session.update(data)
    panel = "{% load dirigible_session %}{% session_info %}"
    with facade.use_request(request):
        html = Template(panel).render(Context())
    assert not untranslated(re.sub(r">n\d+<", "><", html))
    assert not untranslated(Template(panel).render(Context()))


def catalogue(language: str) -> dict[Any, str]:
    path = PACKAGE / "locale" / language / "LC_MESSAGES" / "django.mo"
    with path.open("rb") as file:
        return dict(GNUTranslations(file)._catalog)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_speaks_the_language(own_db, store, pages, settings, language):
    store(n=1)
    known = catalogue(language)
    settings.LANGUAGE_CODE = language
    translation.activate(language)
    html = html_of(pages.get())
    for message in ("Last accessed", "End selected sessions", "More than 30 days", "Handle"):
        assert known[message] in html
        assert f">{message}<" not in html


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_is_whole_and_compiled(language, tmp_path):
    source = PACKAGE / "locale" / language / "LC_MESSAGES" / "django.po"
    text = source.read_text()
    assert "#, fuzzy" not in text
    assert not re.search(r'msgstr(\[\d\])? ""\n(\n|$|msgstr)', text)
    program("msgfmt")
    compiled = tmp_path / "django.mo"
    subprocess.run(["msgfmt", "--check-format", "-o", compiled, source], check=True)
    with compiled.open("rb") as file:
        assert dict(GNUTranslations(file)._catalog) == catalogue(language)


def test_the_catalogues_know_every_word(tmp_path, monkeypatch):
    program("xgettext")
    copy = tmp_path / "dirigible_session"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    call_command("makemessages", locale=["de"], no_location=True, verbosity=0)
    source = (copy / "locale" / "de" / "LC_MESSAGES" / "django.po").read_text()
    assert not re.search(r'msgstr(\[\d\])? ""\n(\n|$|msgstr)', source)
    assert "fuzzy" not in source
    assert "#~" not in source


def program(name: str) -> None:
    if shutil.which(name):
        return
    reason = f"needs {name}, of gettext"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
