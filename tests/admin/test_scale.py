"""Many sessions: how many of them a page reads, and how it goes on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session as DjangoSession

from dirigible_session import handles
from dirigible_session.inspection import Inspector, inspector
from dirigible_session.models import Session

from .reading import handles_on, html_of, link
from .urls import SESSIONS

PER_PAGE = 100


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digests of the sessions that were read, in a list that grows."""
    digests: list[str] = []
    judge = inspector.Reporter.judge

    def counting(self: Any, stored: Any) -> Any:
        digests.append(stored.digest)
        return judge(self, stored)

    monkeypatch.setattr(inspector.Reporter, "judge", counting)
    return digests


def fill(engine: str, count: int) -> str:
    """Store so many sessions; return the digest of one of them."""
    store_class = import_module(settings.SESSION_ENGINE).SessionStore
    sample = store_class()
    sample.update({"n": 1})
    sample.create()
    if engine in ("db", "cached_db"):
        row = DjangoSession.objects.get(pk=sample.session_key)
        DjangoSession.objects.bulk_create(
            DjangoSession(f"{n:032}", row.session_data, row.expire_date) for n in range(count)
        )
    elif engine == "dirigible_session.backends.db":
        row = Session.objects.get(pk=handles.digest(sample.session_key))
        names = [field.attname for field in Session._meta.fields if not field.primary_key]
        values = {name: getattr(row, name) for name in names}
        digests = (handles.digest(str(n)) for n in range(count))
        Session.objects.bulk_create(Session(digest=digest, **values) for digest in digests)
    else:
        for _ in range(count):
            session = store_class()
            session["n"] = 1
            session.create()
    return handles.digest(sample.session_key)


COUNTS = [1_000, pytest.param(100_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_a_page_reads_no_more_than_it_shows(any_engine, pages, read, count, monkeypatch):
    # It is counted, not timed: a machine that is busy with other things fails nobody.
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.seconds", 60)
    digest = fill(any_engine, count)
    page = pages.get()
    assert len(handles_on(page)) == PER_PAGE
    assert len(read) <= 3 * PER_PAGE
    read.clear()
    page = pages.client.get(SESSIONS + link(page, "Next page"))
    assert len(handles_on(page)) == PER_PAGE
    assert len(read) <= 3 * PER_PAGE
    read.clear()
    assert digest[:12] in html_of(pages.get(f"{digest}/change/"))
    assert len(read) == 1


def test_a_filter_that_has_to_walk_goes_on(any_engine, pages, read, store, user, monkeypatch):
    fill(any_engine, 30)
    hers = store({"_auth_user_id": str(user.pk)})
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.seconds", 0)
    found: list[str] = []
    page = pages.get(idle_over="1h")
    told = []
    for _ in range(40):
        found += handles_on(page)
        if "Go on" not in html_of(page):
            break
        told.append(link(page, "Go on"))
        assert "so far" in html_of(page)
        page = pages.client.get(SESSIONS + told[-1])
    assert found == []
    assert len(told) == len(set(told)) >= 30
    assert len(set(read)) == 33
    assert hers.exists(hers.session_key)


def test_nothing_is_counted(any_engine, pages, store, monkeypatch):
    store(n=1)
    monkeypatch.setattr(Inspector, "count", None)
    for path in ("", "summary/", "?state=expired"):
        assert pages.client.get(SESSIONS + path).status_code == 200


def test_a_session_that_is_far_is_looked_for_step_by_step(stock_db, pages, store, monkeypatch):
    session = store(n=1)
    fill("db", 30)
    monkeypatch.setattr("dirigible_session.admin.sessions.SessionAdmin.seconds", 0)
    digest = handles.digest(session.session_key)
    page = pages.get(f"{digest}/change/")
    for _ in range(40):
        if "Go on" not in html_of(page):
            break
        assert "the one that you look for" in html_of(page)
        page = pages.client.get(f"{SESSIONS}{digest}/change/{link(page, 'Go on')}")
    assert "<td>1209600 seconds" in html_of(page)
