"""What visitors may put into a session, on each page that shows it."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest

from dirigible_session import handles
from tests.inspection.hostile import ATTRIBUTES

from .reading import html_of

#: Of the templates, in bytes. What a session holds comes on top, and is bounded.
LARGEST_PAGE = 1_000_000


class Content(HTMLParser):
    """The elements of the part of a page that is ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html.partition('id="content-main"')[2].partition("</main>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def paths(session: Any) -> list[str]:
    digest = handles.digest(session.session_key)
    return ["", "summary/", f"{digest}/change/", f"{digest}/delete/"]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_hostile_content_is_text(own_db, store, pages, name):
    session = store(ATTRIBUTES[name])
    for path in paths(session):
        response = pages.get(path)
        html = html_of(response)
        assert response.status_code == 200
        assert len(response.content) < LARGEST_PAGE
        # Django writes sizes with a no-break space.
        assert html.replace("\n", "").replace("\xa0", "").isprintable()
        tags = Content(html).tags
        assert not {tag for tag, _ in tags} & {"script", "style"}
        # That of the search.
        assert [tag for tag, _ in tags].count("img") == (path == "")
        for _, attributes in tags:
            assert "style" not in attributes
            assert not [key for key in attributes if key.startswith("on")]
            assert "javascript:" not in (attributes.get("href") or "")


@pytest.mark.parametrize("username", ["<b>x</b>", "a" * 150, "\u202eevil"])
def test_hostile_usernames_are_text(own_db, store, pages, username):
    from django.contrib.auth import get_user_model

    user = get_user_model().objects.create(username=username)
    session = store({"_auth_user_id": str(user.pk)})
    for path in [*paths(session), f"end/?user={user.pk}", f"?user={user.pk}"]:
        html = html_of(pages.client.get(f"/admin/dirigible_session/session/{path}"))
        assert "<b>x" not in html
        assert "\u202e" not in html


def test_a_user_id_may_be_anything(own_db, store, pages):
    session = store({"_auth_user_id": '"><script>alert(1)</script>'})
    for path in paths(session):
        assert "<script>alert" not in html_of(pages.get(path))


def test_a_key_of_a_session_is_on_no_page_and_in_no_log(any_engine, store, pages, caplog):
    session = store(n=1)
    keys = {session.session_key, pages.client.cookies["sessionid"].value}
    shown = "".join(html_of(pages.get(path)) for path in paths(session))
    shown += html_of(pages.search(session.session_key)) + caplog.text
    assert not [key for key in keys if key in shown]


def test_what_is_searched_for_is_hidden_in_error_reports(own_db, pages, monkeypatch):
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin._searched", None)
    pages.client.raise_request_exception = False
    response = pages.client.post("/admin/dirigible_session/session/", {"q": "k" * 32})
    assert response.status_code == 500
    assert response.wsgi_request.sensitive_post_parameters == ("q",)
